import json

import numpy as np
import pytest
import torch

from encode_once.cache.errors import DataError
from encode_once.classify import fit, heads
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.tables import choose_table
from encode_once.classify.heads import HEADS
from encode_once.classify.heads.checks import check_scores, require_finite
from encode_once.classify.runs.head_fitter import HeadFitter

CLASSES = ["cat", "dog", "tree"]


def calibrated(seed, n=200, spread=1.0):
    """Calibrated probabilities (n, 3) and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * spread - [0, 1, 2]
    p = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return p, rng.random((n, 3)) < p


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_values_that_are_not_finite_are_an_error(array):
    values = array([1.0, np.nan, -np.inf])
    with pytest.raises(DataError, match="weights of head x: 2 of 3 values are NaN or infinite"):
        require_finite(values, "weights of head x")
    assert require_finite(values[:1], "weights of head x")[0] == 1


def test_scores_that_are_not_finite_name_the_head_and_the_class():
    scores, Y = calibrated(0)
    scores[3, 1] = np.nan
    with pytest.raises(DataError, match=r"scores of head mlp for 1 of 3 classes \(dog\)"):
        check_scores("mlp", CLASSES, scores, Y, Y)


def test_constant_scores_are_reported_with_the_classes_and_their_positives():
    scores, Y = calibrated(0)
    train = Y.copy()
    train[:, 1], train[:4, 1] = False, True
    scores[:, 1] = 0.5
    (warning,) = check_scores("gbm", CLASSES, scores, Y, train)
    assert "head gbm" in warning
    assert "1 of 3 classes (dog)" in warning
    assert "4 to 4 positives in 200 train rows" in warning


@pytest.mark.parametrize("value", [False, True])
def test_a_class_that_is_constant_in_the_train_rows_may_have_constant_scores(value):
    scores, Y = calibrated(0)
    scores[:, 1] = value
    Y[:, 1] = value
    assert check_scores("gbm", CLASSES, scores, Y, Y) == []


@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_calibrated_probabilities_are_never_reported(spread):
    """Not even if there is nothing to learn, so that they are only noise around the frequencies."""
    for seed in range(100):
        scores, Y = calibrated(seed, spread=spread)
        assert check_scores("mlp", CLASSES, scores, Y, Y) == [], seed


def test_scores_against_the_labels_are_worse_than_the_frequencies():
    scores, Y = calibrated(1)
    scores[:, 0] = 1 - scores[:, 0]
    (warning,) = check_scores("mlp", CLASSES, scores, Y, Y)
    assert "worse than the class frequencies for 1 of 3 classes (cat)" in warning
    assert "200 validation rows" in warning


def test_confident_noise_is_worse_than_the_frequencies():
    _, Y = calibrated(1)
    scores = np.random.default_rng(5).choice([0.01, 0.99], size=Y.shape).astype(np.float32)
    assert "3 of 3 classes (cat, dog, tree)" in check_scores("mlp", CLASSES, scores, Y, Y)[0]


def test_a_wrong_level_of_a_good_ranking_is_not_reported():
    """As after training with a weighted loss: thresholds and calibration correct it."""
    scores, Y = calibrated(1)
    assert check_scores("mlp", CLASSES, scores**0.1, Y, Y) == []


def test_classes_too_rare_to_be_tested_alone_are_tested_together():
    rng = np.random.default_rng(0)
    Y = rng.permuted(
        np.eye(30, 60, dtype=bool) | np.eye(30, 60, 30, dtype=bool), axis=0
    )  # each in 1 of 30 rows
    scores = rng.choice([0.03, 0.1], size=Y.shape).astype(np.float32)
    names = [str(number) for number in range(60)]
    for k in range(60):
        assert check_scores("mlp", names[k : k + 1], scores[:, [k]], Y[:, [k]], Y[:, [k]]) == []
    (warning,) = check_scores("mlp", names, scores, Y, Y)
    assert "60 of 60 classes (0, 1, 2, …)" in warning


@pytest.fixture
def fitter(filled):
    """A function from the name of a head to its fitter on the rows of a store."""
    store = filled(n=100)
    samples = load_samples(store, (), choose_table(store, None))

    def make(name):
        table = samples.table
        keys = content_keys(table)
        return HeadFitter(name, {}, samples.X, samples.Y, table.ids, keys, 0, classes=samples.classes)

    return make


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_checked_when_a_run_fits_it(name, fitter, monkeypatch):
    head_class = heads.class_of(name)
    monkeypatch.setattr(head_class, "fit", lambda self, *_: self)

    def give_all_rows(score):
        for method in ("predict_proba", *(["fit_out_of_fold"] if heads.cross_fits(name) else [])):
            monkeypatch.setattr(
                head_class, method, lambda _, X, *args: np.full((len(X), 5), score, np.float32)
            )

    give_all_rows(0.5)
    (warning,) = fitter(name).fit(np.arange(100)).warnings
    assert f"head {name} gives all validation rows the same score for 5 of 5 classes (9, 10, cat" in warning
    give_all_rows(np.nan)
    with pytest.raises(DataError, match=f"scores of head {name} for 5 of 5 classes"):
        fitter(name).fit(np.arange(100))


@pytest.mark.parametrize("split", ["stratified:0.1", "kfold:2"])
def test_warnings_reach_run_json_and_the_command_line(split, filled, run, tmp_path):
    store = filled()
    words = ("--store", store.path, "--run", tmp_path / "run", "--split", split, "--set", "min_rows=1000")
    words += ("--validation", "tenth")
    result = run("fit", "--head", "gbm", *words)
    warnings = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    expected = "head gbm gives all validation rows the same score for 5 of 5 classes"
    lines = [line for line in warnings if expected in line]
    for line in lines:
        assert line in result.stderr
    if split == "kfold:2":
        assert lines[0].startswith(("2 of 2 folds: ", "2 of 2 folds, such as fold 1: "))
        lines = lines[1:]  # the other is of the scores of all folds
    assert [line.startswith(expected) for line in lines] == [True] * len(lines)


def test_a_sound_fit_has_no_warnings(filled, tmp_path):
    fitted, _ = fit(filled(), "linear", run=tmp_path / "run")
    assert fitted.record.warnings == []
