"""Samples are encoded once, in whatever containers they are, and all containers use the same vectors."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import Store, content_key
from encode_once.cache.maintenance import compact, drop_unreferenced
from encode_once.classify.data import features
from encode_once.cli import main
from encode_once.extract import Columns, ComputeOptions, ReadOptions, encode
from tests.conftest import WORDS, picture
from tests.extract.readers.writers import WRITERS, Sample, captioned_images, csv_folder

LITE0, GLOVE = "efficientnet-lite0/pooled", "glove-50/mean"


def image(n):
    file = io.BytesIO()
    picture(n).save(file, "PNG")
    return file.getvalue()


def captions(n):
    return [f"a {WORDS[n % 6]}", *(f"{word} {n}" for word in WORDS[: n % 3])]


SAMPLES = [Sample(f"{n}.png", image(n), captions(n), [WORDS[n % 6]]) for n in range(8)]
CAPTIONS = sum(len(sample.captions) for sample in SAMPLES)


def counts(report):
    return {name: tuple(vars(report.features[name]).values()) for name in (LITE0, GLOVE)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A store that holds the plain folder's vectors, and its table."""
    place = tmp_path_factory.mktemp("plain")
    root = csv_folder(place / "input", {"train": SAMPLES})
    report = encode(root, ["efficientnet-lite0", "glove-50"], place / "store", progress=False)
    # In captions, "encoded" counts all of the rows' captions, not the rows alone.
    assert counts(report) == {LITE0: (8, 0, 0), GLOVE: (CAPTIONS, 0, 0)}
    return Store(place / "store"), report.tables[0]


def matrix(store, table):
    return features.load([features.StoredFeature(store.feature(name)) for name in (LITE0, GLOVE)], table)[:]


@pytest.mark.parametrize("name", [*WRITERS, "captioned_images"])
def test_the_same_samples_in_another_container_encode_nothing(plain, tmp_path, name):
    store, table = plain
    if name == "captioned_images":
        root = captioned_images(tmp_path / name, SAMPLES)
    else:
        root = WRITERS[name](tmp_path / name, {"train": SAMPLES})
    report = encode(root, ["efficientnet-lite0", "glove-50"], store, progress=False)
    assert counts(report) == {LITE0: (0, 8, 0), GLOVE: (0, CAPTIONS, 0)}
    np.testing.assert_array_equal(matrix(store, report.tables[0]), matrix(store, table))


@pytest.mark.parametrize("name", ["web_dataset", "parquet_bytes", "hugging_face"])
def test_images_within_a_container_are_encoded_like_files(plain, tmp_path, name):
    store, table = plain
    root = WRITERS[name](tmp_path / name, {"train": SAMPLES})
    report = encode(
        root, ["efficientnet-lite0"], tmp_path / "store", progress=False, compute=ComputeOptions(workers=3)
    )
    vectors = Store(tmp_path / "store").feature(LITE0).read(report.tables[0].keys("image"))
    np.testing.assert_array_equal(vectors, store.feature(LITE0).read(table.keys("image")))


def test_further_captions_are_encoded_compacted_and_exported(tmp_path):
    root = csv_folder(tmp_path / "input", {"train": SAMPLES})
    store = Store(tmp_path / "store")
    for samples in (SAMPLES[:4], SAMPLES[4:], SAMPLES):
        csv_folder(tmp_path / "input", {"train": samples})
        encode(root, ["glove-50"], store, progress=False)
    texts = [text for sample in SAMPLES for text in sample.captions]
    assert [change.rows for change in drop_unreferenced(store)] == [0, 0]
    compact(store)
    feature = store.feature(GLOVE)
    in_order = [s.captions[i] for i in range(3) for s in SAMPLES if i < len(s.captions)]
    assert list(map(bytes, feature.keys)) == [content_key(text.encode()) for text in dict.fromkeys(in_order)]
    result = CliRunner().invoke(
        main,
        ["store", "export", GLOVE, "--to", "npy", "--store", str(store.path), "-o", str(tmp_path / "x.npy")],
    )
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "x.npy").shape == (len(texts), 50)
    assert (tmp_path / "x.npy.ids.txt").read_text().split()[:9] == [*(s.name for s in SAMPLES), "1.png"]
    csv_folder(tmp_path / "input", {"train": SAMPLES[:1]})
    encode(root, ["glove-50"], store, progress=False)
    assert drop_unreferenced(store)[0].rows == len(set(texts)) - 1


def run(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


def predicted():
    with open("predictions.csv") as file:
        return list(csv.reader(file))


def test_commands_accept_any_container(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = [
        Sample(f"{n}.png", image(n), [f"a {word} {n}"], [word.replace("bus", "school bus")])
        for n, word in enumerate(WORDS * 8)
    ]
    WRITERS["coco"](tmp_path / "coco", {"train2017": samples, "val2017": samples[:6]})
    run("extract", "--encoder", "glove-50", "--data", "coco")
    fitted = run("fit", "--head", "linear", "--data", "coco", "--groups", "none", "--json")
    metrics = json.loads(fitted.stdout)
    assert {row["label"] for row in metrics["per_class"]} >= {"school bus"}
    run("predict", "runs/linear", "--data", "coco", "--table", "val2017")
    header, *rows = predicted()
    assert header == ["ImageID", "Labels"]
    assert [row[0] for row in rows] == [f"{n}.png" for n in range(6)]
    names = {"dog", "cat", "car", "school bus", "boat", "bird"}
    assert {label for row in rows for label in row[1].split(";") if label} <= names
    new = "".join(f"{n}\t{sample.captions[0]} too\t{sample.labels[0]}\n" for n, sample in enumerate(samples))
    (tmp_path / "new.tsv").write_text("nr\tsaid\tkind\n" + new)
    columns = ("--id-column", "nr", "--caption-column", "said", "--label-column", "kind")
    assert (
        json.loads(run("evaluate", "runs/linear", "--data", "new.tsv", *columns, "--json").stdout)["n"] == 48
    )
    run("predict", "runs/linear", "--data", "new.tsv", *columns)
    assert predicted()[0][0] == "nr"
    wrong = run("predict", "runs/linear", "--data", "new.tsv", "--caption-column", "sad", status=2)
    assert "did you mean 'said'" in wrong.stderr


def test_python_accepts_the_same_options(tmp_path):
    (tmp_path / "x.csv").write_text("nr,said\n1,a dog\n")
    report = encode(
        tmp_path / "x.csv",
        ["glove-50"],
        tmp_path / "store",
        read=ReadOptions(columns=Columns(id="nr", captions=("said",))),
        progress=False,
    )
    assert (report.tables[0].ids, report.tables[0].captions) == (["1"], ["a dog"])
