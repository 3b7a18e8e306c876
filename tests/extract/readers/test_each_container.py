"""The accepted forms of each container; errors are a line that names file and position."""

import io
import json
import shutil
import tarfile

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from encode_once.cache.errors import DataError, MissingDataError, UsageError
from encode_once.extract import ReadOptions
from encode_once.extract.images import hashing
from encode_once.extract.readers import Columns, read, understand
from tests.extract.readers.writers import Sample, captioned_images, coco, hugging_face, web_dataset

SAMPLES = [Sample(f"{n}.jpg", b"%d" % n, [f"caption {n}"], ["dog"]) for n in range(6)]


def error(data, kind=DataError, **options):
    """The message of the error that reading raises, without its folder."""
    with pytest.raises(kind) as caught:
        read(data, ReadOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{data}/", "").replace(f"{data.parent}/", "")


def plain(warnings):
    return [line.split(" (first")[0] for line in warnings]


# ------------------------------------------------------------------------------------------ which container


def test_data_without_a_known_layout_says_what_it_most_looks_like(tmp_path):
    (tmp_path / "x").mkdir()
    assert "the folder is empty; give a table" in error(tmp_path / "x", MissingDataError)
    (tmp_path / "x" / "photos.zip").touch()
    assert "but photos.zip, a packed archive: unpack it" in error(tmp_path / "x", MissingDataError)
    assert error(tmp_path / "x" / "photos.zip", MissingDataError).endswith("unpack it and give the folder")
    (tmp_path / "x" / "inner" / "photos").mkdir(parents=True)
    (tmp_path / "x" / "inner" / "photos.csv").touch()
    assert "no table, but inner/photos.csv; give" in error(tmp_path / "x", MissingDataError)
    (tmp_path / "x" / "pictures").mkdir()
    for name in ("0.jpg", "1.png"):
        (tmp_path / "x" / "inner" / name).touch()
    assert "the folder inner/ has 2 images, but there is no table" in error(tmp_path / "x", MissingDataError)
    (tmp_path / "labels.pkl").touch()
    assert "a pickle, which is not read as it may run code" in error(
        tmp_path / "labels.pkl", MissingDataError
    )
    assert "no such file or folder" in error(tmp_path / "nowhere", MissingDataError)


def test_a_folder_that_can_be_read_in_two_ways_is_an_error_that_names_both(tmp_path):
    web_dataset(tmp_path / "x", {"train": SAMPLES})
    (tmp_path / "x" / "train.jsonl").write_text('{"id": 1, "text": "a"}\n')
    message = error(tmp_path / "x")
    assert "2 ways" in message
    assert ".tar" in message
    assert ".jsonl" in message
    assert read(tmp_path / "x" / "train.jsonl")[0]["train"].ids == ["1"]


@pytest.mark.parametrize(
    ("paths", "ids", "shown"),
    [
        (["a/0.jpg", "b/1.jpg"], ["0.jpg", "1.jpg"], "ids: the names of the images"),
        (
            ["a/0.jpg", "b/0.jpg"],
            ["0", "1"],
            "the rows' numbers, as of the images' names, '0.jpg' is in 2 rows",
        ),
        (["0.jpg", None], ["0", "1"], "the rows' numbers, as 1 images have no name"),
    ],
)
def test_ids_of_embedded_images_are_their_names_if_these_differ(tmp_path, paths, ids, shown):
    images = [{"bytes": b"x", "path": path} for path in paths]
    parquet.write_table(pa.table({"image": images, "text": ["a", "b"]}), tmp_path / "x.parquet")
    reading = understand(tmp_path / "x.parquet")
    assert reading.tables["x"].ids == ids
    assert shown in reading.text()


def test_annotations_are_read_rather_than_a_table_of_anything(tmp_path):
    """As in TACO: annotations.json, and a list of URLs."""
    root = coco(tmp_path / "x", {"train": SAMPLES})
    expected = read(root)[0]["train"]
    (root / "all_image_urls.csv").write_text("http://a.example/1.jpg,http://b.example/1.jpg\n")
    tables, warnings = read(root)
    assert tables["train"] == expected
    (line,) = (line for line in warnings if "and not by its tables" in line)
    assert f"--data {root / 'all_image_urls.csv'} reads that one" in line
    assert any(line.startswith("not used: all_image_urls.csv") for line in warnings)
    (root / "train.jsonl").write_text('{"id": 1, "text": "a"}\n')
    assert "2 ways" in error(root)


def test_train_csv_has_precedence_over_other_containers(tmp_path):
    root = web_dataset(tmp_path / "x", {"images": SAMPLES})
    for name in ("train.jsonl", "instances_train.json", "0.jpg", "state.json"):
        (root / name).touch()
    (root / "train.csv").write_text("ImageID,Labels,Caption\n0,dog,a dog\n")
    tables, warnings = read(root)
    assert tables["train"].captions == ["a dog"]
    (line,) = warnings
    assert "images-000000.tar, images-000001.tar, instances_train.json, state.json, train.jsonl" in line


@pytest.mark.parametrize("name", ["coco", "photos"])
def test_columns_can_be_named_for_tables_only(tmp_path, name):
    writer = {"coco": coco}.get(name, lambda root, splits: captioned_images(root, SAMPLES))
    root = writer(tmp_path / name, {"train": SAMPLES})
    assert "no columns to name" in error(root, UsageError, columns=Columns(labels=("tags",)))


# ---------------------------------------------------------------------------------------------------- COCO


def write_coco(root, **content):
    (root / "annotations").mkdir(parents=True)
    path = root / "annotations" / "instances_train.json"
    whole = {"images": [{"id": 1, "file_name": "0.jpg"}], "annotations": [], "categories": []}
    path.write_text(json.dumps(whole | content))
    (root / "images").mkdir()
    (root / "images" / "0.jpg").touch()
    return root


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"annotations": [{"image_id": 2, "category_id": 1}]}, "has the image 2, which is not"),
        ({"annotations": [{"image_id": 1, "category_id": 7}]}, "has the category 7, which is not"),
        ({"images": [{"id": 1, "file_name": "0.jpg"}, {"id": 1, "file_name": "1.jpg"}]}, "two images have"),
        ({"images": [{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "0.jpg"}]}, "the id '0.jpg' is"),
        ({"images": [{"file_name": "0.jpg"}]}, "images[0] has the id None and the file name '0.jpg'"),
        ({"images": [{"id": 1}]}, "images[0] has {'id': 1}, which is not in COCO's format"),
        ({"images": []}, "list of images is empty"),
        ({"images": None}, "no list of images"),
        ({"images": [{"id": [1], "file_name": "0.jpg"}]}, "images[0] has the id [1]"),
        ({"annotations": None}, "annotations is not a list"),
        ({"annotations": [{"image_id": [1], "caption": "a"}]}, "annotations[0] has the image [1]"),
        ({"images": [{"id": 1, "file_name": 5}]}, "images[0] has the id 1 and the file name 5"),
        ({"annotations": [{"image_id": 1, "caption": 5}]}, "annotations[0] has the caption 5"),
        ({"annotations": [{"image_id": 1, "category_id": [1]}]}, "annotations[0] has the category [1]"),
        ({"annotations": [None]}, "annotations[0] has None"),
        ({"annotations": [{"image_id": 1, "caption": "\ud800"}]}, "half a surrogate pair"),
        ({"categories": "abc"}, "categories is not a list"),
        ({"categories": [None]}, "categories[0] has None"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories share"),
    ],
)  # fmt: skip
def test_faulty_coco_is_an_error(tmp_path, content, what):
    message = error(write_coco(tmp_path / "c", **content))
    assert message.startswith("annotations/instances_train.json")
    assert what in message


def test_truncated_coco_is_an_error(tmp_path):
    path = write_coco(tmp_path / "c") / "annotations" / "instances_train.json"
    path.write_text(path.read_text()[:30])
    assert "instances_train.json: not COCO's JSON (JSONDecodeError" in error(tmp_path / "c")


def test_coco_images_without_annotations_or_files_are_kept_and_counted(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)]
    root = write_coco(tmp_path / "c", images=images, categories=[{"id": 4}])
    tables, warnings = read(root)
    assert tables["train"].labels == [()] * 3
    assert [line.split(":")[0] for line in warnings] == ["rows without a label", "rows without an image file"]
    assert "instances_train.json, image 1, id '1.jpg'" in warnings[1]


@pytest.mark.parametrize("folder", ["train", "images/train", "images", "data", "."])
def test_folders_of_cocos_images(tmp_path, folder):
    root = coco(tmp_path / "c", {"train": SAMPLES})
    (root / "train").rename(tmp_path / "moved")
    (root / folder).parent.mkdir(exist_ok=True)
    shutil.copytree(tmp_path / "moved", root / folder, dirs_exist_ok=True)
    tables, warnings = read(root)
    assert tables["train"].images == [str((root / folder / f"{n}.jpg").resolve()) for n in range(6)]
    assert warnings == []
    elsewhere, _ = read(root, ReadOptions(images=tmp_path / "moved"))
    assert elsewhere["train"].images[0] == str((tmp_path / "moved" / "0.jpg").resolve())


def test_one_coco_file_is_read_with_the_captions_next_to_it(tmp_path):
    root = coco(tmp_path / "c", {"train": SAMPLES, "val": SAMPLES[:2]})
    tables, _ = read(root / "annotations" / "instances_val.json")
    assert list(tables) == ["val"]
    assert tables["val"].captions == ["caption 0", "caption 1"]
    assert tables["val"].images[1] == str((root / "val" / "1.jpg").resolve())
    tables, _ = read(root / "annotations" / "captions_val.json")
    assert tables["val"].labels is None


# -------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.jsonl", '{"id": 1}\n{"id": 2\n', "a.jsonl:2: not JSON (Expecting ',' delimiter, column 9)"),
        ("a.jsonl", '{"id": 1}\n[2]\n', "a.jsonl:2: not an object"),
        ("a.jsonl", '{"id": 1, "text": "\\ud800"}\n', "a.jsonl:1: not JSON (it contains half a"),
        pytest.param("a.jsonl", "[" * 100_000, "a.jsonl:1: not JSON (it is nested too deeply)", id="nested"),
        ("a.jsonl", '{"id": 1, "image": "a.jpg"}\n\n{"id": 1, "image": "b.jpg"}\n', "a.jsonl:3: the id '1'"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b", "caption": "c"}\n', "'text' and 'caption' have equivalent"),
        ("a.tsv", "id\ttext\n1\ta\tb\n", "a.tsv:2: fields: 3, in the header: 2"),
        ("a.tsv", "id\tid\n1\ta\n", "a.tsv:1: two columns share the name 'id'"),
        ("a.csv", "path,file_name,text\na,b,c\n", "choose with --image-column"),
        ("a.csv", "key,id,text\na,b,c\n", "choose with --id-column"),
        ("a.csv", "id,text,tags,label\na,b,c,d\n", "choose with --label-column"),
        ("a.csv", "", "a.csv:1: the table is empty"),
        ("a.csv", "id,text\n", "a.csv:1: the table has a header and no rows"),
        ("a.csv", "id,x\n1,2\n", "neither captions nor images"),
        ("a.csv", "path,tags\nno.jpg,b\n", "a.csv:2: no row has an image file: 'no.jpg' is not there"),
        ("a.parquet", "PAR1 but no more", "not a parquet file, or damaged"),
    ],
)  # fmt: skip
def test_faulty_tables_are_an_error(tmp_path, name, text, what):
    (tmp_path / name).write_text(text)
    assert what in error(tmp_path / name)


def test_a_missing_column_is_an_error_that_suggests_the_closest(tmp_path):
    (tmp_path / "a.csv").write_text("id,title\n1,b\n")
    columns = Columns(captions=("titel",))
    assert "did you mean 'title'" in error(tmp_path / "a.csv", UsageError, columns=columns)


def test_named_columns_have_precedence_over_guessed_columns(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").touch()
    (tmp_path / "train.csv").write_text("id,path,where,text,alt,title,tags,kind\n7,no,x.jpg,t,a,b,c,d;e\n")
    columns = Columns(image="where", captions=("title", "alt"), labels=("kind",))
    tables, warnings = read(tmp_path, ReadOptions(columns=columns, images=tmp_path / "photos"))
    table = tables["train"]
    assert (table.ids, table.id_column) == (["7"], "id")
    assert table.images == [str((tmp_path / "photos" / "x.jpg").resolve())]
    assert (table.captions, table.more_captions) == (["b"], [["a"]])
    assert table.labels == [("d", "e")]
    assert table.columns == {"path": ["no"], "text": ["t"], "tags": ["c"]}
    assert warnings == []


def test_cells_may_be_numbers_lists_texts_or_null(tmp_path):
    rows = {
        "id": [10, 11, 12, 13],
        "text": ["a", None, "", "d"],
        "label": pa.array([3, None, 0, 1], pa.int64()),
        "weight": [0.5, 1.0, None, float("nan")],
    }
    parquet.write_table(pa.table(rows), tmp_path / "x.parquet")
    tables, warnings = read(tmp_path / "x.parquet")
    table = tables["x"]
    assert table.ids == ["10", "11", "12", "13"]
    assert table.captions == ["a", "", "", "d"]
    assert table.labels == [("3",), (), ("0",), ("1",)]
    assert table.columns == {"weight": ["0.5", "1", "", ""]}
    assert plain(warnings) == ["rows without a label: 1", "rows with an empty caption: 2"]


@pytest.mark.parametrize("column", ["id", "caption", "labels"])
def test_a_column_of_bytes_is_not_read_as_text(tmp_path, column):
    rows = {name: [b"a", b"b"] if name == column else ["a", "b"] for name in ("id", "caption", "labels")}
    parquet.write_table(pa.table(rows), tmp_path / "x.parquet")
    assert error(tmp_path / "x.parquet").startswith(f"x.parquet: the column '{column}' holds bytes or images")


def test_pairs_of_surrogates_are_characters(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": 1, "text": "a 🐕"}) + "\n")
    assert read(tmp_path / "x.jsonl")[0]["x"].captions == ["a 🐕"]


@pytest.mark.parametrize("metadata", [b"x", b"[1]", b'{"info": null}'])
def test_damaged_metadata_of_hugging_face_is_an_error(tmp_path, metadata):
    table = pa.table({"id": ["a"], "caption": ["b"]})
    parquet.write_table(table.replace_schema_metadata({b"huggingface": metadata}), tmp_path / "x.parquet")
    assert "its metadata of Hugging Face datasets is damaged" in error(tmp_path / "x.parquet")


def test_the_label_separator_of_train_applies_to_all_splits(tmp_path):
    for split, labels in (("test", "a b"), ("train", "a b|c"), ("val", "c")):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"id": 1, "text": "a", "tags": labels}) + "\n")
    tables, _ = read(tmp_path)
    assert {split: table.labels for split, table in tables.items()} == {
        "train": [("a b", "c")],
        "test": [("a b",)],
        "val": [("c",)],
    }
    assert next(iter(tables)) == "train"


def test_files_of_a_split_must_have_the_same_columns(tmp_path):
    (tmp_path / "train-0-of-2.jsonl").write_text('{"id": 1, "text": "a"}\n')
    (tmp_path / "train-1-of-2.jsonl").write_text('{"id": 2, "caption": "a"}\n')
    assert error(tmp_path).startswith("train-1-of-2.jsonl: its columns differ from those of train-0-of-2")


def test_a_warning_names_files_that_are_no_split(tmp_path):
    (tmp_path / "val.jsonl").write_text('{"id": 1, "text": "a"}\n')
    (tmp_path / "sample_submission.csv").write_text("x\n")
    tables, warnings = read(tmp_path)
    assert list(tables) == ["val"]
    assert warnings == [
        "not used: sample_submission.csv: not the table of a split; "
        f"--data {tmp_path / 'sample_submission.csv'} reads it alone"
    ]


def test_label_names_with_every_separator_are_an_error(tmp_path):
    labels = ["a b", "c;d", "e|f", "g, h"]
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": 1, "text": "a", "labels": labels}) + "\n")
    assert "--label-separator" in error(tmp_path / "x.jsonl")
    tables, _ = read(tmp_path / "x.jsonl", ReadOptions(label_separator="/"))
    assert tables["x"].labels == [tuple(labels)]
    assert "labels contain ';', such as 'c;d'" in error(tmp_path / "x.jsonl", label_separator=";")


# ---------------------------------------------------------------------------------------- captioned images


def test_texts_must_match_exactly_one_image(tmp_path):
    root = captioned_images(tmp_path / "photos", SAMPLES)
    (root / "README.txt").write_text("x")
    _, warnings = read(root)
    assert warnings == [
        f"texts without an image of the same name: 1 (first: {root / 'README.txt'}); they are not read"
    ]
    (root / "0.png").touch()
    assert error(root).startswith("0.txt: matches 0.jpg and 0.png")


def test_a_text_that_is_not_utf8_is_an_error_with_its_line(tmp_path):
    root = captioned_images(tmp_path / "photos", SAMPLES)
    (root / "3.txt").write_bytes(b"fine\n\xe9\n")
    assert error(root).startswith("3.txt:2: byte 0xe9 is not UTF-8")


def test_blank_lines_are_no_captions(tmp_path):
    root = captioned_images(tmp_path / "photos", SAMPLES)
    (root / "0.txt").write_bytes(b"\n one\r\n  \r\ntwo")
    table = read(root)[0]["train"]
    assert (table.captions[0], table.more_captions[0][0]) == (" one", "two")


# -------------------------------------------------------------------------------------------------- shards


def archive(path, *files, **odd):
    """An archive of files (name, content)."""
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind in odd.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.jpg"
            tar.addfile(member)
    return path


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([("0.jpg", b"x"), ("0.png", b"y")], "x.tar: the sample of '0.jpg' and '0.png' has two images"),
        ([("0.jpg", b"x"), ("0.txt", b"y"), ("0.txt", b"z")], "x.tar: two members have the name '0.txt'"),
        ([("0.jpg", b"x"), ("0.txt", b"\xff")], "x.tar, member '0.txt': cannot be read"),
        ([("0.jpg", b"x"), ("0.json", b"{")], "x.tar, member '0.json': cannot be read"),
        ([("0.jpg", b"x"), ("0.json", b"[1]")], "x.tar, member '0.json': cannot be read"),
        ([], "x.tar: the archive contains no samples"),
    ],
)
def test_faulty_members_are_an_error(tmp_path, files, what):
    assert what in error(archive(tmp_path / "x.tar", *files))


def test_members_that_are_not_read_are_counted(tmp_path):
    files = [("a/0.jpg", b"x"), ("a/0.seg.png", b"y"), ("a/._0.jpg", b"z"), ("b.cls", b"3 4\n")]
    path = archive(tmp_path / "x.tar", *files, link=tarfile.SYMTYPE, folder=tarfile.DIRTYPE)
    tables, warnings = read(path)
    table = tables["x"]
    assert table.ids == ["a/0.jpg", "b"]
    assert table.labels == [(), ("3", "4")]
    assert warnings == [
        f"{path}: members that are not regular files, such as links: 1; they are not read",
        f"{path}: members that are not read: *._0.jpg, *.seg.png",
        f"rows without a label: 1 (first: {path}, sample 'a/0.jpg', id 'a/0.jpg'); "
        "they are kept as negatives of every class",
        f"rows without an image: 1 (first: {path}, sample 'b', id 'b'); they are kept without one",
    ]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar"])
def test_compressed_archives_are_refused_with_the_remedy(tmp_path, name):
    with tarfile.open(tmp_path / name, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("0.jpg"))
    assert error(tmp_path).startswith(f"{name}: is compressed")
    assert "decompress it" in error(tmp_path)


def test_damaged_and_truncated_archives_are_named(tmp_path):
    whole = archive(tmp_path / "whole.tar", *((f"{n}.jpg", b"x" * 700) for n in range(4))).read_bytes()
    path = tmp_path / "x" / "x.tar"
    path.parent.mkdir()
    for length in range(1, 4 * (512 + 1024), 101):
        path.write_bytes(whole[:length])
        assert error(path.parent).startswith("x.tar: damaged")
    path.write_bytes(whole[: 3 * (512 + 1024)])  # between two members
    tables, warnings = read(path)
    assert len(tables["x"]) == 3
    assert warnings == [f"{path}: ends without an end mark: it may have been truncated between members"]
    texts = archive(tmp_path / "texts.tar", ("0.jpg", b"x"), ("0.txt", b"y" * 3000)).read_bytes()
    path.write_bytes(texts[:2500])
    assert error(path.parent).startswith("x.tar, member '0.txt': cannot be read (unexpected end of data)")
    damaged = bytearray(whole)
    damaged[512 + 1024 + 3] ^= 1  # in the second member's name
    path.write_bytes(damaged)
    assert error(path.parent) == (
        "x.tar: damaged at byte 1536: expected the header of a member; get the archive again"
    )


def test_the_same_id_in_two_shards_names_both(tmp_path):
    for name in ("s-0.tar", "s-1.tar"):
        archive(tmp_path / name, ("0.jpg", b"x"))
    assert "s-1.tar, sample '0.jpg': the id '0.jpg' is already used by s-0.tar, sample '0.jpg'" in error(
        tmp_path
    )


# -------------------------------------------------------------------------------------------- Hugging Face


def test_a_dataset_without_rows_is_an_error(tmp_path):
    for rows in ({"text": []}, {"text": ["a"]}):
        dataset = datasets.Dataset.from_dict(rows).select([])
        dataset.save_to_disk(str(tmp_path / "h"))
        assert "no rows" in error(tmp_path / "h")


def test_class_numbers_become_names_and_minus_one_no_label(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "hot dog"])}
    )
    dataset = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, -1, 0]}, features=features)
    dataset.save_to_disk(str(tmp_path / "saved"))
    dataset.to_parquet(str(tmp_path / "x.parquet"))
    for data, split in ((tmp_path / "saved", "train"), (tmp_path / "x.parquet", "x")):
        table = read(data)[0][split]
        assert table.labels == [("hot dog",), (), ("cat",)]
        assert table.ids == ["0", "1", "2"]


def test_images_that_a_dataset_stores_by_path_are_read_from_their_files(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"content")
    dataset = datasets.Dataset.from_dict({"image": [str(tmp_path / "0.jpg")], "text": ["a"]})
    dataset.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "h"))
    table = read(tmp_path / "h")[0]["train"]
    assert table.ids == ["0.jpg"]
    assert hashing.read_file(table.images[0]) == b"content"


def test_an_incomplete_dataset_is_an_error(tmp_path):
    root = hugging_face(tmp_path / "h", {"train": SAMPLES})
    shard = root / "train" / "data-00001-of-00002.arrow"
    content = shard.read_bytes()
    for length in (0, 5, 100, len(content) // 2, len(content) - 8, len(content) - 1):
        shard.write_bytes(content[:length])
        assert "data-00001-of-00002.arrow" in error(root)
    shard.unlink()
    assert "data-00001-of-00002.arrow" in error(root)
    (root / "train" / "state.json").write_text("{}")
    assert "train/state.json: not in the format of save_to_disk" in error(root)


@pytest.mark.parametrize("name", ["../0.jpg", "/etc/0.jpg", "a/../../0.txt"])
def test_members_that_lead_out_of_their_archive_are_refused(tmp_path, name):
    path = archive(tmp_path / "x.tar", ("1.jpg", b"x"), (name, b"y"))
    assert f"member '{name}': cannot be read (its name leads out of the archive)" in error(path)
    assert read(path, ReadOptions(skip_bad_rows=True))[0]["x"].ids == ["1.jpg"]
