"""Arbitrary changes to the eval rows leave the model that is measured on them bit-identical."""

import json
from copy import deepcopy
from itertools import chain

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from encode_once.classify import fit, retune, sweep
from encode_once.classify.data.text import embeddings
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads.torch import training
from encode_once.classify.spec import FitSpec
from tests.invariants.conftest import WORDS, Data

CORPUS = ["tfidf:30", "word2vec:4/mean"]
VECTORS = ["e/image", "e/text"]
QUICK = {"epochs": 2, "hidden": [8], "progress": False, "device": "cpu"}
HEADS = {
    "linear": ([*VECTORS, *CORPUS], {"device": "cpu"}),
    "mlp": ([*VECTORS, *CORPUS], QUICK),
    "knn": (VECTORS, {"device": "cpu"}),
    "prototype": (VECTORS, {"device": "cpu"}),
    "gbm": (VECTORS, {"jobs": 1}),
    "forest": (VECTORS, {"jobs": 1}),
    "bigru": (["e/image", "word2vec:4/tokens"], {**QUICK, "hidden": 4, "width": 4}),
}
VOCABULARY = [*chain(*WORDS), *(f"new{number}" for number in range(50))]
KINDS = ["vectors", "captions", "labels", "all"]


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(embeddings, "EPOCHS", 1)
    monkeypatch.setattr(training, "MIN_BATCHES", 5)


def changed(data, rows, kind, seed=1):
    """The data with other, far larger vectors, longer captions or other labels in these rows."""
    other, rng = deepcopy(data), np.random.default_rng(seed)
    for row in rows:
        if kind in ("vectors", "all"):
            other.image[row] = 10 ** rng.uniform(-2, 3) * rng.normal(size=6)
            other.text[row] = 10 ** rng.uniform(-2, 3) * rng.normal(size=6)
        if kind in ("labels", "all"):
            other.labels[row] = rng.random(4) < 0.5
        if kind in ("captions", "all"):
            words = rng.choice(VOCABULARY, rng.integers(1, 30))
            other.captions[row] = " ".join([*words, f"changed{row}"])
    return other


def fitted(data, folder, head, split, tune="macro"):
    features, options = HEADS[head]
    store = data.save(folder)
    validation = "folds" if head == "linear" else "tenth"
    spec = FitSpec(head, features, options, split, decision=tune, validation=validation)
    run, _ = fit(store, spec, run=folder / "run", overwrite=True)
    return run


def learned(run):
    """All that a run learned: arrays, history, thresholds, and scores of the validation rows, as bytes."""
    content = {name: array.tobytes() for name, array in load_file(run.path / "weights.safetensors").items()}
    for name in ("thresholds.json", "history.csv"):
        content[name] = (run.path / name).read_bytes()
    with h5py.File(run.path / "scores.h5") as file:
        content |= {name: array[()].tobytes() for name, array in file["tune"].items() if name != "ids"}
    return content


@pytest.mark.parametrize("split", ["part", "tail:40"])
@pytest.mark.parametrize("head", HEADS)
def test_changes_to_the_eval_rows_leave_everything_learned_bit_identical(data, tmp_path, head, split):
    evaluated = np.arange(120, 160) if split == "tail:40" else np.arange(0, 160, 4)
    whole = fitted(data, tmp_path / "whole", head, split)
    before = learned(whole)
    kinds = KINDS if (head, split) == ("linear", "part") else ["all"]
    for kind in kinds:
        run = fitted(changed(data, evaluated, kind), tmp_path / kind, head, split)
        after = learned(run)
        assert before.keys() == after.keys()
        assert [name for name in before if before[name] != after[name]] == []
        if kind in ("vectors", "all"):
            assert not np.array_equal(whole.eval.scores, run.eval.scores)  # the rows did change


@pytest.mark.parametrize(("kind", "affected"), [("vectors", "mean"), ("captions", "tfidf:30")])
def test_changes_to_the_train_rows_are_noticed(data, tmp_path, kind, affected):
    before = learned(fitted(data, tmp_path / "whole", "linear", "part"))
    after = learned(fitted(changed(data, range(1, 160, 4), kind), tmp_path / kind, "linear", "part"))
    assert any(before[name] != after[name] for name in before if name.startswith(affected))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("linear", "vectors"),
        ("linear", "captions"),
        ("mlp", "vectors"),
        ("knn", "vectors"),
        ("gbm", "vectors"),
    ],
)
def test_a_folds_model_has_not_seen_the_fold(data, tmp_path, head, kind):
    folds = 3 if head == "gbm" else 2  # trees split no fewer rows than those of two of three folds
    whole = fitted(data, tmp_path / "whole", head, f"kfold:{folds}")
    for fold in range(folds):
        rows = np.flatnonzero(whole.eval.folds == fold)
        replaced, others = rows[::2], rows[1::2]
        run = fitted(changed(data, replaced, kind), tmp_path / f"{fold}", head, f"kfold:{folds}")
        np.testing.assert_array_equal(run.eval.folds, whole.eval.folds)
        np.testing.assert_array_equal(run.eval.scores[others], whole.eval.scores[others])
        assert not np.array_equal(run.eval.scores[replaced], whole.eval.scores[replaced])


@pytest.mark.parametrize("decision", [DecisionSpec(), DecisionSpec("micro", shrink=False),
                                    DecisionSpec(calibrate="isotonic"),
                                    DecisionSpec(decide="expected-f1")], ids=str)  # fmt: skip
def test_a_folds_thresholds_and_calibration_have_not_seen_the_fold(data, tmp_path, decision):
    run = fitted(data, tmp_path, "linear", "kfold:3")
    retune(run, decision)
    before = run.decision.as_json(run.record.classes)["folds"]
    scores, labels, rng = run.eval.scores.copy(), run.eval.labels.copy(), np.random.default_rng(0)
    for fold in range(3):
        rows = run.eval.folds == fold
        run.eval.scores[rows] = rng.random((rows.sum(), 4))
        run.eval.labels[rows] = rng.random((rows.sum(), 4)) < 0.5
        retune(run, decision)
        after = run.decision.as_json(run.record.classes)["folds"]
        assert json.dumps(after[fold]) == json.dumps(before[fold])
        assert all(after[other] != before[other] for other in range(3) if other != fold)
        run.eval.scores[:], run.eval.labels[:] = scores, labels


@pytest.mark.slow
def test_a_search_chooses_alike_whatever_the_eval_rows_are(data, tmp_path):
    """The eval rows of the second experiment have other vectors and labels, and so other figures."""
    rows = []
    for name, of_data in (("whole", data), ("all", changed(data, range(0, 160, 4), "all"))):
        settings = {"split": "part", "validation": "tenth", "trials": 3, "folder": tmp_path / name / "runs"}
        grid = {"forest": {"trees": [5], "jobs": [1]}}
        rows += sweep(of_data.save(tmp_path / name), ["forest"], features=VECTORS, grid=grid, **settings)
        tried = [*(tmp_path / name / "runs" / "search").glob("*/run.json")]
        assert len(tried) == 3
    assert rows[0]["settings"] == rows[1]["settings"]
    assert rows[0]["validation_samples_f1"] == rows[1]["validation_samples_f1"]
    assert rows[0]["samples_f1"] != rows[1]["samples_f1"]


def test_data_are_learnable(tmp_path):
    """Else nothing above would mean much."""
    run = fitted(Data.drawn(3), tmp_path, "linear", "part")
    right = (run.eval.scores >= 0.5) == run.eval.labels
    assert right.mean() > 0.8
