import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify.decisions.calibration import Calibration
from encode_once.classify.decisions.expected_f1 import best_sets
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import CALIBRATIONS, DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate, estimate
from tests.conftest import examples

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
    assert not labels.any(axis=1).all()  # so the empty set may be right
    most = labels.sum(axis=1).max()
    np.testing.assert_array_equal(rule(scores), best_sets(calibrated, 0, most))
    plain = DecisionSpec(decide="expected-f1", calibrate="none").fit(scores, labels)
    np.testing.assert_array_equal(plain(scores), best_sets(scores, 0, most))


def test_each_row_gets_a_label_unless_some_tuning_rows_have_none():
    scores, labels = rows()
    labels[:, 0] |= ~labels.any(axis=1)
    rule = DecisionSpec().fit(scores, labels)
    unlikely = np.full((1, 4), 1e-3)
    assert rule(unlikely).sum() == 1
    labels[0] = False
    rule = DecisionSpec().fit(scores, labels)
    assert rule(unlikely).sum() == 0
    assert rule.summary["decided"].endswith(f"0 to {labels.sum(axis=1).max()} labels per row")
    assert DecisionSpec(at_least=1).fit(scores, labels)(unlikely).sum() == 1


@pytest.mark.parametrize("decide", ["expected-mean", "expected-f1"])
@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (0, None, "0 to 3 labels"), (1, 1, "1 label"), (0, 2, "0 to 2 labels"),
        (2, None, "2 to 3 labels"), (2, 2, "2 labels"), (4, None, "4 labels"), (9, 9, "4 labels"),
    ],
)  # fmt: skip
def test_label_sets_have_sizes_of_the_tuning_rows_within_bounds(decide, least, most, text):
    scores, labels = rows()
    labels &= labels.sum(axis=1, keepdims=True) < 4
    assert set(labels.sum(axis=1)) == {0, 1, 2, 3}
    rule = DecisionSpec(decide=decide, at_least=least, at_most=most).fit(scores, labels)
    assert rule.summary["decided"].split(", ")[-2:] == ["scores calibrated by sigmoid", f"{text} per row"]
    of_rows = rule(scores).sum(axis=1)
    assert of_rows.min() >= min(least, 4)
    assert of_rows.max() <= (most or max(least, 3))


def test_argmax_takes_the_highest_score_and_of_equal_ones_that_of_the_most_frequent_class():
    scores, labels = rows()
    scores[:20] = scores[:20].round(1)  # ties
    rule = DecisionSpec(decide="argmax").fit(scores, labels)
    np.testing.assert_array_equal(rule.probabilities(scores), scores)
    frequent = np.argsort(-labels.sum(axis=0), kind="stable")
    expected = frequent[scores[:, frequent].argmax(axis=1)]
    np.testing.assert_array_equal(rule(scores), np.eye(4, dtype=bool)[expected])
    assert not rule.has_plain_thresholds
    assert not rule.spec.learns
    again = DecisionRule.of_json(json.loads(json.dumps(rule.as_json(CLASSES), allow_nan=False)), CLASSES)
    np.testing.assert_array_equal(again(scores), rule(scores))
    assert again.as_json(CLASSES)["thresholds"] == dict.fromkeys(CLASSES)


def test_argmax_of_one_class_within_bounds_or_of_calibrated_scores_is_refused():
    with pytest.raises(DataError, match="two classes or more"):
        DecisionSpec(decide="argmax").fit(*(table[:, :1] for table in rows()))
    for options in ({"at_least": 1}, {"at_most": 2}, {"calibrate": "sigmoid"}):
        with pytest.raises(UsageError, match="exactly one label"):
            DecisionSpec(decide="argmax", **options)


def test_thresholds_apply_to_calibrated_scores_on_request():
    scores, labels = rows()
    rule = DecisionSpec("macro", shrink=False, calibrate="sigmoid").fit(scores, labels)
    exact = DecisionSpec("macro", shrink=False).fit(scores, labels)
    np.testing.assert_array_equal(rule(scores), exact(scores))  # a rising function changes no ranking
    assert not np.array_equal(rule.thresholds, exact.thresholds)


@examples(100)
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
    spec = DecisionSpec("macro", at_least=at_least, at_most=at_most)
    predictions = DecisionRule(spec, ThresholdEstimate(thresholds))(scores)
    for row, chosen in zip(scores, predictions, strict=True):
        passing = row >= thresholds
        count = min(max(passing.sum(), at_least), 4 if at_most is None else at_most, 4)
        assert chosen.sum() == count
        margins = logit(row) - logit(np.clip(thresholds, 1e-6, 1 - 1e-6))
        assert set(np.flatnonzero(chosen)) == set(np.argsort(-margins)[:count])


def test_a_row_that_reaches_no_threshold_keeps_its_best_label():
    rule = DecisionRule(DecisionSpec("macro", at_least=1), ThresholdEstimate(np.array([2.0, 0.9, 2.0])))
    assert rule(np.array([[0.3, 0.1, 0.2], [0.1, 0.95, 1.0]])).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("decide", ["thresholds", "expected-mean", "expected-f1"])
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


def test_the_default_is_sets_with_thresholds_of_plain_scores_beside_them():
    scores, labels = rows()
    rule = DecisionSpec().fit(scores, labels)
    assert rule.spec == DecisionSpec("samples", decide="expected-mean")
    assert rule.summary["objective"] == "expected-mean"
    content = rule.as_json(CLASSES)
    assert content["calibrated_by"] == "sigmoid"
    beside = DecisionSpec("samples").fit(scores, labels)
    np.testing.assert_array_equal(rule.thresholds, beside.thresholds)
    assert content["thresholds"] == beside.as_json(CLASSES)["thresholds"]


def test_where_each_tuning_row_has_one_label_every_row_gets_one():
    rng = np.random.default_rng(0)
    labels = np.eye(4, dtype=bool)[rng.integers(4, size=300)]
    scores = np.clip(labels + rng.normal(0, 1, labels.shape), 0.01, 0.99)
    assert (DecisionSpec().fit(scores, labels)(scores).sum(axis=1) == 1).all()
    rule = DecisionSpec(decide="expected-f1").fit(scores, labels)
    chosen = rule(scores)
    assert (chosen.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(chosen.argmax(axis=1), rule.probabilities(scores).argmax(axis=1))


def test_thresholds_beside_sets_are_tuned_on_request_only():
    scores, labels = rows()
    rule = DecisionSpec().fit(scores, labels, intervals=False)
    assert np.isnan(rule.thresholds).all()
    np.testing.assert_array_equal(rule(scores), DecisionSpec().fit(scores, labels)(scores))
    again = DecisionRule.of_json(json.loads(json.dumps(rule.as_json(CLASSES))), CLASSES)
    np.testing.assert_array_equal(again(scores), rule(scores))


def test_an_objective_or_exact_thresholds_decide_by_thresholds():
    for fields in ({"objective": "samples"}, {"objective": "none"}, {"shrink": False}):
        assert DecisionSpec(**fields).decide == "thresholds"
    assert DecisionSpec(shrink=False).objective == "samples"
    assert DecisionSpec("macro", decide="expected-f1").objective == "macro"


def test_a_rule_of_sets_without_thresholds_as_older_versions_wrote_it_is_read():
    scores, labels = rows()
    content = DecisionSpec(decide="expected-f1").fit(scores, labels).as_json(CLASSES)
    content["thresholds"] = content["intervals"] = dict.fromkeys(CLASSES)
    del content["sizes"]
    rule = DecisionRule.of_json(content, CLASSES)
    assert np.isnan(rule.thresholds).all()
    assert not rule.has_plain_thresholds
    assert rule(scores).any(axis=1).all()


def test_thresholds_may_be_far_below_one_in_a_million():
    """As for a rare class, or a head trained with another loss than cross-entropy."""
    rng = np.random.default_rng(0)
    labels = rng.random((400, 4)) < 0.3
    scores = 10 ** (np.where(labels, -6.5, -8.0) + rng.normal(0, 0.3, labels.shape))
    rule = DecisionSpec("macro").fit(scores, labels)
    assert (rule(scores) == labels).mean() > 0.98


@pytest.mark.parametrize(
    ("spec", "text", "learns"),
    [
        (DecisionSpec("macro"), "thresholds maximise macro", True),
        (DecisionSpec("micro", shrink=False), "thresholds maximise micro, exactly", True),
        (DecisionSpec("none"), "0.5 is the threshold of every class", False),
        (
            DecisionSpec("cost:1/3"),
            "0.25 is the threshold of every class, scores calibrated by sigmoid",
            True,
        ),
        (DecisionSpec("cost:1/3", calibrate="none"), "0.25 is the threshold of every class", False),
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
            DecisionSpec(),
            "sets of the greatest expected mean of micro, macro and samples F1, scores calibrated by sigmoid",
            True,
        ),
        (DecisionSpec(decide="expected-f1", calibrate="none"), "sets of the greatest expected F1", True),
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


def test_thresholds_are_plain_without_calibration_bounds_and_hierarchy():
    scores, labels = rows()
    rule = DecisionSpec("micro").fit(scores, labels)
    assert rule.has_plain_thresholds
    assert not rule.with_pairs(np.array([[0, 1]])).has_plain_thresholds
    assert DecisionSpec().fit(scores, labels).has_plain_thresholds
    for fields in (
        {"objective": "micro", "calibrate": "isotonic"},
        {"objective": "micro", "at_least": 1},
        {"at_least": 1},
        {"at_most": 2},
    ):
        assert not DecisionSpec(**fields).fit(scores, labels).has_plain_thresholds
