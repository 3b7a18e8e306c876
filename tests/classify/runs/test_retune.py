from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.cache import UsageError
from encode_once.cache.keys import content_key, pack
from encode_once.classify import measure_kept, retune
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.runs.model import Model
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.runs.retune import COMPARED_RULES, compare_rules, tuned_on_eval
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec


def scored(seed, n=60, folds=None):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < [0.2, 0.5, 0.7]
    scores = (0.3 * labels + 0.7 * rng.random((n, 3))).astype(np.float32)
    ids = [str(row) for row in range(n)]
    return ScoredRows(ids, scores, labels, folds, keys=pack(content_key(name.encode()) for name in ids))


def make_run(tune_on="inner", folds=None):
    spec = FitSpec("linear", split="tail:60", tune_on=tune_on)
    record = RunRecord(
        {}, ["a", "b", "c"], "store", "train.csv", "ImageID", " ", created="", warnings=["a warning"]
    )
    model = Model(np.zeros(2, np.float32), np.ones(2, np.float32), None, {})
    evaluated = scored(1, folds=folds)
    tuned = evaluated if folds is not None else scored(0)
    decision = DecisionSpec().fit(tuned.scores, tuned.labels)
    return Run(Path("run"), spec, record, lambda: model, tuned, evaluated, None, decision)


def assert_measured(metrics, predictions, run):
    for average in ("micro", "macro", "samples"):
        expected = f1_score(run.eval.labels, predictions, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    assert metrics["warnings"] == ["a warning"]
    assert metrics["split"] == "tail:60"


TUNINGS = [
    DecisionSpec("macro"),
    DecisionSpec("micro", shrink=False),
    DecisionSpec("global-micro", at_least=1),
    DecisionSpec(decide="expected-f1"),
    DecisionSpec("none"),
]


@pytest.mark.parametrize("decision", TUNINGS, ids=str)
@pytest.mark.parametrize(
    ("tune_on", "tuned_on"), [("inner", "60 validation rows"), ("eval", "eval: the 60 rows")]
)
def test_the_decision_rule_is_fitted_on_the_rows_that_the_metrics_name(decision, tune_on, tuned_on):
    run = make_run(tune_on)
    metrics, predictions = retune(run, decision)
    source = run.eval if tune_on == "eval" else run.validation
    expected = decision.fit(source.scores, source.labels)
    np.testing.assert_array_equal(run.decision.thresholds, expected.thresholds)
    np.testing.assert_array_equal(predictions, expected(run.eval.scores))
    assert run.decision.spec == decision
    assert metrics["objective"] == (decision.objective if decision.decide == "thresholds" else "expected-f1")
    assert metrics["decided"].startswith(str(decision))
    assert metrics["tuned_on"].startswith("nothing" if decision.objective == "none" else tuned_on)
    assert tuned_on_eval(run) == (tune_on == "eval" and decision.objective != "none")
    assert_measured(metrics, predictions, run)


@pytest.mark.parametrize("decision", TUNINGS[:-1], ids=str)
def test_a_cross_validated_row_does_not_affect_its_own_labels(decision):
    folds = np.arange(60) % 4
    run = make_run(folds=folds)
    metrics, predictions = retune(run, decision)
    for fold in range(4):
        others, rows = folds != fold, folds == fold
        rule = decision.fit(run.eval.scores[others], run.eval.labels[others])
        np.testing.assert_array_equal(predictions[rows], rule(run.eval.scores[rows]))
    rule = decision.fit(run.eval.scores, run.eval.labels)
    np.testing.assert_array_equal(run.decision.thresholds, rule.thresholds)
    assert np.isfinite(run.decision.thresholds).all()
    assert "out-of-fold" in metrics["tuned_on"]
    assert_measured(metrics, predictions, run)


def test_a_saved_decision_rule_is_measured_unchanged():
    run = make_run()
    run.decision = DecisionRule(DecisionSpec("macro"), ThresholdEstimate(np.array([0.2, 0.9, 0.4])))
    metrics, predictions = measure_kept(run)
    np.testing.assert_array_equal(predictions, run.eval.scores >= [0.2, 0.9, 0.4])
    assert run.decision.thresholds.tolist() == [0.2, 0.9, 0.4]
    assert [row["threshold"] for row in metrics["per_class"]] == [0.2, 0.9, 0.4]
    assert [row["interval"] for row in metrics["per_class"]] == [None] * 3
    assert_measured(metrics, predictions, run)


def test_metrics_are_those_of_the_calibrated_scores():
    run = make_run()
    before, _ = retune(run, DecisionSpec("none"))
    after, _ = retune(run, DecisionSpec(calibrate="sigmoid"))
    assert after["calibration_error"] < before["calibration_error"]
    assert after["mAP"] == pytest.approx(before["mAP"])  # a rising function changes no ranking


def test_a_fixed_threshold_is_tuned_on_nothing():
    run = make_run(tune_on="eval")
    metrics, predictions = retune(run, DecisionSpec("at:0.375"))
    assert metrics["decided"] == "0.375 is the threshold of every class"
    assert (predictions == (run.eval.scores >= 0.375)).all()
    assert measure_kept(run)[0] == metrics


def test_a_run_is_compared_under_each_rule_and_keeps_its_own():
    run = make_run()
    before = run.decision
    own, *others = compare_rules(run, measure_kept(run)[0])
    assert run.decision is before
    assert own["micro_f1"] == measure_kept(run)[0]["micro_f1"]
    assert [row["rule"] for row in others] == [*COMPARED_RULES]
    for row, spec in zip(others, COMPARED_RULES.values(), strict=True):
        predictions = spec.fit(run.validation.scores, run.validation.labels)(run.eval.scores)
        for average in ("micro", "macro", "samples"):
            expected = f1_score(run.eval.labels, predictions, average=average, zero_division=0)
            assert row[f"{average}_f1"] == pytest.approx(expected)


def test_thresholds_by_hand_label_the_rows_and_stay_when_bounds_change():
    run = make_run()
    run.decision = DecisionRule.by_hand(np.array([0.3, 0.5, 2.0]))
    metrics, predictions = retune(run, run.decision.spec)
    np.testing.assert_array_equal(predictions, run.eval.scores.astype(np.float64) >= [0.3, 0.5, 2.0])
    assert_measured(metrics, predictions, run)
    assert metrics["tuned_on"] == "nothing: they were chosen by hand"
    assert not predictions[:, 2].any()
    _, bounded = retune(run, replace(run.decision.spec, at_most=1))
    assert bounded.sum(axis=1).max() == 1
    np.testing.assert_array_equal(run.decision.thresholds, [0.3, 0.5, 2.0])
    with pytest.raises(UsageError, match="come from a file"):
        run.decision.spec.fit(run.eval.scores, run.eval.labels)
