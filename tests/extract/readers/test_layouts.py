"""Layouts that public data sets have: the same images, labels and captions from each."""

import io
import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from encode_once.cache.errors import DataError
from encode_once.extract import ReadOptions
from encode_once.extract.readers import read, understand
from encode_once.extract.readers.options import Columns

LABELS = {"0.jpg": ["red"], "1.jpg": ["green"], "2.jpg": ["red", "green"], "3.jpg": []}
CAPTIONS = {name: f"a caption of {name}, with commas" for name in LABELS}
CLASSES = ["red", "green"]


def fill(folder, names=LABELS):
    """A folder with images, each of another content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def numbers(name):
    return [CLASSES.index(label) for label in LABELS[name]]


# -------------------------------------------------------------------------------------- one writer per layout


def imagefolder(root, split):
    records = [{"file_name": name, "labels": LABELS[name], "text": CAPTIONS[name]} for name in LABELS]
    fill(root / split)
    (root / split / "metadata.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def imagefolder_csv(root, split):
    fill(root / split)
    cells = {"labels": [";".join(LABELS[name]) for name in LABELS], "text": CAPTIONS.values()}
    pd.DataFrame({"file_name": [*LABELS], **cells}).to_csv(root / split / "metadata.csv", index=False)


def roboflow(root, split):
    fill(root / split)
    rows = [{"filename": name, **{f" {c}": int(c in LABELS[name]) for c in CLASSES}} for name in LABELS]
    pd.DataFrame(rows).to_csv(root / split / "_classes.csv", index=False)


def roboflow_coco(root, split):
    fill(root / split)
    (root / split / "_annotations.coco.json").write_text(json.dumps(coco_json()))


def coco_json(name=lambda name: {"file_name": name}):
    images = [{"id": number, **name(file)} for number, file in enumerate(LABELS)]
    boxes = [
        {"id": 10 * n + c, "image_id": n, "category_id": c, "bbox": [0, 0, 1, 1]}
        for n, file in enumerate(LABELS)
        for c in numbers(file)
    ]
    return {"images": images, "annotations": boxes, "categories": [*map(category, enumerate(CLASSES))]}


def category(pair):
    return {"id": pair[0], "name": pair[1]}


def fiftyone_coco(root, split):
    fill(root / split / "data")
    (root / split / "labels.json").write_text(json.dumps(coco_json()))


def cvat_coco(root, split):
    fill(root / split / "images")
    (root / split / "annotations").mkdir()
    (root / split / "annotations" / "instances_default.json").write_text(json.dumps(coco_json()))


def yolo(root, split, images="images/{}", labels="labels/{}"):
    fill(root / images.format(split))
    (root / labels.format(split)).mkdir(parents=True, exist_ok=True)
    for name in LABELS:
        if LABELS[name]:
            lines = [f"{number} 0.5 0.5 0.1 0.1" for number in numbers(name) * 2]
            (root / labels.format(split) / f"{Path(name).stem}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(CLASSES)), "nc": 2}))


def yolo_by_split(root, split):
    yolo(root, split, "{}/images", "{}/labels")
    (root / "data.yaml").write_text(yaml.safe_dump({"names": CLASSES}))


def voc(root, split):
    fill(root / "JPEGImages")
    (root / "Annotations").mkdir(exist_ok=True)
    for name in LABELS:
        objects = "".join(
            f"<object><name>{c}</name><part><name>x</name></part></object>" for c in LABELS[name]
        )
        xml = f"<annotation><filename>{name}</filename>{objects * 2}</annotation>"
        (root / "Annotations" / f"{Path(name).stem}.xml").write_text(xml)
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    stems = [Path(name).stem for name in LABELS]
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    (root / "ImageSets" / "Main" / f"red_{split}.txt").write_text("\n".join(f"{s} -1" for s in stems))


def class_folders(root, split):
    for label in CLASSES:
        fill(root / split / label, [name for name in LABELS if label in LABELS[name]])


SPLITS = {
    writer.__name__: writer
    for writer in (
        imagefolder,
        imagefolder_csv,
        roboflow,
        roboflow_coco,
        fiftyone_coco,
        cvat_coco,
        yolo,
        yolo_by_split,
        voc,
        class_folders,
    )
}


@pytest.mark.parametrize("layout", SPLITS)
def test_each_split_of_a_layout_has_its_images_and_labels(tmp_path, layout):
    for split in ("train", "valid"):
        SPLITS[layout](tmp_path / "x", split)
    tables, _ = read(tmp_path / "x")
    assert list(tables) == ["train", "valid"]
    for table in tables.values():
        labels = dict(zip(map(Path, table.images), table.labels, strict=True))
        names = {path.name: set(row) for path, row in labels.items() if path.is_file()}
        expected = {name: set(row) for name, row in LABELS.items() if row or layout != "class_folders"}
        assert names == expected
        assert [path.read_bytes().decode() for path in labels] == [path.name for path in labels]
        if layout.startswith("imagefolder"):
            assert dict(zip(table.ids, table.captions, strict=True)) == CAPTIONS


# ------------------------------------------------------------------------------------------ folders of images


def test_files_of_one_name_are_one_image_only_if_their_contents_are_equal(tmp_path):
    for label, content in (("cats", b"1"), ("dogs", b"2"), ("pets", b"1")):
        (tmp_path / "x" / label).mkdir(parents=True)
        (tmp_path / "x" / label / "1.jpg").write_bytes(content)
    tables, warnings = read(tmp_path / "x")
    table = tables["train"]
    assert dict(zip(table.ids, table.labels, strict=True)) == {
        "cats/1.jpg": ("cats", "pets"),
        "dogs/1.jpg": ("dogs",),
    }
    assert any("1 files are in several folders with equal contents" in line for line in warnings)


def test_class_folders_may_have_folders_and_captions(tmp_path):
    fill(tmp_path / "x" / "red" / "a" / "b", ["0.jpg"])
    fill(tmp_path / "x" / "green", ["1.jpg"])
    (tmp_path / "x" / "green" / "1.txt").write_text("a leaf\n")
    table = read(tmp_path / "x")[0]["train"]
    assert dict(zip(table.ids, table.labels, strict=True)) == {"1.jpg": ("green",), "0.jpg": ("red",)}
    assert dict(zip(table.ids, table.captions, strict=True)) == {"1.jpg": "a leaf", "0.jpg": ""}


def test_the_only_folder_of_images_and_one_image_are_read(tmp_path):
    fill(tmp_path / "x" / "10_box", ["0.jpg", "1.jpg"])
    (tmp_path / "x" / "10_box" / "0.txt").write_text("a box")
    for data in (tmp_path / "x", tmp_path / "x" / "10_box"):
        table = read(data)[0]["train"]
        assert (table.ids, table.captions, table.labels) == (["0.jpg", "1.jpg"], ["a box", ""], None)
    table = read(tmp_path / "x" / "10_box" / "1.jpg")[0]["train"]
    assert (table.ids, Path(table.images[0]).read_bytes()) == (["1.jpg"], b"1.jpg")


def test_objects_next_to_images_are_rows(tmp_path):
    fill(tmp_path)
    for name in [*LABELS][:3]:
        record = {"genres": LABELS[name], "plot": [CAPTIONS[name], "x"], "year": 1999}
        (tmp_path / f"{Path(name).stem}.json").write_text(json.dumps(record))
    table = read(tmp_path, ReadOptions(columns=Columns(captions=("plot",), labels=("genres",))))[0]["train"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert table.captions == [*[*CAPTIONS.values()][:3], ""]
    assert table.columns["year"] == ["1999", "1999", "1999", ""]
    (tmp_path / "0.json").write_text("[1]")
    with pytest.raises(DataError, match=r"0\.json: not an object"):
        read(tmp_path)
    assert read(tmp_path, ReadOptions(skip_bad_rows=True))[0]["train"].ids == ["1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize("packed", [False, True])
def test_shards_of_img2dataset_are_one_table(tmp_path, packed):
    for number, name in enumerate(LABELS):
        shard = f"{number:05d}"
        members = {f"{shard}0000.jpg": name.encode(), f"{shard}0000.txt": CAPTIONS[name].encode()}
        members[f"{shard}0000.json"] = json.dumps({"caption": CAPTIONS[name], "status": "success"}).encode()
        (tmp_path / f"{shard}_stats.json").write_text("{}")
        pd.DataFrame({"url": ["u"], "caption": [CAPTIONS[name]]}).to_parquet(tmp_path / f"{shard}.parquet")
        if packed:
            with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
                for member, content in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        else:
            (tmp_path / shard).mkdir()
            for member, content in members.items():
                (tmp_path / shard / member).write_bytes(content)
    tables, _ = read(tmp_path)
    assert list(tables) == ["train"]
    assert tables["train"].captions == [*CAPTIONS.values()]
    assert all(tables["train"].images)


# ------------------------------------------------------------------------------------------- YOLO, VOC, lists


def test_yolo_without_names_or_with_an_unknown_number_is_an_error(tmp_path):
    yolo(tmp_path / "x", "train")
    (tmp_path / "x" / "labels" / "train" / "0.txt").write_text("\n7 0 0 1 1\n")
    with pytest.raises(DataError, match=r"0\.txt:2: begins with '7', where the number of one of 2 classes"):
        read(tmp_path / "x")
    assert read(tmp_path / "x", ReadOptions(skip_bad_rows=True))[0]["train"].ids == [
        "1.jpg",
        "2.jpg",
        "3.jpg",
    ]
    (tmp_path / "x" / "data.yaml").write_text("a: [")
    with pytest.raises(DataError, match="not YAML"):
        read(tmp_path / "x")
    (tmp_path / "x" / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"the names of the classes are missing: add data\.yaml"):
        read(tmp_path / "x")
    (tmp_path / "x" / "classes.txt").write_text("a\nb\n\nc\nd\ne\nf\ng\nh\n")
    assert read(tmp_path / "x")[0]["train"].labels[0] == ("h",)


def test_yolo_in_one_folder(tmp_path):
    yolo(tmp_path / "x", "", "{}", "{}")
    (tmp_path / "x" / "data.yaml").unlink()
    (tmp_path / "x" / "classes.txt").write_text("\n".join(CLASSES))
    table = read(tmp_path / "x")[0]["train"]
    assert dict(zip(table.ids, map(list, table.labels), strict=True)) == LABELS


def test_voc_next_to_images_and_hostile_xml(tmp_path):
    voc(tmp_path / "x", "train")
    flat = fill(tmp_path / "flat")
    for path in (tmp_path / "x" / "Annotations").iterdir():
        (flat / path.name).write_bytes(path.read_bytes())
    table = read(flat)[0]["train"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    bomb = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'
    (flat / "0.xml").write_text(bomb)
    with pytest.raises(DataError, match=r"0\.xml: declares entities"):
        read(flat)
    (flat / "0.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"0\.xml: not XML"):
        read(flat)


def test_lists_of_paths_and_numbers(tmp_path):
    fill(tmp_path / "x" / "images")
    for split in ("train", "test", "database"):
        lines = [f"images/{name} {int('red' in row)} {int('green' in row)}\n" for name, row in LABELS.items()]
        (tmp_path / "x" / f"{split}.txt").write_text("".join(lines))
    (tmp_path / "x" / "readme.txt").write_text("some words 1\n")
    with pytest.raises(DataError, match=r"0 and 1|--classes"):
        read(tmp_path / "x")
    (tmp_path / "one.txt").write_text("x/images/0.jpg 7\nx/images/1.jpg 12\n")
    table = read(tmp_path / "one.txt")[0]["one"]
    assert table.labels == [("7",), ("12",)]
    assert all(Path(image).is_file() for image in table.images)


def test_celebas_list_has_the_names_of_its_classes(tmp_path):
    fill(tmp_path / "img_align_celeba")
    rows = [
        f"{name} {' '.join(' 1' if c in row else '-1' for c in CLASSES)}\n" for name, row in LABELS.items()
    ]
    (tmp_path / "list_attr_celeba.txt").write_text(f"{len(rows)}\n{' '.join(CLASSES)} \n{''.join(rows)}")
    table = read(tmp_path)[0]["list_attr_celeba"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert [Path(image).name for image in table.images] == [*LABELS]
    (tmp_path / "list_attr_celeba.txt").write_text(f"9\nred green\n{rows[0]}{rows[1]}2.jpg 1\n")
    with pytest.raises(DataError, match=r"celeba\.txt:5: not as the lines before: 2\.jpg 1"):
        read(tmp_path)


def test_flickrs_tokens_are_captions_of_an_image_in_several_rows(tmp_path):
    fill(tmp_path / "images", ["0.jpg", "1.jpg"])
    lines = [f"{n}.jpg#{i}\tcaption {i}, of {n} .\n" for n in range(2) for i in range(3)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join([*lines, "2.jpg.1#0\tan image that is not there\n"]))
    table = read(tmp_path)[0]["Flickr8k.token"]
    assert [Path(image).name for image in table.images] == ["0.jpg", "1.jpg", "2.jpg.1"]
    captions = [*zip(table.captions, *table.more_captions, strict=True)]
    assert captions[1] == tuple(f"caption {i}, of 1 ." for i in range(3))


def test_a_text_with_a_header_of_columns_is_a_table(tmp_path):
    fill(tmp_path / "Images")
    lines = [f'{name},"{CAPTIONS[name]}"\n' for name in LABELS]
    (tmp_path / "captions.txt").write_text("image,caption\n" + "".join(lines))
    (tmp_path / "notes.txt").write_text("some words, and an image\n")
    tables, _ = read(tmp_path)
    assert list(tables) == ["captions"]
    assert tables["captions"].captions == [*CAPTIONS.values()]


def test_folders_of_a_program_are_no_classes(tmp_path):
    fill(tmp_path / "doc")
    fill(tmp_path / "test_img")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").touch()
    with pytest.raises(DataError, match="the folder doc/ has 4 images, but there is no table of them"):
        read(tmp_path)


# ------------------------------------------------------------------------------------------------------- JSON

RECORDS = [{"image": name, "labels": LABELS[name], "caption": CAPTIONS[name]} for name in LABELS]
FRAME = pd.DataFrame(RECORDS)
KARPATHY = [
    {
        "filename": name,
        "filepath": "images",
        "split": split,
        "sentences": [{"raw": CAPTIONS[name], "tokens": []}],
    }
    for split, names in (("train", ["0.jpg", "1.jpg"]), ("val", ["2.jpg"]), ("test", ["3.jpg"]))
    for name in names
]
JSON = {
    "list": RECORDS,
    "under a name": {"data": RECORDS},
    "columns of pandas": json.loads(FRAME.to_json()),
    "rows of pandas": json.loads(FRAME.to_json(orient="index")),
    "lists": FRAME.to_dict("list"),
    "by stem": {Path(name).stem: LABELS[name] for name in LABELS},
    "by image": {record["image"]: {k: v for k, v in record.items() if k != "image"} for record in RECORDS},
}


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("name", ["photos.json", "train.json"])
def test_records_in_json(tmp_path, form, name):
    fill(tmp_path / "images")
    (tmp_path / name).write_text(json.dumps(JSON[form]))
    table = read(tmp_path if name == "train.json" else tmp_path / name)[0][Path(name).stem]
    assert [Path(image).name for image in table.images] == [*LABELS]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert table.captions == ([""] * 4 if form == "by stem" else [*CAPTIONS.values()])


def test_karpathys_splits(tmp_path):
    fill(tmp_path / "images")
    (tmp_path / "dataset_x.json").write_text(json.dumps({"dataset": "x", "images": KARPATHY}))
    tables, _ = read(tmp_path / "dataset_x.json")
    assert {split: table.captions for split, table in tables.items()} == {
        "train": [CAPTIONS["0.jpg"], CAPTIONS["1.jpg"]],
        "val": [CAPTIONS["2.jpg"]],
        "test": [CAPTIONS["3.jpg"]],
    }
    assert all(Path(image).is_file() for table in tables.values() for image in table.images)


@pytest.mark.parametrize("by_number", [False, True])
def test_fiftyones_classification(tmp_path, by_number):
    fill(tmp_path / "data")
    labels = {Path(name).stem: numbers(name) if by_number else LABELS[name] for name in LABELS}
    (tmp_path / "labels.json").write_text(json.dumps({"classes": CLASSES, "labels": labels}))
    table = read(tmp_path)[0]["labels"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert [Path(image).name for image in table.images] == [*LABELS]


def test_label_studios_tasks(tmp_path):
    fill(tmp_path / "images")
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d=images/{name}", "text": CAPTIONS[name]},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": LABELS[name]}}]}],
        }
        for number, name in enumerate(LABELS)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    table = read(tmp_path / "export.json")[0]["export"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert [Path(image).name for image in table.images] == [*LABELS]
    assert table.captions == [*CAPTIONS.values()]


def studio_task(name, *results, **more):
    return {"data": {"image": f"/data/upload/1/{name}"}, "annotations": [{"result": [*results]}], **more}


def test_label_studios_regions_taxonomies_and_texts(tmp_path):
    """Polygons as https://labelstud.io/tags/polygonlabels has them, and other controls beside them."""
    fill(tmp_path / "images")
    tasks = []
    for name in LABELS:
        value = {"points": [[1.5, 2.0], [3.0, 4.0], [5.0, 1.0]], "closed": True}
        polygons = [
            {"from_name": "shape", "type": "polygonlabels", "value": {**value, "polygonlabels": [label]}}
            for label in LABELS[name] * 2
        ]
        kind = {"from_name": "kind", "type": "taxonomy", "value": {"taxonomy": [["thing", "box"]]}}
        text = {"from_name": "caption", "type": "textarea", "value": {"text": [CAPTIONS[name]]}}
        stars = {"from_name": "stars", "type": "rating", "value": {"rating": 4}}
        more = {"id": 7, "predictions": [{"result": []}], "meta": {}}
        tasks.append(studio_task(name, *polygons, kind, text, stars, **more))
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    reading = understand(tmp_path / "export.json")
    table = reading.tables["export"]
    assert table.labels == [(*LABELS[name], "thing/box") for name in LABELS]
    assert table.captions == [*CAPTIONS.values()]
    assert "columns shape, kind" in reading.text()
    assert "not used: the columns stars" in reading.text()
    assert reading.unused == ["the tasks' fields id, predictions in export.json"]
    assert [Path(image).name for image in table.images] == [*LABELS]


def test_a_control_of_label_studio_named_image_is_no_image(tmp_path):
    fill(tmp_path / "images")
    tasks = [
        {
            "data": {"img": f"images/{name}"},
            "annotations": [{"result": [{"from_name": "image", "value": {"choices": LABELS[name]}}]}],
        }
        for name in LABELS
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    table = understand(tmp_path / "export.json").tables["export"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert [Path(image).name for image in table.images] == [*LABELS]


def test_label_studios_cancelled_and_repeated_annotations_are_reported(tmp_path):
    fill(tmp_path / "images")
    tasks = [
        {
            "data": {"image": f"images/{name}"},
            "annotations": [
                {"result": [{"value": {"choices": LABELS[name][:1]}}]},
                {"result": [{"value": {"choices": LABELS[name][::-1]}}]},
                {"result": [{"value": {"choices": ["blue"]}}], "was_cancelled": True},
            ],
        }
        for name in LABELS
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    reading = understand(tmp_path / "export.json")
    assert [list(row) for row in reading.tables["export"].labels] == [*LABELS.values()]
    warnings = " ".join(reading.warnings)
    assert "tasks with several annotations: 4 (first: record 0); their labels are joined" in warnings
    assert "annotations that were cancelled: 4; they are left out" in warnings


def test_what_is_not_used_of_karpathys_splits_is_reported(tmp_path):
    fill(tmp_path / "images")
    images = [image | {"imgid": n, "sentids": [n]} for n, image in enumerate(KARPATHY)]
    (tmp_path / "dataset_x.json").write_text(json.dumps({"dataset": "x", "images": images}))
    reading = understand(tmp_path / "dataset_x.json")
    assert reading.tables["train"].columns == {"imgid": ["0", "1"]}
    assert "not used: the columns sentids" in reading.text()
    assert reading.unused == ["dataset, tokens of sentences in dataset_x.json"]


def test_labelmes_polygons_next_to_the_images(tmp_path):
    fill(tmp_path)
    for name, labels in LABELS.items():
        shapes = [{"label": label, "points": [[0, 1], [2, 3]], "shape_type": "polygon"} for label in labels]
        content = {"version": "5.4", "flags": {}, "shapes": shapes, "imagePath": name}
        (tmp_path / name).with_suffix(".json").write_text(json.dumps(content))
    table = read(tmp_path)[0]["train"]
    assert [list(row) for row in table.labels] == [*LABELS.values()]
    assert [Path(image).name for image in table.images] == [*LABELS]


def test_the_only_folder_is_read_by_its_own_layout(tmp_path):
    roboflow(tmp_path, "train")
    (table,) = read(tmp_path)[0].values()
    assert (table.split, [list(row) for row in table.labels]) == ("train", [*LABELS.values()])
    (tmp_path / "train").rename(tmp_path / "export-1")
    assert [list(row) for row in read(tmp_path)[0]["_classes"].labels] == [*LABELS.values()]


def test_lvis_names_its_images_by_url(tmp_path):
    fill(tmp_path / "train2017")
    content = coco_json(lambda name: {"coco_url": f"http://images.example.org/train2017/{name}"})
    (tmp_path / "lvis_v1_train.json").write_text(json.dumps(content))
    table = read(tmp_path / "lvis_v1_train.json")[0]["lvis_v1_train"]
    assert [Path(image).name for image in table.images] == [*LABELS]
    assert [list(row) for row in table.labels] == [*LABELS.values()]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("{}", "an empty object; expected"),
        (
            '{"a": 1, "b": {"c": 2}}',
            "an object with the names a, b; expected COCO's JSON or a list of records",
        ),
        ('["a", "b"]', "a list of str; expected"),
        ("7", "no table; expected"),
        ('{"classes": [], "labels": {"0": "a"}}', "FiftyOne's labels, but there are no images in data/"),
    ],
)
def test_other_json_says_what_it_is(tmp_path, content, problem):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=problem) as caught:
        read(tmp_path / "x.json")
    assert len(str(caught.value)) < 300


def test_columns_can_be_named_where_there_are_columns(tmp_path):
    fill(tmp_path / "images")
    renamed = [{"image": name, "said": CAPTIONS[name]} for name in LABELS]
    (tmp_path / "x.json").write_text(json.dumps({"rows": renamed}))
    assert read(tmp_path / "x.json", ReadOptions(columns=Columns(captions=("said",))))[0]["x"].captions == [
        *CAPTIONS.values()
    ]
