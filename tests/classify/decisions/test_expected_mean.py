from functools import reduce
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encode_once.classify.decisions import expected_f1, expected_mean
from encode_once.classify.decisions.expected_mean import best_sets, gains
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.metrics import average_f1
from encode_once.deploy.decision_graph import ExpectedMeanGraph


def values_of(p, lines, of_none):
    """The value of each set of labels for a row, by enumeration of its label sets."""
    every = np.array([*product([0, 1], repeat=len(p))])
    likely = np.where(every, p, 1 - p).prod(axis=1)
    values = {}
    for chosen in every:
        size = every.sum(axis=1) + chosen.sum()
        f1 = np.where(size > 0, 2 * (every * chosen).sum(axis=1) / np.maximum(size, 1), of_none)
        values[tuple(chosen)] = likely @ f1 + chosen @ (lines[0] * p - lines[1])
    return values


@settings(max_examples=100, deadline=None)
@given(
    c=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    at_least=st.integers(0, 4),
    further=st.integers(0, 5),
    places=st.sampled_from([1, 6]),
)
def test_no_set_of_labels_has_a_greater_value(c, seed, at_least, further, places):
    rng = np.random.default_rng(seed)
    p = (rng.random((3, c)) ** 2).round(places)  # also 0 and 1
    lines, least = drawn_lines(rng, c), min(at_least, c)
    most = max(least + further, 1)
    for row, chosen in zip(p, best_sets(p, lines, least, most), strict=True):
        values = values_of(row, lines, float(least == 0))
        allowed = [value for labels, value in values.items() if least <= sum(labels) <= most]
        assert values[tuple(chosen.astype(int))] == pytest.approx(max(allowed), abs=1e-11)
        assert least <= chosen.sum() <= most


def drawn_lines(rng, c):
    """Gains, also negative ones, of which many or few labels are worth something."""
    return np.stack([rng.normal(size=c), rng.choice([0, 1]) + rng.normal(size=c)]) * rng.choice(
        [0, 0.2, 1, 9]
    )


def best_set(p, lines, least, most):
    """The best labels of a row of many, from the chances of each number of true labels beside each."""
    best, chosen = (np.prod(1 - p), []) if least == 0 else (-np.inf, [])
    others = [reduce(np.convolve, [(1 - q, q) for q in np.delete(p, i)]) for i in range(len(p))]
    for k in range(max(least, 1), most + 1):
        expected = np.array(others) @ (2 / (k + 1 + np.arange(len(p))))
        values = p * expected + lines[0] * p - lines[1]
        labels = np.argsort(-values)[:k]
        if values[labels].sum() > best + 1e-12:
            best, chosen = values[labels].sum(), labels
    return np.isin(np.arange(len(p)), chosen)


@settings(max_examples=60, deadline=None)
@given(
    c=st.integers(15, 24),
    seed=st.integers(0, 10_000),
    least=st.integers(0, 5),
    further=st.integers(1, 6),
    mean=st.sampled_from([0.1, 1, 4]),
)
def test_a_row_alone_in_a_batch_and_in_a_graph_gets_the_best_labels(c, seed, least, further, mean):
    """Whether or not any label of it, or of other rows, is worth something."""
    rng = np.random.default_rng(seed)
    p, lines, most = rng.beta(0.3, 2, (6, c)), drawn_lines(rng, c), least + further
    p *= mean / p.sum(axis=1, keepdims=True).clip(mean)
    expected = [best_set(row, lines, least, most) for row in p]
    np.testing.assert_array_equal(best_sets(p, lines, least, most), expected)
    np.testing.assert_array_equal([best_sets(row[None], lines, least, most)[0] for row in p], expected)
    spec = DecisionSpec(calibrate="none", at_least=least, at_most=most)
    rule = DecisionRule(spec, ThresholdEstimate(np.full(c, np.nan)), sizes=(0, c), gains=lines)
    np.testing.assert_array_equal(rule.choose(p), expected)
    columns, sizes = ExpectedMeanGraph(rule)(torch.from_numpy(p))
    chosen = [np.isin(np.arange(c), row[:size]) for row, size in zip(columns, sizes, strict=True)]
    np.testing.assert_array_equal(chosen, expected)


def test_without_gains_it_is_the_set_of_greatest_expected_f1(monkeypatch):
    p = np.random.default_rng(0).beta(0.3, 4, (60, 150))
    nothing = np.zeros((2, 150))
    sets = best_sets(p, nothing, 0, 150)
    np.testing.assert_array_equal(sets, expected_f1.best_sets(p, 0, 150))
    monkeypatch.setattr(expected_mean, "CELLS", 100)  # a row per chunk
    np.testing.assert_array_equal(best_sets(p, nothing, 0, 150), sets)
    assert best_sets(p[:0], nothing, 1, 5).shape == (0, 150)


def test_gains_are_the_changes_of_micro_and_macro_f1():
    """Next to differences of F on expected counts when one more label of probability p is predicted."""
    p = np.random.default_rng(1).beta(0.3, 2, (1500, 4)) * [1, 0.5, 0.2, 0.05]
    n = len(p)

    def f(hits, predicted, positives):
        return 2 * hits / (predicted + positives)

    def best(column):
        return max((f(column[column >= t].sum(), (column >= t).sum(), column.sum()), t) for t in column)

    slopes, offsets = gains(p)
    _, threshold = best(p.ravel())
    chosen, every = p[p >= threshold], p.sum()
    of_micro = f(chosen.sum(), len(chosen), every)
    for c, column in enumerate(p.T):
        of_class, threshold = best(column)
        above = column[column >= threshold]
        for label in (0.02, 0.6):
            micro = f(chosen.sum() + label, len(chosen) + 1, every) - of_micro
            macro = f(above.sum() + label, len(above) + 1, column.sum()) - of_class
            assert slopes[c] * label - offsets[c] == pytest.approx(n * (micro + macro / 4), rel=0.02)


def test_the_sets_are_best_for_the_three_averages_together():
    """On labels drawn from the probabilities themselves, next to other rules."""
    rng = np.random.default_rng(2)
    p = rng.beta(0.3, 1.5, (5000, 8)) * np.geomspace(1, 0.1, 8)
    labels = rng.random(p.shape) < p

    def mean(chosen):
        return np.mean([average_f1(labels, chosen, average) for average in ("micro", "macro", "samples")])

    of_classes = np.array([max(np.arange(0.01, 0.6, 0.01), key=lambda t: average_f1(
        labels[:, [c]], p[:, [c]] >= t, "macro")) for c in range(8)])  # fmt: skip
    others = [p >= 0.5, p >= of_classes, expected_f1.best_sets(p, 8)]
    others += [p >= threshold for threshold in np.arange(0.1, 0.5, 0.02)]
    assert mean(best_sets(p, gains(p), 1, 8)) > max(map(mean, others))


def test_what_rows_of_many_classes_keep_for_later_rows_is_small():
    """The powers of 5,000 labels took 19 MB for each sum of a row's probabilities."""
    expected_mean._gauss.cache_clear()
    nodes, powers = expected_mean.quadrature(5_000, 5_000, 40.0)
    assert powers.shape == (len(nodes), 5_000)
    assert powers.sum(axis=0) == pytest.approx(2 / np.arange(2, 5_002), rel=1e-6)  # of t, t², … from 0 to 1
    assert expected_mean._gauss.cache_info().currsize == 1
    kept = expected_mean._gauss(len(nodes))
    assert expected_mean._gauss.cache_info().hits == 1
    assert sum(array.nbytes for array in kept) == 2 * nodes.nbytes
