from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from classify import measure_kept, retune
from classify.runs import Model, Run, Scored, Settings
from classify.thresholds import tune


def scored(seed, n=60, folds=None):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < [0.2, 0.5, 0.7]
    scores = (0.3 * labels + 0.7 * rng.random((n, 3))).astype(np.float32)
    return Scored([str(row) for row in range(n)], scores, labels, folds)


def a_run(tune_on="inner", folds=None):
    settings = Settings(
        head="linear",
        options={},
        features={},
        classes=["a", "b", "c"],
        split="tail:60",
        objective="macro",
        tune_on=tune_on,
        seed=0,
        store="store",
        table="train.csv",
        id_column="ImageID",
        label_separator=" ",
        created="",
        warnings=["a warning"],
    )
    model = Model(np.zeros(2, np.float32), np.ones(2, np.float32), None, {})
    evaluated = scored(1, folds=folds)
    return Run(Path("run"), settings, model, evaluated if folds is not None else scored(0), evaluated, None)


def assert_measured(metrics, predictions, run):
    for average in ("micro", "macro", "samples"):
        expected = f1_score(run.eval.labels, predictions, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    assert metrics["warnings"] == ["a warning"]
    assert metrics["split"] == "tail:60"


@pytest.mark.parametrize("objective", ["macro", "micro", "global-micro", "none"])
@pytest.mark.parametrize(("tune_on", "said"), [("inner", "inner: 60 of"), ("eval", "eval: the 60 rows")])
def test_thresholds_come_from_the_rows_they_are_said_to_come_from(objective, tune_on, said):
    run = a_run(tune_on)
    metrics, predictions = retune(run, objective)
    source = run.eval if tune_on == "eval" else run.tune
    np.testing.assert_array_equal(run.thresholds, tune(source.scores, source.labels, objective))
    np.testing.assert_array_equal(predictions, run.eval.scores >= run.thresholds)
    assert run.settings.objective == metrics["objective"] == objective
    assert metrics["tuned_on"].startswith("nothing" if objective == "none" else said)
    assert_measured(metrics, predictions, run)


def test_no_row_of_a_cross_validation_has_a_say_in_its_own_thresholds():
    folds = np.arange(60) % 4
    run = a_run(folds=folds)
    metrics, predictions = retune(run, "macro")
    for row in range(60):
        others = folds != folds[row]
        cuts = tune(run.eval.scores[others], run.eval.labels[others], "macro")
        np.testing.assert_array_equal(predictions[row], run.eval.scores[row] >= cuts)
    np.testing.assert_array_equal(run.thresholds, tune(run.eval.scores, run.eval.labels, "macro"))
    assert "out-of-fold" in metrics["tuned_on"]
    assert_measured(metrics, predictions, run)


def test_kept_thresholds_are_measured_as_they_are():
    run = a_run()
    run.thresholds = np.array([0.2, 0.9, 0.4])
    metrics, predictions = measure_kept(run)
    np.testing.assert_array_equal(predictions, run.eval.scores >= [0.2, 0.9, 0.4])
    assert run.thresholds.tolist() == [0.2, 0.9, 0.4]
    assert [row["threshold"] for row in metrics["per_class"]] == [0.2, 0.9, 0.4]
    assert_measured(metrics, predictions, run)


def test_a_fixed_cut_is_tuned_on_nothing():
    run = a_run(tune_on="eval")
    metrics, predictions = retune(run, "at:0.375")
    assert metrics["tuned_on"] == "nothing: 0.375 is the cut of every class"
    assert (predictions == (run.eval.scores >= 0.375)).all()
    assert measure_kept(run)[0] == metrics
