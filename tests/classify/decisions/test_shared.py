"""Shared thresholds of scores that are too many to sort: the same, or within the stated gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions import exact, expected_mean, ranking, shared
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import resampled
from encode_once.classify.evaluation.metrics import measure
from tests.conftest import examples


def scores_and_labels(seed, n, c, distinct, unknown):
    """Scores of which many are equal, some labels unknown; the last class has no positives."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, distinct + 1, (n, c)) / distinct
    labels = (rng.random((n, c)) < scores**2).astype(np.int8)
    labels[:, -1] = 0
    labels[rng.random((n, c)) < unknown] = -1
    return scores, labels if unknown else labels.astype(bool)


def make_small(patch, size, edges):
    """Blocks of so many scores, bins with so many edges, and no scores that are sorted together."""
    for module in (ranking, exact, expected_mean):
        patch.setattr(module, "BLOCK", size)
    patch.setattr(shared, "EDGES", edges)
    patch.setattr(shared, "EXACT", 0)


OBJECTIVES = ["macro", "micro", "samples", "weighted", "precision:0.6", "recall:0.6", "global-macro",
              "global-weighted", "global-samples", "micro-f2"]  # fmt: skip


@examples(25)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    c=st.integers(1, 5),
    distinct=st.sampled_from([2, 10, 1000]),
    unknown=st.sampled_from([0, 0.3]),
    size=st.integers(1, 60),
    edges=st.integers(2, 9),
)
def test_blocks_and_bins_give_the_same_thresholds(seed, n, c, distinct, unknown, size, edges):
    scores, labels = scores_and_labels(seed, n, c, distinct, unknown)
    expected = {name: tune(scores, labels, name) for name in OBJECTIVES}
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, size, edges)
        for name in OBJECTIVES:
            np.testing.assert_array_equal(tune(scores, labels, name), expected[name], name)


@examples(40)
@given(
    values=st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 5)), min_size=1, max_size=60),
    edges=st.integers(2, 6),
    most=st.integers(0, 40),
)
def test_the_best_threshold_reaches_at_most_the_gap_more(values, edges, most):
    scores, steps = (np.array(column) for column in zip(*values, strict=True))
    scores = scores / 31
    parts = [(scores[:7], steps[:7]), (scores[7:], steps[7:])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "EDGES", edges)
        patch.setattr(shared, "SORTED", most)
        threshold, gap = shared.best_shared(lambda: parts, scores[::2])
    best = max([0, *(steps[scores >= score].sum() for score in scores)])
    reached = steps[scores >= threshold].sum()
    assert reached <= best <= reached + gap
    assert gap == 0 or most < len(scores)


def test_a_whole_rule_its_metrics_and_its_intervals_are_the_same_by_blocks(monkeypatch):
    scores, labels = synthetic_scores(300, 6)
    spec = DecisionSpec()

    def figures():
        rule = spec.fit(scores, labels)
        predictions = rule(scores)
        metrics = measure(labels, predictions, rule.probabilities(scores), list("abcdef"))
        drawn = resampled(labels, predictions, rule.probabilities(scores), draws=20)
        return rule, predictions, metrics, drawn

    rule, predictions, metrics, drawn = figures()
    make_small(monkeypatch, 50, 9)
    rule_of_blocks, *others = figures()
    np.testing.assert_allclose(rule_of_blocks.thresholds, rule.thresholds, rtol=1e-9)
    np.testing.assert_allclose(rule_of_blocks.estimate.intervals, rule.estimate.intervals, rtol=1e-9)
    np.testing.assert_allclose(rule_of_blocks.gains, rule.gains, rtol=1e-9)
    np.testing.assert_array_equal(others[0], predictions)
    assert others[1] == metrics
    for name, values in drawn.items():
        np.testing.assert_allclose(others[2][name], values, atol=1e-6, err_msg=name)
