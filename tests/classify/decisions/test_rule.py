import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from encode_once.cache.errors import UsageError
from encode_once.classify.decisions.calibration import Calibration
from encode_once.classify.decisions.expected_f1 import best_sets
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import CALIBRATIONS, DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate, estimate

CLASSES = ["cat", "dog", "10", "traffic light"]


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < [0.6, 0.3, 0.1, 0.3]
    labels[:, 2] = False
    labels[0, 2] = True  # one positive: no interval
    return (0.3 * labels + 0.7 * rng.random((n, 4))).astype(np.float32), labels


def test_thresholds_are_those_of_the_objective():
    scores, labels = rows()
    for shrink in (True, False):
        rule = DecisionSpec("micro", shrink=shrink).fit(scores, labels)
        expected = estimate(scores, labels, Objective.of("micro"), shrink).thresholds
        np.testing.assert_array_equal(rule.thresholds, expected)
        np.testing.assert_array_equal(rule(scores), scores >= expected)


def test_expected_f1_takes_sets_of_calibrated_scores():
    scores, labels = rows()
    rule = DecisionSpec(decide="expected-f1").fit(scores, labels)
    calibrated = Calibration.fitted("sigmoid", scores, labels)(scores)
    np.testing.assert_allclose(rule.probabilities(scores), calibrated, atol=1e-12)
    np.testing.assert_array_equal(rule(scores), best_sets(calibrated))
    plain = DecisionSpec(decide="expected-f1", calibrate="none").fit(scores, labels)
    np.testing.assert_array_equal(plain(scores), best_sets(scores))


def test_thresholds_apply_to_calibrated_scores_on_request():
    scores, labels = rows()
    rule = DecisionSpec("macro", shrink=False, calibrate="sigmoid").fit(scores, labels)
    exact = DecisionSpec("macro", shrink=False).fit(scores, labels)
    np.testing.assert_array_equal(rule(scores), exact(scores))  # a rising function changes no ranking
    assert not np.array_equal(rule.thresholds, exact.thresholds)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 1000),
    at_least=st.integers(0, 5),
    beyond=st.none() | st.integers(0, 5),
    threshold=st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
)
def test_rows_within_bounds_have_the_labels_nearest_to_their_thresholds(seed, at_least, beyond, threshold):
    rng = np.random.default_rng(seed)
    scores, thresholds = rng.random((20, 4)), np.array([threshold, 0.2, 0.5, 0.8])
    at_most = None if beyond is None else max(at_least + beyond, 1)
    spec = DecisionSpec(at_least=at_least, at_most=at_most)
    predictions = DecisionRule(spec, ThresholdEstimate(thresholds))(scores)
    for row, chosen in zip(scores, predictions, strict=True):
        passing = row >= thresholds
        count = min(max(passing.sum(), at_least), 4 if at_most is None else at_most, 4)
        assert chosen.sum() == count
        margins = logit(row) - logit(np.clip(thresholds, 1e-6, 1 - 1e-6))
        assert set(np.flatnonzero(chosen)) == set(np.argsort(-margins)[:count])


def test_a_row_that_reaches_no_threshold_keeps_its_best_label():
    rule = DecisionRule(DecisionSpec(at_least=1), ThresholdEstimate(np.array([2.0, 0.9, 2.0])))
    assert rule(np.array([[0.3, 0.1, 0.2], [0.1, 0.95, 1.0]])).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("decide", ["thresholds", "expected-f1"])
@pytest.mark.parametrize("calibrate", CALIBRATIONS)
@pytest.mark.parametrize("objective", ["macro", "global-micro", "at:0.4", "recall:0.9"])
def test_a_rule_survives_json(decide, calibrate, objective):
    scores, labels = rows()
    spec = DecisionSpec(objective, decide=decide, calibrate=calibrate, at_least=1, at_most=3)
    rule = spec.fit(scores, labels)
    content = json.loads(json.dumps(rule.as_json(CLASSES), allow_nan=False))
    again = DecisionRule.of_json(content, CLASSES)
    assert again.spec == spec
    np.testing.assert_array_equal(again(scores), rule(scores))
    np.testing.assert_array_equal(again.probabilities(scores), rule.probabilities(scores))
    assert again.as_json(CLASSES) == content
    # The keys of the contract; the order of the classes does not matter.
    assert content["objective"] == objective
    if decide == "thresholds":
        assert [content["thresholds"][name] for name in CLASSES] == rule.thresholds.tolist()
    reverse = DecisionRule.of_json(content, CLASSES[::-1])
    np.testing.assert_array_equal(reverse.thresholds, rule.thresholds[::-1])
    np.testing.assert_array_equal(reverse.probabilities(scores[:, ::-1]), rule.probabilities(scores)[:, ::-1])


@pytest.mark.parametrize("precedence", [CLASSES[:3], [*CLASSES[:3], "cat"], [*CLASSES, "cat"]])
def test_a_precedence_that_does_not_name_each_class_once_is_refused(precedence):
    content = DecisionSpec().fit(*rows()).as_json(CLASSES)
    with pytest.raises(ValueError, match="each class once"):
        DecisionRule.of_json({**content, "precedence": precedence}, CLASSES)


def test_intervals_are_by_class_and_none_if_unknown():
    content = DecisionSpec("macro").fit(*rows()).as_json(CLASSES)
    low, high = content["intervals"]["cat"]
    assert low <= content["thresholds"]["cat"] <= high
    assert content["intervals"]["10"] is None
    assert content["expected_loss"] is not None
    content = DecisionSpec("global-macro").fit(*rows()).as_json(CLASSES)
    assert set(content["intervals"].values()) == {None}


def test_sets_have_no_thresholds():
    rule = DecisionSpec(decide="expected-f1").fit(*rows())
    content = rule.as_json(CLASSES)
    assert set(content["thresholds"].values()) == set(content["intervals"].values()) == {None}
    assert content["calibrated_by"] == "sigmoid"
    assert rule.summary["objective"] == "expected-f1"
    assert rule.per_class() == [{"threshold": None, "interval": None}] * 4


def test_thresholds_may_be_far_below_one_in_a_million():
    """As for a rare class, or a head trained with another loss than cross-entropy."""
    rng = np.random.default_rng(0)
    labels = rng.random((400, 4)) < 0.3
    scores = 10 ** (np.where(labels, -6.5, -8.0) + rng.normal(0, 0.3, labels.shape))
    rule = DecisionSpec().fit(scores, labels)
    assert (rule(scores) == labels).mean() > 0.98


@pytest.mark.parametrize(
    ("spec", "text", "learns"),
    [
        (DecisionSpec(), "thresholds maximise macro", True),
        (DecisionSpec("micro", shrink=False), "thresholds maximise micro, exactly", True),
        (DecisionSpec("none"), "0.5 is the threshold of every class", False),
        (
            DecisionSpec("at:0.4", at_least=1),
            "0.4 is the threshold of every class, 1 or more labels per row",
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
def test_a_spec_says_what_it_does_and_whether_it_needs_labels(spec, text, learns):
    assert str(spec) == text
    assert spec.learns is learns


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "mikro"}, "did you mean 'micro'"),
        ({"decide": "expected-f2"}, "did you mean 'expected-f1'"),
        ({"calibrate": "sigmoyd"}, "did you mean 'sigmoid'"),
        ({"at_most": 0}, "at most 0"),
        ({"at_least": 3, "at_most": 2}, "at least 3 and at most 2"),
        ({"at_least": -1}, "at least -1"),
    ],
)
def test_invalid_specs_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        DecisionSpec(**fields)


def test_calibration_bounds_and_sets_are_not_thresholds_alone():
    scores, labels = rows()
    assert DecisionSpec("micro").fit(scores, labels).by_thresholds_alone
    for fields in ({"decide": "expected-f1"}, {"calibrate": "isotonic"}, {"at_least": 1}, {"at_most": 2}):
        assert not DecisionSpec(**fields).fit(scores, labels).by_thresholds_alone
