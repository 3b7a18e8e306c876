import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from encode_once.classify.decisions.exact import NAMES, Objective, tune
from encode_once.classify.decisions.shrinkage import between_variance, estimate

AVERAGES = ["macro", "weighted", "micro", "samples"]


def rows(n, c=8, seed=0, skew=0.0):
    """Scores and labels of frequent and rare classes; with skew, scores of some are too high or too low."""
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
    found = 2 * (labels & on).sum(axis) / np.maximum(size, 1)
    return np.average(found, weights=labels.sum(axis=0) if average == "weighted" else None)


@pytest.mark.parametrize("objective", NAMES)
def test_without_shrinking_cuts_are_the_optimal_ones(objective):
    scores, labels = rows(300)
    found = estimate(scores, labels, Objective.of(objective), shrink=False)
    np.testing.assert_array_equal(found.thresholds, tune(scores, labels, objective))


@pytest.mark.parametrize("objective", ["none", "at:0.4", "global-macro", "global-micro-f2"])
def test_what_is_no_cut_a_class_by_f_stays_as_it_is(objective):
    scores, labels = rows(300)
    found = estimate(scores, labels, Objective.of(objective))
    np.testing.assert_array_equal(found.thresholds, tune(scores, labels, objective))
    assert (found.intervals, found.loss) == (None, None)


@pytest.mark.parametrize("average", AVERAGES)
def test_cuts_of_few_rows_hold_better_on_many_unseen_ones(average):
    """Over 20 draws of 300 rows: better than exact cuts, and no worse than one cut where one would do."""
    unseen = rows(20_000, seed=1000)
    gains, beside_one = [], []
    for seed in range(20):
        drawn = rows(300, seed=seed)
        ours, exact = (estimate(*drawn, Objective.of(average), shrink).thresholds for shrink in (True, False))
        one = tune(*drawn, f"global-{average}")
        reached, of_exact, of_one = (f1(*unseen, cuts, average) for cuts in (ours, exact, one))
        gains.append(reached - of_exact)
        beside_one.append(reached - of_one)
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(20)
    assert np.mean(beside_one) > -0.003


@pytest.mark.parametrize("average", AVERAGES)
def test_classes_that_differ_keep_cuts_of_their_own_where_rows_are_many(average):
    drawn, unseen = rows(20_000, skew=1.0), rows(20_000, seed=1, skew=1.0)
    ours = estimate(*drawn, Objective.of(average)).thresholds
    exact, one = tune(*drawn, average), tune(*drawn, f"global-{average}")
    assert f1(*unseen, ours, average) > f1(*unseen, one, average) + 0.01
    assert f1(*unseen, ours, average) > f1(*unseen, exact, average) - 0.001


def test_a_class_that_tells_nothing_has_the_cut_of_all():
    scores, labels = rows(400)
    labels[:, 5] = False
    labels[:, 6] = False
    labels[3, 6] = True
    found = estimate(scores, labels, Objective.of("macro"))
    assert found.thresholds[5] == found.thresholds[6]
    others = np.delete(found.thresholds, [5, 6])
    assert others.min() <= found.thresholds[5] <= others.max()
    assert np.isnan(found.intervals[[5, 6]]).all()


def test_alike_classes_have_nearly_one_cut_and_unlike_ones_their_own():
    def range_of(skew):
        cuts = logit(estimate(*rows(1000, skew=skew), Objective.of("macro")).thresholds)
        return np.ptp(cuts)

    assert range_of(0.0) < 0.5 * range_of(2.0)


@pytest.mark.parametrize("average", AVERAGES)
def test_intervals_hold_the_cuts_and_narrow_with_rows(average):
    widths = []
    for n in (500, 20_000):
        found = estimate(*rows(n, skew=0.5), Objective.of(average))
        low, high = found.intervals.T
        assert ((low <= found.thresholds) & (found.thresholds <= high)).all()
        widths.append(np.mean(logit(high) - logit(low)))
    assert widths[1] < 0.7 * widths[0]  # and the few rows' are shrunk much more


@pytest.mark.parametrize("average", AVERAGES)
def test_the_expected_loss_of_exact_cuts_is_near_what_they_lose(average):
    """On rows that are as well known as can be, on average over draws; the bootstrap sees most of it."""
    unseen = rows(20_000, seed=1000)
    expected, lost = [], []
    for seed in range(30):
        drawn = rows(500, seed=seed)
        found = estimate(*drawn, Objective.of(average), shrink=False)
        expected.append(found.loss)
        lost.append(f1(*drawn, found.thresholds, average) - f1(*unseen, found.thresholds, average))
    assert 0.4 * np.mean(lost) < np.mean(expected) < 1.3 * np.mean(lost)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    c=st.integers(1, 5),
    steps=st.integers(1, 6),
    often=st.floats(0, 1),
    average=st.sampled_from(AVERAGES),
)
def test_any_rows_have_cuts(seed, n, c, steps, often, average):
    """One row, one class, all scores equal, nothing true or everything."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, steps + 1, (n, c)) / steps, rng.random((n, c)) < often
    objective = Objective.of(average)
    found = estimate(scores, labels, objective)
    assert found.thresholds.shape == (c,)
    assert ((found.thresholds > 0) & (found.thresholds < 1)).all()
    again = estimate(scores.astype(np.float32).astype(np.float64), labels, objective)
    assert again.thresholds.shape == (c,)
    np.testing.assert_array_equal(found.thresholds, estimate(scores, labels, objective).thresholds)


def test_thebetween_variance_is_what_deviations_say_beyond_variances():
    rng = np.random.default_rng(0)
    variances = rng.uniform(0.1, 2, size=5000)
    own = rng.normal(0, np.sqrt(variances + 0.7))
    assert between_variance(own, variances) == pytest.approx(0.7, abs=0.1)
    assert between_variance(np.array([1.0, 1.0, 1.0]), np.ones(3)) == 0
    assert between_variance(np.array([1.0]), np.ones(1)) == 0
