"""Statistics of two samples, compared with scipy, with their definitions, and with what chance allows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, energy_distance, hypergeom

from encode_once.classify.monitoring.two_samples import (
    energy_test,
    holm,
    score_shifts,
    share_shifts,
    stability_index,
)


def test_the_stability_index_is_that_of_its_definition():
    reference = np.linspace(0, 1, 1000)[:, None]
    new = np.concatenate([np.full(500, 0.05), np.full(500, 0.95)])[:, None]
    before, now = np.full(10, 100.5) / 1005, np.full(10, 0.5) / 1005
    now[[0, 9]] = 500.5 / 1005
    expected = ((now - before) * np.log(now / before)).sum()
    assert stability_index(reference, new) == pytest.approx([expected], rel=1e-6)
    assert stability_index(reference, reference) == pytest.approx([0])


def test_equal_scores_share_a_bin():
    column = np.array([0.0] * 80 + [0.5] * 20)[:, None]
    assert stability_index(column, column[::-1]) == pytest.approx([0])
    assert stability_index(column, 1 - column)[0] > 1


@pytest.mark.parametrize("sizes", [(40, 60), (1500, 1200)])
def test_p_values_of_scores_are_uniform_without_a_shift_and_small_with_one(sizes):
    n, m = sizes
    rng = np.random.default_rng(0)
    p = score_shifts(rng.random((n, 400)) ** 3, rng.random((m, 400)) ** 3)
    for level in (0.01, 0.1, 0.5):
        assert (p <= level).sum() <= binom.ppf(0.999, 400, level)
    assert (p <= 0.5).sum() >= 120
    assert (score_shifts(rng.random((n, 5)), rng.random((m, 5)) * 0.5) < 0.02).all()


def test_p_values_of_shares_are_those_of_the_hypergeometric_distribution():
    before, now = np.zeros((50, 1), bool), np.zeros((30, 1), bool)
    before[:5], now[:9] = True, True
    greater = hypergeom.sf(8, 80, 14, 30)
    assert share_shifts(before, now, "greater") == pytest.approx([greater])
    chances = hypergeom.pmf(np.arange(15), 80, 14, 30)
    both = chances[chances <= hypergeom.pmf(9, 80, 14, 30) * (1 + 1e-9)].sum()
    assert share_shifts(before, now) == pytest.approx([both])


def test_the_energy_distance_is_that_of_scipy():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(70, 1)).astype(np.float32), rng.normal(0.5, 2, (50, 1)).astype(np.float32)
    scale = np.concatenate([X, Y]).std()
    expected = energy_distance(X[:, 0] / scale, Y[:, 0] / scale) ** 2
    assert energy_test(X, Y, 100).statistic == pytest.approx(expected, rel=1e-3)


def test_a_shift_of_vectors_has_the_least_p_value_and_constant_columns_do_not_matter():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 60, 5)).astype(np.float32)
    X[:, 0] = Y[:, 0] = 7
    assert energy_test(X, Y + np.eye(5)[1], 999).p == pytest.approx(1 / 1000)
    assert energy_test(X, Y * 3, 999).p == pytest.approx(1 / 1000)
    assert energy_test(X, X, 999).p > 0.5


def test_p_values_of_vectors_are_uniform_without_a_shift():
    rng = np.random.default_rng(1)
    p = np.array(
        [energy_test(*rng.normal(size=(2, 25, 3)).astype(np.float32), 500, seed=k).p for k in range(300)]
    )
    for level in (0.01, 0.05, 0.2, 0.5):
        assert binom.ppf(0.001, 300, level) <= (p <= level).sum() <= binom.ppf(0.999, 300, level)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, alpha):
    p, rejected = np.array(values), set()
    for step, place in enumerate(np.argsort(p, kind="stable")):
        if p[place] * (len(p) - step) > alpha:
            break
        rejected.add(int(place))
    assert {*np.flatnonzero(holm(p) <= alpha).tolist()} == rejected
