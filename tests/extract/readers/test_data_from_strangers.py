"""Data from strangers: nothing hangs, nothing is read without limit, and every refusal is one line."""

import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from encode_once.cache import DataError, Store
from encode_once.cache.file_index import FileIndex
from encode_once.cache.input_files import IMAGE_MB, TEXT_MB
from encode_once.extract import ReadOptions, encode
from encode_once.extract.encoders.base import file_identity
from encode_once.extract.errors import InputError, WeightsError
from encode_once.extract.images import hashing
from encode_once.extract.readers import Columns, large_tables, read
from tests.conftest import picture
from tests.extract.readers.test_each_container import archive, error
from tests.extract.readers.writers import Sample, coco, csv_folder, hugging_face

LITE0 = "efficientnet-lite0/pooled"
PIPE = "a named pipe, not a regular file"
DEEP = "[" * 100_000


def lines(path, *records):
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def table(path, metadata=None, **columns):
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def failures(data, tmp_path):
    """Image → the error of reading it."""
    (rows,) = read(data)[0].values()
    errors = hashing.add_keys(rows, FileIndex(tmp_path / "files.sqlite"), 2)
    return {os.path.basename(path): (error.reason, str(error)) for path, error in errors.items()}


# ---------------------------------------------------------------------------------- what is no regular file


@pytest.mark.parametrize(
    "name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.tar", "instances_x.json", "train.csv"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_pipe_as_data_is_refused_without_waiting(tmp_path, name, inside):
    os.mkfifo(tmp_path / name)
    message = error(tmp_path if inside else tmp_path / name)
    assert name in message
    assert PIPE in message


@pytest.mark.parametrize("name", ["dataset_dict.json", "state.json"])
def test_a_pipe_in_a_saved_dataset_is_refused_without_waiting(tmp_path, name):
    root = hugging_face(
        tmp_path / "x", {"train": [Sample(f"{n}.jpg", b"x", ["a"], ["dog"]) for n in range(2)]}
    )
    for path in (root / name, root / "train" / name):
        if path.exists():
            path.unlink()
            os.mkfifo(path)
    with pytest.raises(DataError):
        read(root)


def test_images_that_are_pipes_devices_or_broken_links_are_named_as_what_they_are(tmp_path):
    root = csv_folder(tmp_path / "x", {"train": [Sample(f"{n}.jpg", b"x") for n in range(6)]})
    for n in range(1, 6):  # 0.jpg stays
        (root / "data" / f"{n}.jpg").unlink()
    os.mkfifo(root / "data" / "1.jpg")
    (root / "data" / "2.jpg").symlink_to("/dev/zero")
    with pytest.raises(
        DataError, match=r"train\.csv:4: the image '2\.jpg' leads out of .* --images /dev allows it"
    ):
        read(root)
    (root / "data" / "2.jpg").unlink()
    (root / "data" / "2.jpg").symlink_to("1.jpg")
    (root / "data" / "3.jpg").symlink_to("nowhere")
    (root / "data" / "4.jpg").mkdir()
    (root / "data" / "5.jpg").symlink_to("5.jpg")
    assert failures(root, tmp_path) == {
        "1.jpg": ("unreadable", PIPE),
        "2.jpg": ("unreadable", PIPE),
        "3.jpg": ("missing", "no such file"),
        "4.jpg": ("unreadable", "a folder, not a regular file"),
        "5.jpg": ("unreadable", "Too many levels of symbolic links"),
    }


def test_a_folder_of_images_reports_what_it_does_not_read(tmp_path):
    (tmp_path / "x" / "more").mkdir(parents=True)
    picture(0).save(tmp_path / "x" / "0.png")
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "x" / "0.png").read_bytes())
    (tmp_path / "x" / "1.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "x" / "2.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "x" / "3.png")
    with pytest.raises(DataError, match=r"1\.png: a link that leads out of .* allows it"):
        read(tmp_path / "x")
    (tmp_path / "x" / "1.png").unlink()
    (tmp_path / "x" / "1.png").symlink_to("0.png")
    (tmp_path / "x" / "1.txt").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"1\.txt: a link that leads out of .* --images /etc allows it"):
        read(tmp_path / "x")
    (tmp_path / "x" / "1.txt").unlink()
    tables, warnings = read(tmp_path / "x")
    assert tables["train"].ids == ["0.png", "1.png", "2.png", "3.png"]
    assert any("folders: 1 (first: 'more'); they are not read" in line for line in warnings)
    assert set(failures(tmp_path / "x", tmp_path)) == {"2.png", "3.png"}
    os.mkfifo(tmp_path / "x" / "0.txt")
    assert error(tmp_path / "x") == f"0.txt: cannot be read ({PIPE})"


def test_weights_that_are_a_pipe_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "weights.txt")
    with pytest.raises(WeightsError, match=PIPE):
        file_identity(str(tmp_path / "weights.txt"))


# ------------------------------------------------------------------------------------------- limits of size


@pytest.fixture
def small_limits(monkeypatch):
    for name, _ in (IMAGE_MB, TEXT_MB):
        monkeypatch.setenv(name, "1")


def test_a_larger_image_fails_and_names_the_setting_that_raises_the_limit(
    tmp_path, small_limits, monkeypatch
):
    with (tmp_path / "0.jpg").open("wb") as file:
        file.truncate(1 << 21)
    sources = [str(tmp_path / "0.jpg")]
    archive(tmp_path / "x.tar", ("0.jpg", bytes(1 << 21)))
    sources += read(tmp_path / "x.tar")[0]["x"].images
    table(tmp_path / "x.parquet", image=[bytes(1 << 21)])
    sources += read(tmp_path / "x.parquet")[0]["x"].images
    for source in sources:
        with pytest.raises(InputError, match=r"2\.0 MB, more than the limit of 1; ENCODE_ONCE_MAX_IMAGE_MB"):
            hashing.read_file(source)
    monkeypatch.setenv(IMAGE_MB[0], "2")
    assert [len(hashing.read_file(source)) for source in sources] == [1 << 21] * 3


LONG = "x" * ((1 << 20) + 1)


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (lambda root: lines(root / "x.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": LONG}), "x.jsonl:2"),
        (lambda root: (root / "x.csv").write_text(f"id,text\n1,a\n2,{LONG}\n"), "x.csv:3"),
        (lambda root: table(root / "x.parquet", id=[1, 2], text=["a", LONG]), "x.parquet, row 1"),
        (lambda root: archive(root / "x.tar", ("0.jpg", b"x"), ("0.txt", LONG.encode())), "member '0.txt'"),
        (lambda root: (picture(0).save(root / "0.png"), (root / "0.txt").write_text(LONG)), "0.txt"),
        (lambda root: table(root / "x.parquet", id=[1, 2], text=["a", "b"], tags=["a", LONG]), "row 1"),
    ],
    ids=["jsonl", "csv", "parquet", "tar", "txt", "label"],
)  # fmt: skip
def test_a_longer_text_is_refused_and_the_message_names_the_setting(tmp_path, small_limits, write, place):
    (tmp_path / "x").mkdir()
    write(tmp_path / "x")
    message = error(tmp_path / "x")
    assert place in message
    assert TEXT_MB[0] in message


# --------------------------------------------------------------------------- values of other types or sizes


@pytest.mark.parametrize("column", ["id", "caption", "labels"])
@pytest.mark.parametrize(
    "cells",
    [
        [{"a": 1}, {"a": 2}],
        pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
        [[["a"]], [["b"]]],
        [[b"a"], [b"b"]],
    ],
    ids=["structs", "maps", "lists of lists", "lists of bytes"],
)
def test_structs_maps_and_nested_lists_are_no_texts(tmp_path, column, cells):
    columns = {name: cells if name == column else ["a", "b"] for name in ("id", "caption", "labels")}
    message = error(table(tmp_path / "x.parquet", **columns))
    assert message.startswith(f"x.parquet, row 0: the column '{column}' has ")


def test_objects_in_json_lines_are_no_texts(tmp_path):
    message = error(lines(tmp_path / "x.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": {"a": 1}}))
    expected = "x.jsonl:2: the column 'text' has {'a': 1}, where a text or a number is expected"
    assert message == f"{expected}; --skip-bad-rows leaves such rows out"


def class_labels(names):
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


@pytest.mark.parametrize("number", [2, -2, "a", 0.5, {"a": 1}, [[0]]])
def test_a_class_number_out_of_range_or_of_another_type_names_the_row(tmp_path, number):
    path = table(tmp_path / "x.parquet", class_labels(["a", "b"]), id=["0"], text=["x"], label=[number])
    assert error(path).startswith("x.parquet, row 0: the column 'label' has the class ")


@pytest.mark.parametrize("names", [None, 5, [1], {"a": 1}])
def test_class_names_of_another_type_are_refused(tmp_path, names):
    path = table(tmp_path / "x.parquet", class_labels(names), id=["0"], text=["x"], label=[0])
    assert error(path) == "x.parquet: the class names of the column 'label' are not a list of texts"


def test_damaged_metadata_of_other_types_is_refused(tmp_path):
    for text in (
        DEEP,
        '{"info": {"features": 5}}',
        '{"info": {"features": {"label": {"_type": "List"}}}}',
        "\xff",
    ):
        path = table(tmp_path / "x.parquet", {"huggingface": text.encode("latin-1")}, id=["0"], text=["x"])
        try:
            read(path)
        except DataError as refused:
            assert str(path) in str(refused)
            assert "\n" not in str(refused)


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = pa.table([["a"], ["b"], ["c"]], names=["id", "text", "text"])
    parquet.write_table(columns, tmp_path / "x.parquet")
    assert error(tmp_path / "x.parquet") == "x.parquet: two columns share the name 'text'; rename one of them"


def test_small_files_that_would_take_much_memory_are_refused(tmp_path):
    lines(tmp_path / "names.jsonl", *({f"name {row}": 1} for row in range(20_000)))
    assert "names.jsonl:3163: 3,163 names so far" in error(tmp_path / "names.jsonl")
    records = ({"id": row, "text": "a" if row else ["a"] * 10_000} for row in range(20_000))
    lines(tmp_path / "captions.jsonl", *records)
    assert error(tmp_path / "captions.jsonl").startswith(
        "captions.jsonl:1: 10,000 captions, where other rows"
    )
    table(tmp_path / "nulls.parquet", id=pa.nulls(20_000_000, pa.string()))
    assert "declares 20,000,000 rows" in error(tmp_path / "nulls.parquet")
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * (1 << 20)])
    columns = pa.table({"id": list(map(str, range(2000))), "text": texts})
    parquet.write_table(columns, tmp_path / "texts.parquet", store_schema=False)
    assert "the column 'text' repeats long texts, 2,000 MB in all" in error(tmp_path / "texts.parquet")


def test_long_texts_that_many_rows_share_are_refused_in_pieces_too(tmp_path, monkeypatch):
    monkeypatch.setattr(large_tables, "LARGE_ROWS", 1000)
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * (1 << 20)])
    columns = pa.table({"id": list(map(str, range(2000))), "text": texts})
    parquet.write_table(columns, tmp_path / "texts.parquet", store_schema=False)
    assert "the column 'text' repeats long texts" in error(tmp_path / "texts.parquet")


def test_a_column_name_with_a_null_byte_is_refused(tmp_path):
    columns = Columns(id="a\0")
    lines(tmp_path / "x.jsonl", {"a\0": 1, "text": "a dog"})
    assert "contains a null byte" in error(tmp_path / "x.jsonl", columns=columns)


def test_an_image_name_with_a_null_byte_fails_alone(tmp_path):
    picture(0).save(tmp_path / "0.png")
    names = ["0.png", "a\0.png", "a\0b/c.png", "x" * 300 + "/1.png"]
    path = lines(tmp_path / "x.jsonl", *({"id": n, "image": name} for n, name in enumerate(names)))
    errors = failures(path, tmp_path)
    assert errors["a\0.png"] == ("unreadable", "embedded null byte")
    assert len(errors) == 3


@pytest.mark.parametrize(
    "position", ["y@0+99999999999999999999", "y@0+9999999999999", "y@999999999999999+1", "y"]
)
def test_a_place_outside_an_archive_is_an_error_of_that_image(tmp_path, position):
    archive(tmp_path / "x.tar", ("0.jpg", b"x"))
    with pytest.raises(InputError) as caught:
        hashing.read_file(f"{tmp_path}/x.tar::{position}")
    assert caught.value.reason == "unreadable"
    picture(0).save(tmp_path / "0.png")
    records = (
        {"id": 1, "image": "0.png", "text": "a"},
        {"id": 2, "image": f"x.tar::{position}", "text": "a"},
    )
    assert len(failures(lines(tmp_path / "x.jsonl", *records), tmp_path)) == 1


@pytest.mark.parametrize("size", [-1, -512, -1024, 2**62, 2**80])
def test_an_archive_with_impossible_sizes_is_refused(tmp_path, size):
    archive(tmp_path / "x.tar", ("0.jpg", b"x"), ("1.jpg", b"y"))
    content = bytearray((tmp_path / "x.tar").read_bytes())
    content[1024 + 124 : 1024 + 136] = bytes([255 if size < 0 else 128]) + (size % (1 << 88)).to_bytes(11)
    content[1024 + 148 : 1024 + 156] = b" " * 8
    content[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(content[1024 : 1024 + 512])
    (tmp_path / "x.tar").write_bytes(content)
    assert error(tmp_path / "x.tar").startswith("x.tar: damaged")


@pytest.mark.parametrize("name", ["../x.arrow", "/dev/zero", "..", "", 5])
def test_a_saved_dataset_reads_only_its_own_files(tmp_path, name):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}], "_split": None}))
    assert error(tmp_path).startswith("state.json: ")


def test_a_damaged_arrow_file_is_refused(tmp_path):
    samples = [Sample(f"{n}.jpg", b"x" * 30, [f"caption {n}"], ["dog"]) for n in range(20)]
    root = hugging_face(tmp_path / "x", {"train": samples})
    path = min(root.glob("train/*.arrow"))
    valid = path.read_bytes()
    at = valid.index(b"".join(b"caption %d" % n for n in range(10)))
    offsets = valid.rindex((9).to_bytes(4, "little") + (18).to_bytes(4, "little"), 0, at)
    damaged = bytearray(valid)
    damaged[offsets : offsets + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(damaged)
    assert error(root).startswith(f"train/{path.name} is not an arrow file")


# --------------------------------------------------------------------------------- rows that cannot be read


def coco_with(tmp_path, *annotations):
    root = coco(tmp_path / "c", {"train": [Sample(f"{n}.jpg", b"x", [], ["dog"]) for n in range(3)]})
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] += annotations
    path.write_text(json.dumps(content))
    return root


BAD_ROWS = {
    "x.jsonl": lambda path: path.write_text(
        '{"id": 0, "text": "a"}\n{"id": 1\n{"id": 2, "text": "c"}\n{"id": 3, "text": {"a": 1}}\n'
    ),
    "x.tar": lambda path: archive(
        path, ("0.jpg", b"x"), ("0.txt", b"a"), ("1.jpg", b"x"), ("1.txt", b"\xff"), ("1.cls", b"dog"),
        ("2.jpg", b"x"), ("2.json", b'{"caption": "c"}'), ("3.jpg", b"y"),
        ("3.json", b'{"caption": {"a": 1}}'),
    ),
    "x.parquet": lambda path: table(
        path, class_labels(["dog"]), id=["0", "1", "2", "3"], text=["a", "b", "c", "d"], label=[0, 7, 0, -5]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_an_error_or_are_left_out_counted_and_named(tmp_path, name):
    path = tmp_path / name
    BAD_ROWS[name](path)
    first = error(path).removesuffix("; --skip-bad-rows leaves such rows out")
    tables, warnings = read(path, ReadOptions(skip_bad_rows=True))
    (rows,) = tables.values()
    assert [row_id.removesuffix(".jpg") for row_id in rows.ids] == ["0", "2"]
    assert rows.captions == ["a", "c"]
    (line,) = (line for line in warnings if "cannot be read" in line)
    assert line.replace(f"{tmp_path}/", "") == (
        f"rows that cannot be read: 2 (first: {first}); they are left out"
    )


def test_a_bad_annotation_is_left_out_with_its_image(tmp_path):
    annotations = ({"image_id": 1001, "category_id": 99}, {"image_id": 5, "category_id": 1}, None)
    root = coco_with(tmp_path, *annotations)
    assert "the category 99, which is not listed" in error(root)
    tables, warnings = read(root, ReadOptions(skip_bad_rows=True))
    assert tables["train"].ids == ["0.jpg", "2.jpg"]
    assert any(line.startswith("rows that cannot be read: 3 (first: ") for line in warnings)


def test_a_file_without_any_good_row_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text("{\n}\n")
    assert "no rows" in error(tmp_path / "x.jsonl", skip_bad_rows=True)
    lines(tmp_path / "x.jsonl", {"id": {"a": 1}, "text": "b"})
    assert "none of its rows can be read" in error(tmp_path / "x.jsonl", skip_bad_rows=True)


def test_the_command_line_leaves_bad_rows_out_on_request(run, tmp_path):
    BAD_ROWS["x.jsonl"](tmp_path / "x.jsonl")
    refused = run("extract", "--encoder", "glove-50", "--data", "x.jsonl", status=1)
    assert "x.jsonl:2: not JSON" in refused.stderr
    assert "--skip-bad-rows" in refused.stderr
    done = run("extract", "--encoder", "glove-50", "--data", "x.jsonl", "--skip-bad-rows")
    assert "warning: rows that cannot be read: 2 (first: x.jsonl:2: not JSON" in done.stderr


# ---------------------------------------------------------------------------------------------------- names


def test_names_that_are_not_utf8_work_in_every_command(folder, run, tmp_path):
    folder(24)
    name = os.fsdecode(b"f\xff\xfe")
    os.rename("input", name)
    run("extract", "--encoder", "glove-50", "--encoder", "efficientnet-lite0", "--data", name)
    again = run("extract", "--encoder", "glove-50", "--encoder", "efficientnet-lite0", "--data", name)
    assert "glove-50/mean: encoded 0, already there 24" in again.stderr
    assert str(tmp_path / name) + "/train.csv" == Store("store").tables()[0].source
    for words in (["list"], ["verify"], ["info", "glove-50/mean"], ["gc"], ["compact"]):
        run("store", *words)
    run("fit", "--head", "linear", "--data", name)
    run("predict", "runs/linear", "--data", name)
    run("evaluate", "runs/linear", "--data", name)
    run("sweep", "--head", "linear", "--data", name, "--folder", f"{name}/runs")
    captioned = tmp_path / "photos"
    captioned.mkdir()
    picture(0).save(captioned / "0.png")
    os.rename(captioned / "0.png", captioned / os.fsdecode(b"\xe9\x1b[31m.png"))
    run("extract", "--encoder", "efficientnet-lite0", "--data", "photos")
    run("fit", "--head", "linear", "--features", LITE0, "--run", "runs/images", "--data", name)
    run("predict", "runs/images", "--data", "photos", "-o", "photos.csv")
    assert b"\xe9\x1b[31m.png" in (tmp_path / "photos.csv").read_bytes()


def test_escape_sequences_in_names_are_not_sent_to_the_terminal(run, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "\x1b]0;pwn\a\x1b[31mred\n.jpg").write_bytes(b"no image")
    picture(0).save(tmp_path / "x" / "1.png")
    output = run("extract", "--encoder", "efficientnet-lite0", "--data", "x", status=1).stderr
    assert r"\x1b]0;pwn\x07\x1b[31mred\n.jpg: not-an-image" in output
    assert not {"\x1b", "\a"} & set(output)


def test_a_caption_of_10_mb_is_cut_for_word_vectors(tmp_path):
    lines(tmp_path / "x.jsonl", {"id": 1, "text": "dog cat " * 1_250_000}, {"id": 2, "text": "a dog"})
    report = encode(tmp_path / "x.jsonl", ["glove-50"], tmp_path / "store", progress=False)
    assert (
        "glove-50/mean, glove-50/tokens: 1 caption is longer than 4096 tokens and was cut" in report.warnings
    )
    feature = Store(tmp_path / "store").feature("glove-50/tokens")
    _, offsets = feature.read_ragged(report.tables[0].keys("caption"))
    assert offsets.tolist() == [0, 4096, 4098]


def test_memory_that_runs_out_is_one_line_with_what_to_reduce(run, tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    lines(tmp_path / "x.jsonl", {"id": 1, "text": "a"})
    monkeypatch.setattr("encode_once.extract.readers.table_files.parse", exhausted)
    output = run("extract", "--encoder", "glove-50", "--data", "x.jsonl", status=1).stderr
    assert output.splitlines()[-1].startswith("Error: out of memory; use fewer rows")
    assert "fewer --workers" in output
