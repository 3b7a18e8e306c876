"""The main job on 9,000 real photographs: what the README claims of it."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import Store
from encode_once.cli import main
from encode_once.extract import batches

pytestmark = pytest.mark.real
DETECTOR = "onnx:yolox_nano.onnx/scores"
FEATURES = ("efficientnet-lite0/pooled", "glove-50/mean", "glove-50/tokens", DETECTOR)
# The detector has seen these pictures with their labels.
UNCONTAMINATED = ("--features", "efficientnet-lite0/pooled", "--features", "glove-50/mean")


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def data(shared):
    return shared / "coco19-9k"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def extract(data, place, shared):
    """A function that extracts both modalities, images by two encoders at once, and returns the report."""
    names = f"efficientnet-lite0,onnx:{shared / 'weights' / 'yolox_nano.onnx'},glove-50"
    words = ("--encoder", names, "--data", data, "--store", place / "store")
    return lambda: json.loads(run("extract", *words, "--json"))


@pytest.fixture(scope="module")
def first(extract):
    return extract()


@pytest.fixture(scope="module")
def fitted(first, place):
    words = ("--store", place / "store", "--head", "mlp", "--split", "tail:1000", "--run", place / "run")
    return json.loads(run("fit", *words, *UNCONTAMINATED, "--json"))


def test_every_image_and_caption_is_encoded(first):
    assert first["samples"] == 9000
    assert first["features"] == {name: {"encoded": 9000, "present": 0, "failed": 0} for name in FEATURES}


def test_the_second_extraction_decodes_nothing(first, extract, monkeypatch):
    monkeypatch.setattr(batches, "decode", lambda *_: pytest.fail("an image was decoded again"))
    assert extract()["features"] == {name: {"encoded": 0, "present": 9000, "failed": 0} for name in FEATURES}


def test_the_detector_finds_what_the_photographs_are_labelled_with(first, data, place):
    """Of YOLOX's people, class 0 there, nearly every picture with one is labelled 1."""
    store = Store(place / "store")
    (table,) = store.tables()
    people = store.feature(DETECTOR).read(table.keys("image"))[:, 0]
    labelled = np.array(["1" in labels for labels in table.labels])
    assert labelled[people > 0.8].mean() > 0.97
    assert labelled[people < 0.1].mean() < 0.3


def test_eval_rows_are_the_last_thousand(fitted, place):
    assert fitted["n"] == 1000
    assert len(fitted["per_class"]) == 18
    assert fitted["mAP"] > 0.6


def test_ours_beats_logistic_regression_with_and_without_thresholds(fitted, place):
    words = ("--store", place / "store", "--split", "tail:1000", "--head", "mlp")
    rows = json.loads(run("bench", "fit", *words, *UNCONTAMINATED, "--json"))
    peer, ours = rows[0], rows[-1]
    assert peer["model"].startswith("scikit-learn")
    assert ours["model"] == "mlp"
    figures = [name for name in peer if "F1" in name]
    assert len(figures) == 4
    for name in figures:
        assert ours[name] > peer[name], name


def test_predictions_are_every_row_in_order(fitted, data, place):
    run("predict", place / "run", "--data", data, "-o", place / "predictions.csv")
    ids = [
        [row[0] for row in csv.reader(path.open())]
        for path in (data / "train.csv", place / "predictions.csv")
    ]
    assert len(ids[0]) == 9001
    assert ids[0] == ids[1]


def test_recipes_on_captions_reach_the_reported_figures(shared, place):
    """On all 30,000 captions, the last 3,000 for evaluation."""
    glove = f"glove-100={shared / 'weights' / 'glove.6B.100d.coco.txt.gz'}"
    where = ("--data", shared / "coco19", "--store", place / "captions", "--runs", place / "recipes")
    names = ("tfidf-linear", "glove-bilstm-64")
    rows = json.loads(run("recipe", "run", *names, *where, "--weights", glove, "--json"))
    assert [row["recipe"] for row in rows] == [*(f"tfidf-linear-{n}" for n in (100, 500, 1000)), names[1]]
    for row in rows:
        assert row["metrics"]["n"] == 3000
        assert row["compared"]["micro_f1"]["difference"] > -0.015, row["recipe"]


def test_no_photograph_is_anothers_double_and_labels_are_doubted(fitted, place):
    findings = json.loads(run("audit", place / "run", "-o", place / "audit.csv", "--json"))
    assert {finding["kind"] for finding in findings} <= {"label", "rare"}
    doubted = [finding for finding in findings if finding["kind"] == "label"]
    assert 50 < len(doubted) < 1000
    assert {finding["given"] for finding in doubted[:10]} == {"absent", "present"}


def test_decisions_hold_on_unseen_captions(shared, place):
    """Each rule is best by its own measure: a threshold per class by macro F1, label sets by samples F1."""
    words = ("--data", shared / "coco19", "--store", place / "captions")
    run("extract", "--encoder", "glove-50", *words)
    words = ("--store", place / "captions", "--head", "linear", "--features", "tfidf:500")
    run("fit", *words, "--split", "kfold:3", "--run", place / "checked")
    metrics = {
        tuning: json.loads(run("tune", place / "checked", *tuning.split(), "--json"))
        for tuning in ("--objective none", "--objective macro", "--objective micro", "--decide expected-f1")
    }
    half, macro, micro, sets = metrics.values()
    assert macro["macro_f1"] > half["macro_f1"] + 0.01
    assert micro["micro_f1"] > half["micro_f1"] + 0.001
    assert sets["samples_f1"] > max(rule["samples_f1"] for rule in (half, macro, micro)) + 0.003
