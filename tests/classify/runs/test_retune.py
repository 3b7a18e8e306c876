from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.cache.keys import content_key, pack
from encode_once.classify import measure_kept, retune
from encode_once.classify.decisions.calibration import Calibration
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.runs.retune import COMPARED_RULES, compare_rules, tuned_on_eval
from encode_once.classify.runs.run import Model, Run, RunRecord
from encode_once.classify.spec import FitSpec


def scored(seed, n=60, folds=None):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < [0.2, 0.5, 0.7]
    scores = (0.3 * labels + 0.7 * rng.random((n, 3))).astype(np.float32)
    ids = [str(row) for row in range(n)]
    return ScoredRows(ids, scores, labels, folds, keys=pack(content_key(name.encode()) for name in ids))


def a_run(tune_on="inner", folds=None):
    spec = FitSpec("linear", split="tail:60", tune_on=tune_on)
    record = RunRecord(
        {}, ["a", "b", "c"], "store", "train.csv", "ImageID", " ", created="", warnings=["a warning"]
    )
    model = Model(np.zeros(2, np.float32), np.ones(2, np.float32), None, {})
    evaluated = scored(1, folds=folds)
    tuned = evaluated if folds is not None else scored(0)
    decision = DecisionSpec().fit(tuned.scores, tuned.labels)
    return Run(Path("run"), spec, record, model, tuned, evaluated, None, decision)


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


@pytest.mark.parametrize("tuning", TUNINGS, ids=str)
@pytest.mark.parametrize(("tune_on", "said"), [("inner", "inner: 60 of"), ("eval", "eval: the 60 rows")])
def test_decisions_come_from_the_rows_they_are_said_to_come_from(tuning, tune_on, said):
    run = a_run(tune_on)
    metrics, predictions = retune(run, tuning)
    source = run.eval if tune_on == "eval" else run.validation
    expected = tuning.fit(source.scores, source.labels)
    np.testing.assert_array_equal(run.decision.thresholds, expected.thresholds)
    np.testing.assert_array_equal(predictions, expected(run.eval.scores))
    assert run.decision.spec == tuning
    assert metrics["objective"] == (tuning.objective if tuning.decide == "thresholds" else "expected-f1")
    assert metrics["decided"] == str(tuning)
    assert metrics["tuned_on"].startswith("nothing" if tuning.objective == "none" else said)
    assert tuned_on_eval(run) == (tune_on == "eval" and tuning.objective != "none")
    assert_measured(metrics, predictions, run)


@pytest.mark.parametrize("tuning", TUNINGS[:-1], ids=str)
def test_no_row_of_a_cross_validation_has_a_say_in_its_own_labels(tuning):
    folds = np.arange(60) % 4
    run = a_run(folds=folds)
    metrics, predictions = retune(run, tuning)
    for fold in range(4):
        others, mine = folds != fold, folds == fold
        decided = tuning.fit(run.eval.scores[others], run.eval.labels[others])
        np.testing.assert_array_equal(predictions[mine], decided(run.eval.scores[mine]))
    kept = tuning.fit(run.eval.scores, run.eval.labels)
    np.testing.assert_array_equal(run.decision.thresholds, kept.thresholds)
    assert "out-of-fold" in metrics["tuned_on"]
    assert_measured(metrics, predictions, run)


def test_a_kept_decision_is_measured_as_it_is():
    run = a_run()
    run.decision = DecisionRule(DecisionSpec(), ThresholdEstimate(np.array([0.2, 0.9, 0.4])))
    metrics, predictions = measure_kept(run)
    np.testing.assert_array_equal(predictions, run.eval.scores >= [0.2, 0.9, 0.4])
    assert run.decision.thresholds.tolist() == [0.2, 0.9, 0.4]
    assert [row["threshold"] for row in metrics["per_class"]] == [0.2, 0.9, 0.4]
    assert [row["interval"] for row in metrics["per_class"]] == [None] * 3
    assert_measured(metrics, predictions, run)


def test_each_class_tells_its_cut_and_how_far_to_trust_it():
    metrics, _ = retune(run := a_run(), DecisionSpec("macro"))
    assert list(metrics["per_class"][0])[:3] == ["label", "threshold", "interval"]
    for row, cut, ends in zip(
        metrics["per_class"], run.decision.thresholds, run.decision.estimate.intervals, strict=True
    ):
        assert row["threshold"] == cut
        assert row["interval"] == ends.tolist()
    metrics, _ = retune(run, DecisionSpec(decide="expected-f1"))
    assert all(row["threshold"] is row["interval"] is None for row in metrics["per_class"])


def test_calibrated_scores_are_what_is_measured():
    run = a_run()
    before, _ = retune(run, DecisionSpec("none"))
    after, _ = retune(run, DecisionSpec(calibrate="sigmoid"))
    assert after["calibration_error"] < before["calibration_error"]
    assert after["mAP"] == pytest.approx(before["mAP"])  # a rising function changes no ranking


def test_no_row_has_a_say_in_its_own_probability():
    run = a_run(folds=np.arange(60) % 4)
    metrics, _ = retune(run, DecisionSpec(calibrate="isotonic"))
    likely = np.empty_like(run.eval.scores)
    for fold in range(4):
        mine = run.eval.folds == fold
        learned = Calibration.fitted("isotonic", run.eval.scores[~mine], run.eval.labels[~mine])
        likely[mine] = learned(run.eval.scores[mine])
    expected = measure(run.eval.labels, likely > 0.5, likely, run.record.classes)
    for name in ("calibration_error", "mAP", "ranking_loss"):
        assert metrics[name] == pytest.approx(expected[name])
    assert metrics["calibration_error"] > 0.01


def test_a_fixed_cut_is_tuned_on_nothing():
    run = a_run(tune_on="eval")
    metrics, predictions = retune(run, DecisionSpec("at:0.375"))
    assert metrics["decided"] == "0.375 is the threshold of every class"
    assert (predictions == (run.eval.scores >= 0.375)).all()
    assert measure_kept(run)[0] == metrics


def test_a_run_is_compared_under_each_rule_and_keeps_its_own():
    run = a_run()
    before = run.decision
    rows = compare_rules([run])
    assert run.decision is before
    assert [row["thresholds"] for row in rows] == [*COMPARED_RULES]
    for row, spec in zip(rows, COMPARED_RULES.values(), strict=True):
        assert (row["run"], row["head"]) == ("run", "linear")
        predictions = spec.fit(run.validation.scores, run.validation.labels)(run.eval.scores)
        for average in ("micro", "macro", "samples"):
            expected = f1_score(run.eval.labels, predictions, average=average, zero_division=0)
            assert row[f"{average}_f1"] == pytest.approx(expected)
