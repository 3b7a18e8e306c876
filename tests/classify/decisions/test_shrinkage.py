import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.objectives import NAMES, Objective
from encode_once.classify.decisions.shrinkage import between_variance, estimate
from tests.conftest import examples

AVERAGES = ["macro", "weighted", "micro", "samples"]


def rows(n, c=8, seed=0, skew=0.0):
    """Scores and labels of frequent and rare classes; skew makes scores of classes too high or too low."""
    rng = np.random.default_rng(seed)
    frequency = np.geomspace(0.5, 0.01, c)
    bias = skew * np.random.default_rng(99).normal(size=c)
    z = rng.normal(-1.5, 1.5, size=(n, c)) + logit(frequency) + 1
    labels = rng.random((n, c)) < expit(z)
    return expit(z + bias), labels


def f1(scores, labels, thresholds, average):
    on = scores >= thresholds
    axis = {"micro": None, "samples": 1}.get(average, 0)
    size = labels.sum(axis) + on.sum(axis)
    values = 2 * (labels & on).sum(axis) / np.maximum(size, 1)
    return np.average(values, weights=labels.sum(axis=0) if average == "weighted" else None)


@pytest.mark.parametrize("objective", NAMES)
def test_without_shrinking_thresholds_are_the_optimum(objective):
    scores, labels = rows(300)
    estimated = estimate(scores, labels, Objective.of(objective), shrink=False)
    np.testing.assert_array_equal(estimated.thresholds, tune(scores, labels, objective))


@pytest.mark.parametrize("objective", ["none", "at:0.4", "global-macro", "global-micro-f2"])
def test_only_thresholds_per_class_of_an_f_are_shrunk(objective):
    scores, labels = rows(300)
    estimated = estimate(scores, labels, Objective.of(objective))
    np.testing.assert_array_equal(estimated.thresholds, tune(scores, labels, objective))
    assert (estimated.intervals, estimated.loss) == (None, None)


@pytest.mark.parametrize(
    "average", [AVERAGES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in AVERAGES[1:])]
)
def test_shrunk_thresholds_of_few_rows_are_better_on_unseen_rows(average):
    """Over 40 draws of 300 rows: better than the exact ones, and no worse than a shared one that would do."""
    unseen = rows(20_000, seed=1000)
    gains, over_shared = [], []
    for seed in range(40):
        drawn = rows(300, seed=seed)
        ours, exact = (estimate(*drawn, Objective.of(average), shrink).thresholds for shrink in (True, False))
        shared = tune(*drawn, f"global-{average}")
        reached, of_exact, of_shared = (
            f1(*unseen, thresholds, average) for thresholds in (ours, exact, shared)
        )
        gains.append(reached - of_exact)
        over_shared.append(reached - of_shared)
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(40)
    assert np.mean(over_shared) > -0.003


@pytest.mark.parametrize("average", AVERAGES)
def test_different_classes_keep_different_thresholds_given_many_rows(average):
    drawn, unseen = rows(20_000, skew=1.0), rows(20_000, seed=1, skew=1.0)
    ours = estimate(*drawn, Objective.of(average)).thresholds
    exact, shared = tune(*drawn, average), tune(*drawn, f"global-{average}")
    assert f1(*unseen, ours, average) > f1(*unseen, shared, average) + 0.01
    assert f1(*unseen, ours, average) > f1(*unseen, exact, average) - 0.001


def test_a_class_without_information_gets_the_shared_threshold():
    scores, labels = rows(400)
    labels[:, 5] = False
    labels[:, 6] = False
    labels[3, 6] = True
    estimated = estimate(scores, labels, Objective.of("macro"))
    assert estimated.thresholds[5] == estimated.thresholds[6]
    others = np.delete(estimated.thresholds, [5, 6])
    assert others.min() <= estimated.thresholds[5] <= others.max()
    assert np.isnan(estimated.intervals[[5, 6]]).all()


def test_similar_classes_get_similar_thresholds_and_different_ones_do_not():
    def range_of(skew):
        thresholds = logit(estimate(*rows(1000, skew=skew), Objective.of("macro")).thresholds)
        return np.ptp(thresholds)

    assert range_of(0.0) < 0.5 * range_of(2.0)


@pytest.mark.parametrize("average", AVERAGES)
def test_intervals_contain_the_thresholds_and_narrow_with_more_rows(average):
    widths = []
    for n in (500, 20_000):
        estimated = estimate(*rows(n, skew=0.5), Objective.of(average))
        low, high = estimated.intervals.T
        assert ((low <= estimated.thresholds) & (estimated.thresholds <= high)).all()
        widths.append(np.mean(logit(high) - logit(low)))
    assert widths[1] < 0.7 * widths[0]  # although those of few rows are shrunk much more


@pytest.mark.parametrize("average", AVERAGES)
def test_the_expected_loss_of_exact_thresholds_is_close_to_the_real_one(average):
    """On average over draws; the bootstrap sees most of it."""
    unseen = rows(20_000, seed=1000)
    expected, lost = [], []
    for seed in range(30):
        drawn = rows(500, seed=seed)
        estimated = estimate(*drawn, Objective.of(average), shrink=False)
        expected.append(estimated.loss)
        lost.append(f1(*drawn, estimated.thresholds, average) - f1(*unseen, estimated.thresholds, average))
    assert 0.4 * np.mean(lost) < np.mean(expected) < 1.3 * np.mean(lost)


@examples(60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    c=st.integers(1, 5),
    steps=st.integers(1, 6),
    frequency=st.floats(0, 1),
    average=st.sampled_from(AVERAGES),
)
def test_any_rows_have_thresholds(seed, n, c, steps, frequency, average):
    """Such as a single row or class, equal scores, or labels that are all true or all false."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, steps + 1, (n, c)) / steps, rng.random((n, c)) < frequency
    objective = Objective.of(average)
    estimated = estimate(scores, labels, objective)
    assert estimated.thresholds.shape == (c,)
    assert ((estimated.thresholds > 0) & (estimated.thresholds < 1)).all()
    again = estimate(scores.astype(np.float32).astype(np.float64), labels, objective)
    assert again.thresholds.shape == (c,)
    np.testing.assert_array_equal(estimated.thresholds, estimate(scores, labels, objective).thresholds)


def test_the_between_variance_is_the_spread_that_variances_do_not_explain():
    rng = np.random.default_rng(0)
    variances = rng.uniform(0.1, 2, size=5000)
    estimates = rng.normal(0, np.sqrt(variances + 0.7))
    assert between_variance(estimates, variances) == pytest.approx(0.7, abs=0.1)
    assert between_variance(np.array([1.0, 1.0, 1.0]), np.ones(3)) == 0
    assert between_variance(np.array([1.0]), np.ones(1)) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_between_variance_is_the_root_of_its_equation(seed):
    rng = np.random.default_rng(seed)
    k = rng.integers(2, 60)
    variances = np.exp(rng.uniform(-8, 3, size=k))
    estimates = rng.standard_t(2, size=k) * 10.0 ** rng.integers(-3, 4)

    def excess(spread):
        precisions = 1 / (variances + spread)
        return precisions @ (estimates - np.average(estimates, weights=precisions)) ** 2 - (k - 1)

    end = np.ptp(estimates) ** 2 * k
    expected = brentq(excess, 0, end, xtol=1e-14, rtol=1e-14) if excess(0) > 0 else 0
    assert between_variance(estimates, variances) == pytest.approx(expected, rel=1e-9, abs=1e-12)
