"""Runs on sequences, regions and learned features: from extract to the labels of new rows."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Store, feature
from encode_once.classify.runs import predict as predicting
from encode_once.extract.encoders.base import Tower
from tests.conftest import EXTRACT, files_of, picture

TOKENS, REGIONS, TFIDF = "glove-50/tokens", "efficientnet-lite0/regions", "tfidf:50"
pytestmark = pytest.mark.usefixtures("fit_once")
TINY = ("--set", "epochs=1", "--set", "progress=false", "--set", "device=cpu")


@pytest.fixture
def new(tmp_path):
    """A folder of new rows: a usual one, one with the longest caption, one of unknown words."""
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


@pytest.mark.slow
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
def test_new_rows_are_encoded_and_labelled(folder, new, run, head, features, options, encoded):
    folder(60)
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    words = [word for name in features for word in ("--features", name)]
    if options is not None:
        words += [*TINY, *(word for option in options for word in ("--set", option))]
    run("fit", "--head", head, *words, "--run", "run")
    before = files_of("store")
    result = run("predict", "run", "--data", new, "-o", "out.csv")
    with open("out.csv") as file:
        header, *rows = csv.reader(file)
    assert [row[0] for row in rows] == ["0.png", "1.png", "2.png"]
    scratch = Store("run/store")
    assert {name.split("/")[0] for name in scratch.features() if len(scratch.feature(name))} == encoded
    assert "RANDOM" not in result.stderr
    assert header[:2] == ["ImageID", "Labels"]
    metrics = json.loads(run("evaluate", "run", "--data", new, "--json").stdout)
    assert metrics["n"] == 3
    assert files_of("store") == before
    run("export", "run", "-o", "model.onnx")


def test_a_new_row_without_an_image_is_labelled_by_its_caption_and_marked(state_after, new, run):
    state_after("extract --encoder efficientnet-lite0/regions --encoder glove-50", n=30)
    run("fit", "--head", "concat", "--features", REGIONS, "--features", TOKENS, *TINY, "--run", "run")
    (new / "data" / "1.png").write_bytes(b"no picture")
    result = run("predict", "run", "--data", new, "-o", "out.csv")
    assert f"{REGIONS}: 1 of 3 rows have no vector" in result.stderr
    with open("out.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageID", "Labels", "Missing"]
    assert REGIONS in rows[1][2]
    assert REGIONS not in rows[0][2]


@pytest.mark.slow
def test_the_same_rows_get_the_same_scores_from_new_files(folder, run, tmp_path):
    """The eval rows of a run, and the same contents in another folder."""
    root = folder(60)
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    features = ("--features", REGIONS, "--features", TOKENS, "--features", TFIDF)
    run(
        "fit", "--head", "bilstm", *features, *TINY, "--set", "hidden=8", "--split", "tail:12", "--run", "run"
    )
    root.rename(tmp_path / "moved")
    run("predict", "run", "--data", "moved", "-o", "out.csv", "--store", "another")
    with open("out.csv") as out, open("run/predictions.csv") as kept:
        predicted, expected = (
            {row["ImageID"]: row["Labels"] for row in csv.DictReader(file)} for file in (out, kept)
        )
    agree = [predicted[name] == labels for name, labels in expected.items()]
    assert np.mean(agree) >= 11 / 12  # a score may equal its threshold


@pytest.fixture
def fitted(state_after, run):
    """A run, fitted from `store` on `input`."""
    state_after(EXTRACT, "fit --head linear --run run")
    return run


def test_evaluating_other_data_does_not_change_the_store_of_a_run(fitted, new, monkeypatch):
    before = files_of("store")
    result = fitted("evaluate", "run", "--data", new)
    assert "efficientnet-lite0/pooled: 3, glove-50/mean: 3" in result.stderr
    assert "kept in run/store" in result.stderr
    assert "--store DIR" in result.stderr
    assert files_of("store") == before
    assert Store("run/store").tables() == []
    fitted("fit", "--head", "linear")  # the store still has only one table
    monkeypatch.setattr(Tower, "load", lambda *_: pytest.fail("encoded twice"))
    assert "encoded rows" not in fitted("predict", "run", "--data", new).stderr
    assert files_of("store") == before


def test_runs_of_one_store_encode_the_same_rows_once(fitted, new):
    fitted("fit", "--head", "prototype", "--run", "other")
    result = fitted("evaluate", "run", "other", "--data", new)
    assert result.stderr.count("encoded rows") == 1
    assert not Path("other/store").exists()


def test_new_rows_are_added_to_a_named_store_without_their_table(fitted, new):
    before = files_of("store")
    fitted("predict", "run", "--data", new, "--store", "new-store")
    assert files_of("store") == before
    assert not Path("run/store").exists()
    assert len(Store("new-store").feature("glove-50/mean")) == 3
    assert Store("new-store").tables() == []


def test_predicting_stored_rows_writes_nothing(fitted):
    before = files_of(".")
    fitted("predict", "run", "-o", "out.csv")
    assert files_of(".").keys() - before.keys() <= {Path("out.csv"), Path("run/store/files.sqlite")}


def test_a_command_opens_each_feature_once(fitted, monkeypatch):
    opened = []
    original = feature.Part
    monkeypatch.setattr(feature, "Part", lambda path, key: opened.append(path) or original(path, key))
    for words in (["predict", "run"], ["evaluate", "run", "--data", "input", "--store", "store"], ["fit"]):
        opened.clear()
        fitted(*words)
        assert len(opened) == len(set(opened))
        assert {path.parent.name for path in opened} >= {"mean", "pooled"}


@pytest.mark.slow
def test_new_rows_are_discarded_if_the_run_cannot_be_written(fitted, new, monkeypatch):
    monkeypatch.setattr(predicting, "is_writable", lambda folder: False)
    before = files_of("store"), files_of("run")
    result = fitted("predict", "run", "--data", new, "-o", "out.csv")
    assert "gone when this command ends, as run cannot be written; --store DIR" in result.stderr
    result = fitted("predict", "run", "--data", new, "-o", "again.csv", "--store", "store")
    assert Path("out.csv").read_bytes() == Path("again.csv").read_bytes()
    assert (files_of("store"), files_of("run")) == before


@pytest.fixture
def unwritable():
    """A function that makes folders readable only until the test ends."""
    changed = []

    def make(*folders):
        for folder in folders:
            for path in [Path(folder), *Path(folder).rglob("*")]:
                changed.append((path, path.stat().st_mode))
                path.chmod(path.stat().st_mode & 0o555)

    yield make
    for path, mode in changed:
        path.chmod(mode)


# Root can write to any file, unless it drops this capability.
AS_USER = [] if os.getuid() else ["setpriv", "--bounding-set", "-dac_override"]


@pytest.mark.slow
@pytest.mark.skipif(bool(AS_USER) and not shutil.which("setpriv"), reason="no setpriv")
@pytest.mark.parametrize("folders", [["store"], pytest.param(["store", "run"], marks=pytest.mark.real)])
def test_a_read_only_store_can_be_predicted_from(fitted, new, unwritable, folders):
    before = files_of("store"), files_of("run")
    unwritable(*folders)
    words = ["-m", "cli", "predict", "run", "--data", new, "-o", "labels.csv", "--store", "store"]
    result = subprocess.run(
        [*AS_USER, sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    message = "kept in run/store" if "run" not in folders else "run cannot be written"
    assert message in result.stderr
    with open("labels.csv") as file:
        assert len(list(csv.reader(file))) == 4
    assert files_of("store") == before[0]
    assert (files_of("run") == before[1]) == ("run" in folders)


def test_rows_without_any_caption_are_labelled_by_their_images(fitted, tmp_path):
    (tmp_path / "photos").mkdir()
    for row in range(3):
        picture(row + 800).save(tmp_path / "photos" / f"{row}.png")
    result = fitted("predict", "run", "--data", "photos", "-o", "out.csv", "--scores", "scores.csv")
    assert "photos has no captions: glove-50/mean not encoded" in result.stderr
    assert "glove-50/mean: 3 of 3 rows have no vector" in result.stderr
    with open("out.csv") as out, open("scores.csv") as scores:
        rows, columns = list(csv.DictReader(out)), next(csv.reader(scores))
    assert [(row["ImageID"], row["Missing"]) for row in rows] == [
        (f"{row}.png", "glove-50/mean") for row in range(3)
    ]
    assert columns == ["ImageID", "bird", "boat", "bus", "car", "cat", "dog"]


def test_rows_without_any_image_are_labelled_by_their_captions(fitted, tmp_path):
    (tmp_path / "captions.csv").write_text("id,caption\na,a dog and a cat\n")
    result = fitted("predict", "run", "--data", "captions.csv", "-o", "out.csv")
    assert "captions.csv has no images: efficientnet-lite0/pooled not encoded" in result.stderr
    assert (tmp_path / "out.csv").read_text().endswith("efficientnet-lite0/pooled\n")


def test_new_data_is_read_with_the_columns_that_extract_was_given(folder, run, tmp_path):
    root = folder(60)
    text = (root / "train.csv").read_text()
    (root / "train.csv").write_text(text.replace("ImageID,Labels,Caption", "file,kinds,said by", 1))
    named = ("--image-column", "file", "--caption-column", "said by", "--label-columns", "kinds")
    run("extract", "--encoder", "glove-50", *named)
    run("fit", "--head", "linear", "--run", "run")
    (tmp_path / "new.csv").write_text("said by,title\na dog,x\na cat,y\n")
    run("predict", "run", "--data", "new.csv", "-o", "out.csv")
    assert (tmp_path / "out.csv").read_text().count("\n") == 3
    (tmp_path / "other.csv").write_text(
        "caption\na dog\na cat\n"
    )  # none of these columns: as without options
    run("predict", "run", "--data", "other.csv", "-o", "out.csv")
    chosen = run(
        "predict", "run", "--data", "new.csv", "--caption-column", "nowhere", "-o", "out.csv", status=2
    )
    assert "nowhere" in chosen.stderr
