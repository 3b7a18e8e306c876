"""Runs on sequences, regions and what is learned of captions: from extract to the labels of new rows."""

import csv
import json

import numpy as np
import pytest

from encode_once.cache import Store
from tests.conftest import picture

TOKENS, REGIONS, TFIDF = "glove-50/tokens", "efficientnet-lite0/regions", "tfidf:50"
TINY = ("--set", "epochs=1", "--set", "progress=false", "--set", "device=cpu")


@pytest.fixture
def new(tmp_path):
    """A folder of new rows: one as usual, one with a longer caption than any, one that says nothing known."""
    root = tmp_path / "new"
    (root / "data").mkdir(parents=True)
    captions = ["a dog and a boat", "a cat and a bus and a dog and a car and a bird and a boat", "zzyzx"]
    with (root / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageID", "Labels", "Caption"])
        for row, caption in enumerate(captions):
            picture(row + 700).save(root / "data" / f"{row}.png")
            writer.writerow([f"{row}.png", "dog", caption])
    return root


@pytest.mark.parametrize(
    ("head", "features", "options", "encoded"),
    [
        ("bigru", [TOKENS], ["hidden=8"], {"glove-50"}),
        ("attention", [REGIONS, TOKENS], ["width=16"], {"efficientnet-lite0", "glove-50"}),
        ("linear", [TFIDF], None, set()),
        ("transformer", [REGIONS, TFIDF], ["hidden=8", "width=8"], {"efficientnet-lite0"}),
        ("gated", ["efficientnet-lite0/pooled", REGIONS, TFIDF], ["width=8"], {"efficientnet-lite0"}),
    ],
)
def test_new_rows_are_encoded_as_a_run_needs_them_and_labelled(
    folder, new, run, head, features, options, encoded
):
    folder(60)
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    wanted = [word for name in features for word in ("--features", name)]
    how = [] if options is None else [*TINY, *(word for one in options for word in ("--set", one))]
    run("fit", "--head", head, *wanted, *how, "--run", "run")
    before = {name: len(Store("store").feature(name)) for name in Store("store").features()}
    result = run("predict", "run", "--data", new, "-o", "out.csv")
    with open("out.csv") as file:
        header, *rows = csv.reader(file)
    assert [row[0] for row in rows] == ["0.png", "1.png", "2.png"]
    after = {name: len(Store("store").feature(name)) for name in before}
    grown = {name.split("/")[0] for name in before if after[name] > before[name]}
    assert grown == encoded
    assert "RANDOM" not in result.stderr
    assert header[:2] == ["ImageID", "Labels"]
    metrics = json.loads(run("evaluate", "run", "--data", new, "--json").stdout)
    assert metrics["n"] == 3

    run("export", "run", "-o", "model.onnx")


def test_a_new_row_without_its_image_is_labelled_by_its_caption_and_flagged(folder, new, run):
    folder(60)
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    run("fit", "--head", "concat", "--features", REGIONS, "--features", TOKENS, *TINY, "--run", "run")
    (new / "data" / "1.png").write_bytes(b"no picture")
    result = run("predict", "run", "--data", new, "-o", "out.csv")
    assert f"{REGIONS}: 1 of 3 rows have no vector" in result.stderr
    with open("out.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageID", "Labels", "Missing"]
    assert REGIONS in rows[1][2]
    assert REGIONS not in rows[0][2]


def test_the_same_rows_get_the_same_scores_from_new_files(folder, run, tmp_path):
    """What a run keeps of its held-out rows, and what it gives to the same contents in another folder."""
    root = folder(60)
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    wanted = ("--features", REGIONS, "--features", TOKENS, "--features", TFIDF)
    run("fit", "--head", "bilstm", *wanted, *TINY, "--set", "hidden=8", "--split", "tail:12", "--run", "run")
    root.rename(tmp_path / "moved")
    run("predict", "run", "--data", "moved", "-o", "out.csv", "--store", "another")
    with open("out.csv") as out, open("run/predictions.csv") as kept:
        labels, held = (
            {row["ImageID"]: row["Labels"] for row in csv.DictReader(file)} for file in (out, kept)
        )
    agree = [labels[one] == held[one] for one in held]
    assert np.mean(agree) >= 11 / 12  # a score may lie on its threshold
