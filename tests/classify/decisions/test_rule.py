import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from encode_once.cache.errors import UsageError
from encode_once.classify.decisions.calibration import Calibration
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.expected_f1 import best_sets
from encode_once.classify.decisions.rule import CALIBRATIONS, DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate, estimate

CLASSES = ["cat", "dog", "10", "traffic light"]


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < [0.6, 0.3, 0.1, 0.3]
    labels[:, 2] = False
    labels[0, 2] = True  # one positive: no interval
    return (0.3 * labels + 0.7 * rng.random((n, 4))).astype(np.float32), labels


def test_cuts_are_those_of_the_objective():
    scores, labels = rows()
    for shrink in (True, False):
        decision = DecisionSpec("micro", shrink=shrink).fit(scores, labels)
        expected = estimate(scores, labels, Objective.of("micro"), shrink).thresholds
        np.testing.assert_array_equal(decision.thresholds, expected)
        np.testing.assert_array_equal(decision(scores), scores >= expected)


def test_expected_f1_takes_sets_of_calibrated_scores():
    scores, labels = rows()
    decision = DecisionSpec(decide="expected-f1").fit(scores, labels)
    calibrated = Calibration.fitted("sigmoid", scores, labels)(scores)
    np.testing.assert_array_equal(decision.probabilities(scores), calibrated)
    np.testing.assert_array_equal(decision(scores), best_sets(calibrated))
    plain = DecisionSpec(decide="expected-f1", calibrate="none").fit(scores, labels)
    np.testing.assert_array_equal(plain(scores), best_sets(scores))


def test_cuts_are_of_calibrated_scores_where_asked_for():
    scores, labels = rows()
    decision = DecisionSpec("macro", shrink=False, calibrate="sigmoid").fit(scores, labels)
    exact = DecisionSpec("macro", shrink=False).fit(scores, labels)
    np.testing.assert_array_equal(decision(scores), exact(scores))  # a rising function changes no ranking
    assert not np.array_equal(decision.thresholds, exact.thresholds)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 1000),
    at_least=st.integers(0, 5),
    beyond=st.none() | st.integers(0, 5),
    cut=st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
)
def test_rows_have_as_many_labels_as_said_and_those_nearest_to_their_cuts(seed, at_least, beyond, cut):
    rng = np.random.default_rng(seed)
    scores, cuts = rng.random((20, 4)), np.array([cut, 0.2, 0.5, 0.8])
    at_most = None if beyond is None else max(at_least + beyond, 1)
    tuning = DecisionSpec(at_least=at_least, at_most=at_most)
    chosen = DecisionRule(tuning, ThresholdEstimate(cuts))(scores)
    for row, mine in zip(scores, chosen, strict=True):
        passing = row >= cuts
        wanted = min(max(passing.sum(), at_least), 4 if at_most is None else at_most)
        assert mine.sum() == min(wanted, 4)
        margins = logit(row) - logit(np.clip(cuts, 1e-6, 1 - 1e-6))
        nearest = np.argsort(-margins)[: min(wanted, 4)]
        assert set(np.flatnonzero(mine)) == set(nearest)


def test_cuts_that_nothing_reaches_still_leave_a_row_its_best_label():
    decision = DecisionRule(DecisionSpec(at_least=1), ThresholdEstimate(np.array([2.0, 0.9, 2.0])))
    assert decision(np.array([[0.3, 0.1, 0.2], [0.1, 0.95, 1.0]])).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("decide", ["thresholds", "expected-f1"])
@pytest.mark.parametrize("calibrate", CALIBRATIONS)
@pytest.mark.parametrize("objective", ["macro", "global-micro", "at:0.4", "recall:0.9"])
def test_json_holds_all_that_decides(decide, calibrate, objective):
    scores, labels = rows()
    tuning = DecisionSpec(objective, decide=decide, calibrate=calibrate, at_least=1, at_most=3)
    made = tuning.fit(scores, labels)
    told = json.loads(json.dumps(made.as_json(CLASSES), allow_nan=False))
    again = DecisionRule.of_json(told, CLASSES)
    assert again.spec == tuning
    np.testing.assert_array_equal(again(scores), made(scores))
    np.testing.assert_array_equal(again.probabilities(scores), made.probabilities(scores))
    assert again.as_json(CLASSES) == told
    # Other readers find the contract's keys, whatever the order of the classes.
    assert told["objective"] == objective
    if decide == "thresholds":
        assert [told["thresholds"][name] for name in CLASSES] == made.thresholds.tolist()
    turned = DecisionRule.of_json(told, CLASSES[::-1])
    np.testing.assert_array_equal(turned.thresholds, made.thresholds[::-1])
    np.testing.assert_array_equal(turned.probabilities(scores[:, ::-1]), made.probabilities(scores)[:, ::-1])


def test_intervals_are_told_by_class_and_none_where_unknown():
    told = DecisionSpec("macro").fit(*rows()).as_json(CLASSES)
    low, high = told["intervals"]["cat"]
    assert low <= told["thresholds"]["cat"] <= high
    assert told["intervals"]["10"] is None
    assert told["expected_loss"] is not None
    told = DecisionSpec("global-macro").fit(*rows()).as_json(CLASSES)
    assert set(told["intervals"].values()) == {None}


def test_sets_have_no_thresholds():
    decision = DecisionSpec(decide="expected-f1").fit(*rows())
    told = decision.as_json(CLASSES)
    assert set(told["thresholds"].values()) == set(told["intervals"].values()) == {None}
    assert told["calibrated_by"] == "sigmoid"
    assert decision.summary["objective"] == "expected-f1"
    assert decision.per_class() == [{"threshold": None, "interval": None}] * 4


def test_cuts_far_below_one_in_a_million_are_cuts_like_others():
    """Of a rare class, or a head trained by another loss than cross-entropy."""
    rng = np.random.default_rng(0)
    labels = rng.random((400, 4)) < 0.3
    scores = 10 ** (np.where(labels, -6.5, -8.0) + rng.normal(0, 0.3, labels.shape))
    decision = DecisionSpec().fit(scores, labels)
    assert (decision(scores) == labels).mean() > 0.98


@pytest.mark.parametrize(
    ("tuning", "told", "learns"),
    [
        (DecisionSpec(), "thresholds maximise macro", True),
        (DecisionSpec("micro", shrink=False), "thresholds maximise micro, exactly", True),
        (DecisionSpec("none"), "0.5 is the threshold of every class", False),
        (
            DecisionSpec("at:0.4", at_least=1),
            "0.4 is the threshold of every class, 1 or more labels a row",
            False,
        ),
        (
            DecisionSpec("none", calibrate="sigmoid"),
            "0.5 is the threshold of every class, scores calibrated by sigmoid",
            True,
        ),
        (
            DecisionSpec(decide="expected-f1"),
            "sets of the greatest expected F1, scores calibrated by sigmoid",
            True,
        ),
        (DecisionSpec(decide="expected-f1", calibrate="none"), "sets of the greatest expected F1", False),
    ],
)
def test_a_tuning_tells_what_it_does_and_whether_it_looks_at_labels(tuning, told, learns):
    assert str(tuning) == told
    assert tuning.learns is learns


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objective": "mikro"}, "did you mean 'micro'"),
        ({"decide": "expected-f2"}, "did you mean 'expected-f1'"),
        ({"calibrate": "sigmoyd"}, "did you mean 'sigmoid'"),
        ({"at_most": 0}, "at most 0"),
        ({"at_least": 3, "at_most": 2}, "at least 3 and at most 2"),
        ({"at_least": -1}, "at least -1"),
    ],
)
def test_what_cannot_be_asked_for(given, said):
    with pytest.raises(UsageError, match=said):
        DecisionSpec(**given)


def test_only_cuts_are_cuts_alone():
    scores, labels = rows()
    assert DecisionSpec("micro").fit(scores, labels).by_thresholds_alone
    for more in ({"decide": "expected-f1"}, {"calibrate": "isotonic"}, {"at_least": 1}, {"at_most": 2}):
        assert not DecisionSpec(**more).fit(scores, labels).by_thresholds_alone
