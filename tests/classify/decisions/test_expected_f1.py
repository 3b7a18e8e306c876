from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from encode_once.classify.decisions import expected_f1
from encode_once.classify.decisions.expected_f1 import best_sets
from tests.conftest import examples

chances = arrays(np.float64, st.tuples(st.just(1), st.integers(1, 5)), elements=st.floats(0, 1, width=16))


def expectations(p, of_none=0):
    """Each set of labels and its expected F1, by enumeration of all label sets of a row.

    of_none: the F1 of no label where there is none.
    """
    every = np.array(list(product([False, True], repeat=len(p))))
    likely = np.where(every, p, 1 - p).prod(axis=1)
    expected = {}
    for chosen in every:
        size = every.sum(axis=1) + chosen.sum()
        f1 = np.where(size > 0, 2 * (every & chosen).sum(axis=1) / np.maximum(size, 1), of_none)
        expected[tuple(chosen.tolist())] = likely @ f1
    return expected


@examples(150)
@given(p=chances, at_least=st.integers(0, 5), further=st.none() | st.integers(0, 5))
def test_no_set_of_labels_has_a_greater_expected_f1(p, at_least, further):
    at_least = min(at_least, p.shape[1])
    at_most = None if further is None else max(at_least + further, 1)
    every = expectations(p[0], of_none=float(at_least == 0))
    chosen = tuple(best_sets(p, at_least, at_most)[0].tolist())
    allowed = [value for labels, value in every.items() if at_least <= sum(labels) <= (at_most or 5)]
    assert every[chosen] == pytest.approx(max(allowed), abs=1e-12)
    assert at_least <= sum(chosen) <= (at_most or 5)


def test_chunks_do_not_change_the_sets(monkeypatch):
    p = np.random.default_rng(0).random((50, 6)) ** 3
    whole = best_sets(p)
    monkeypatch.setattr(expected_f1, "CELLS", 100)  # two rows per chunk
    np.testing.assert_array_equal(best_sets(p), whole)
    np.testing.assert_array_equal(np.concatenate([best_sets(row[None]) for row in p]), whole)
    assert best_sets(p[:0]).shape == (0, 6)


def test_the_bounds_leave_out_nothing_that_matters(monkeypatch):
    p = np.random.default_rng(3).beta(0.2, 8, (40, 150))
    largest, most_true = expected_f1._bounds(-np.sort(-p), 1, 150)
    assert largest.max() < 150
    assert most_true.max() < 150
    bounded = best_sets(p)
    unbounded = np.full(len(p), 150)
    monkeypatch.setattr(expected_f1, "_bounds", lambda p, least, most: (unbounded, unbounded))
    np.testing.assert_array_equal(best_sets(p), bounded)


def test_sets_are_better_than_a_threshold_for_calibrated_probabilities():
    """On labels drawn from the probabilities themselves, compared with the best of many thresholds."""
    rng = np.random.default_rng(1)
    p = rng.beta(0.3, 1.5, size=(20_000, 8))
    labels = rng.random(p.shape) < p

    def samples_f1(chosen):
        size = labels.sum(axis=1) + chosen.sum(axis=1)
        return np.mean(2 * (labels & chosen).sum(axis=1) / np.maximum(size, 1))

    assert samples_f1(best_sets(p)) > 0.01 + max(
        samples_f1(p >= threshold) for threshold in np.arange(0.1, 0.6, 0.02)
    )
