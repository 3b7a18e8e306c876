"""Thresholds, calibration and rules of labels of which some are unknown: these entries count nowhere."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.classify.decisions.calibration import METHODS, Calibration
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.ranking import ALWAYS, NEVER
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import average_f1
from tests.conftest import examples


def drawn(seed, n, c, unknown=0.3, levels=7):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, c)) < 0.4
    scores = np.clip(0.35 * labels + 0.6 * rng.random((n, c)), 0, 1)
    scores = np.round(scores * levels) / levels if levels else scores
    return scores.astype(np.float32), np.where(rng.random((n, c)) < unknown, -1, labels).astype(np.int8)


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("objective", ["macro", "weighted", "macro-f2", "precision:0.7", "recall:0.7"])
@given(seeds)
@examples(25)
def test_a_class_is_tuned_on_its_known_rows(objective, seed):
    scores, labels = drawn(seed, 12, 3)
    for k, threshold in enumerate(tune(scores, labels, objective)):
        rows = labels[:, k] >= 0
        if rows.any():
            alone = tune(scores[rows, k, None], labels[rows, k, None], objective)
            assert threshold == alone[0]
        else:
            assert threshold == NEVER


@pytest.mark.parametrize(("average", "shared"), [*product(("micro", "macro", "samples"), (False, True))])
@given(seeds)
@examples(15)
def test_no_thresholds_are_better_on_the_known_entries(average, shared, seed):
    scores, labels = drawn(seed, 5, 2)
    candidates = [ALWAYS, *(np.unique(scores) + 1e-3), NEVER]
    options = [(t, t) for t in candidates] if shared else [*product(candidates, repeat=2)]
    best = max(average_f1(labels, scores >= np.array(option), average) for option in options)
    thresholds = tune(scores, labels, f"global-{average}" if shared else average)
    reached = average_f1(labels, scores >= thresholds, average)
    # macro F1 leaves classes without positives out, which the sum that is tuned counts as 0
    assert reached == pytest.approx(best) or (average, shared) == ("samples", False)


@pytest.mark.parametrize(
    "spec",
    [
        DecisionSpec(),
        DecisionSpec("macro"),
        DecisionSpec("micro", calibrate="sigmoid"),
        DecisionSpec("samples", shrink=False),
        DecisionSpec("precision:0.8"),
        DecisionSpec("global-recall:0.8"),
    ],
    ids=str,
)
def test_rows_without_a_known_label_change_no_rule(spec):
    scores, labels = drawn(3, 150, 4, unknown=0.2, levels=0)
    more = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    rule = spec.fit(scores, labels)
    longer = spec.fit(np.vstack([scores, more]), np.vstack([labels, np.full((50, 4), -1, np.int8)]))
    np.testing.assert_allclose(longer.thresholds, rule.thresholds, rtol=1e-6)
    np.testing.assert_allclose(longer.probabilities(scores), rule.probabilities(scores), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_is_calibrated_on_its_known_rows(method):
    scores, labels = drawn(5, 200, 3, levels=0)
    calibrated = Calibration.fitted(method, scores, labels)(scores)
    for k in range(3):
        rows = labels[:, k] >= 0
        alone = Calibration.fitted(method, scores[rows, k, None], labels[rows, k, None] == 1)
        np.testing.assert_allclose(calibrated[:, k], alone(scores[:, k, None])[:, 0], rtol=1e-6)


def test_a_row_may_be_empty_if_unknown_labels_are_unlikely_and_may_have_all_that_are_unknown():
    rng = np.random.default_rng(1)
    labels = np.zeros((60, 3), np.int8)
    labels[:30, 0] = 1
    labels[:, 2] = -1
    scores = np.where(labels == 1, 0.9, 0.02 + 0.01 * rng.random((60, 3))).astype(np.float32)
    rule = DecisionSpec(calibrate="none").fit(scores, labels)
    assert rule.sizes == (0, 2)
    likely = scores.copy()
    likely[:, 2] = 0.99
    assert DecisionSpec(calibrate="none").fit(likely, labels).sizes == (1, 2)


@given(seeds)
@examples(25)
def test_a_row_may_be_empty_unless_the_labels_are_likelier_if_each_row_has_one(seed):
    scores, labels = drawn(seed, 8, 3, unknown=0.6)
    scores = scores.clip(0.05, 0.95)
    sets = np.array([*product((0, 1), repeat=3)])

    def likelihood(may_be_empty):
        allowed = sets if may_be_empty else sets[sets.any(axis=1)]
        total = 1.0
        for row, p in zip(labels, scores.astype(np.float64), strict=True):
            chances = np.where(allowed, p, 1 - p).prod(axis=1)
            total *= chances[((allowed == row) | (row < 0)).all(axis=1)].sum() / chances.sum()
        return total

    with_one = likelihood(may_be_empty=False)
    least, _ = DecisionSpec(calibrate="none").fit(scores, labels).sizes
    assert (least > 0) == (with_one > likelihood(may_be_empty=True))


def test_hidden_labels_make_no_rows_empty_where_every_row_has_a_label():
    rng = np.random.default_rng(2)
    scores = rng.beta(0.5, 2, (400, 6)).astype(np.float32)
    labels = rng.random(scores.shape) < scores
    hidden = rng.random(scores.shape) < 0.3
    occupied = labels.any(axis=1)
    spec = DecisionSpec(calibrate="none")
    for rows, least in ((occupied, 1), (slice(None), 0)):
        assert spec.fit(scores[rows], labels[rows]).sizes[0] == least
        assert spec.fit(scores[rows], np.where(hidden, -1, labels)[rows]).sizes[0] == least
