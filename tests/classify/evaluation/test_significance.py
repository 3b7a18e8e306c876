from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from encode_once.classify.evaluation.intervals import interval
from encode_once.classify.evaluation.significance import holm, of_rows, of_sets, rank_test

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(P_VALUES)
def test_holm_is_bonferroni_on_every_set_of_hypotheses(p_values):
    """By the closure principle: a hypothesis is rejected if every set that holds it is, by Bonferroni."""
    m = len(p_values)
    subsets = [subset for size in range(1, m + 1) for subset in combinations(range(m), size)]
    expected = [
        min(max(len(s) * min(p_values[j] for j in s) for s in subsets if i in s), 1) for i in range(m)
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_is_that_of_statsmodels():
    """`multipletests(p, method="holm")` of statsmodels 0.15."""
    expected = [0.0024, 0.09, 0.06, 0.09, 0.8, 0.06]
    assert holm([0.0004, 0.04, 0.012, 0.03, 0.8, 0.012]) == pytest.approx(expected)


def test_holm_of_nothing():
    assert holm([]) == []


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_sets_without_shared_rows_are_a_plain_t_test(differences):
    differences = np.array(differences)
    if differences.std() < 1e-6:
        return
    tested = of_sets(differences, ratio=0)
    expected = stats.ttest_1samp(differences, 0)
    assert tested.p == pytest.approx(expected.pvalue)
    assert tested.interval == pytest.approx([*expected.confidence_interval(0.95)])


def test_shared_train_rows_widen_the_interval_as_nadeau_and_bengio_say():
    differences = np.array([0.02, 0.03, 0.01, 0.02, 0.04])
    tested, plain = of_sets(differences, ratio=1 / 4), of_sets(differences, ratio=0)
    t = stats.ttest_1samp(differences, 0).statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    assert tested.p == pytest.approx(2 * stats.t.sf(t, 4))
    widths = [of.interval[1] - of.difference for of in (tested, plain)]
    assert widths[0] / widths[1] == pytest.approx(1.5)


def test_equal_systems_are_not_different():
    assert of_sets(np.zeros(5), 0.25).p == 1
    assert of_rows(0.0, np.zeros(1000), [(0, 1), (0, 1)]).p == 1
    assert of_sets(np.full(5, 0.25), 0.25).p == 0


def test_single_runs_have_the_interval_of_the_paired_draws():
    draws = np.random.default_rng(0).normal(0.012, 0.004, 1000)
    tested = of_rows(0.01, draws, [(0.0, 1), (0.0, 1)])
    assert tested.interval == pytest.approx(interval(draws, 0.01))
    assert tested.p == pytest.approx(2 * stats.norm.sf(0.01 / draws.std()))


@pytest.mark.parametrize("seeds", [3, 8])
def test_rows_and_seeds_together_call_one_in_twenty_equal_systems_different(seeds):
    """Both vary alike here. By rows alone, a third would be called different."""
    rng, rejected, missed = np.random.default_rng(seeds), 0, 0
    for _ in range(1000):
        of_row = rng.normal(0, 0.01)
        runs = rng.normal(0, 0.01 * np.sqrt(seeds), (2, seeds))
        difference = of_row + float(runs[0].mean() - runs[1].mean())
        draws = rng.normal(difference, 0.01, 200)
        tested = of_rows(difference, draws, [(float(own.var(ddof=1)), seeds) for own in runs])
        rejected += tested.p < 0.05
        missed += not tested.interval[0] <= 0 <= tested.interval[1]
    assert 0.03 < rejected / 1000 < 0.075
    assert 0.03 < missed / 1000 < 0.08


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_demsars_table(k, q):
    values = np.random.default_rng(0).random((14, k))
    assert rank_test(values).critical == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


@given(st.integers(0, 1000), st.integers(3, 6), st.integers(3, 12))
def test_ranks_and_their_tests(seed, k, blocks):
    values = np.random.default_rng(seed).normal(size=(blocks, k)).round(1) + np.arange(k) / 2
    tested = rank_test(values)
    ranks = [[sum(row > value) + (sum(row == value) + 1) / 2 for value in row] for row in values]
    assert tested.mean_ranks == pytest.approx(np.mean(ranks, axis=0))
    assert tested.friedman == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert [pair[:2] for pair in tested.pairs] == [*combinations(range(k), 2)]

    def alike(group):
        own = [tested.mean_ranks[system] for system in group]
        return max(own) - min(own) < tested.critical

    for clique in tested.cliques:
        assert alike(clique)
        assert not any(alike([*clique, other]) for other in range(k) if other not in clique)
    for pair in combinations(range(k), 2):
        assert alike(pair) == any(set(pair) <= set(clique) for clique in tested.cliques)


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_wilcoxons_test_counts_all_signs(differences):
    values = np.stack([differences, np.zeros(len(differences))], axis=1)
    ((_, _, p),) = rank_test(values.astype(float)).pairs
    kept = np.array([d for d in differences if d])
    ranks = stats.rankdata(abs(kept))
    sums = [ranks[np.array(signs, bool)].sum() for signs in product([0, 1], repeat=len(kept))]
    observed = ranks[kept > 0].sum()
    assert p == pytest.approx(min(2 * min(np.mean(sums <= observed), np.mean(sums >= observed)), 1))


def test_wilcoxons_test_without_ties_is_that_of_scipy():
    differences = np.random.default_rng(0).normal(0.3, 1, 40)
    ((_, _, p),) = rank_test(np.stack([differences, np.zeros(40)], axis=1)).pairs
    assert p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_equal_values_have_no_difference():
    tested = rank_test(np.ones((4, 3)))
    assert (tested.friedman, tested.pairs) == (1, [(0, 1, 1), (0, 2, 1), (1, 2, 1)])
    assert rank_test(np.ones((4, 2))).friedman is None
