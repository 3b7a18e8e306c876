import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from encode_once.classify.decisions.prevalence import corrected, estimate


def mixture(rng, n, share, distance=2.0):
    """Values of n rows, of which a share is of a Gaussian at `distance`, the others of one at 0."""
    return rng.normal(size=n) + distance * (rng.random(n) < share)


def posterior(x, share, distance=2.0):
    """Their probabilities of the first kind, by the densities."""
    present, absent = share * norm.pdf(x - distance), (1 - share) * norm.pdf(x)
    return present / (present + absent)


def by_em(p, before):
    """The algorithm as published."""
    after = before
    for _ in range(3000):
        present, absent = p * after / before, (1 - p) * (1 - after) / (1 - before)
        after = (present / (present + absent)).mean()
    return after


BEFORE = np.array([0.5, 0.1, 0.3, 0.05])
AFTER = np.array([0.1, 0.5, 0.6, 0.4])


def test_the_prevalence_of_shifted_rows_is_found_and_their_probabilities_are_bayes():
    rng = np.random.default_rng(0)
    X = np.stack([mixture(rng, 20_000, share) for share in AFTER], axis=1)
    p = posterior(X, BEFORE)
    shift = estimate(p, BEFORE)
    np.testing.assert_allclose(shift.after, AFTER, atol=0.02)  # about four standard errors
    np.testing.assert_allclose(corrected(p, shift), posterior(X, shift.after), atol=1e-9)


def test_it_is_the_fixed_point_of_em():
    rng = np.random.default_rng(1)
    X = np.stack([mixture(rng, 300, share) for share in AFTER], axis=1)
    p = posterior(X, BEFORE)
    expected = [by_em(column, before) for column, before in zip(p.T, BEFORE, strict=True)]
    np.testing.assert_allclose(estimate(p, BEFORE).after, expected, atol=1e-6)


def test_without_a_shift_nothing_changes_but_for_one_time_in_twenty():
    rng = np.random.default_rng(2)
    changed = 0
    for _ in range(100):
        p = posterior(np.stack([mixture(rng, 400, share) for share in BEFORE], axis=1), BEFORE)
        shift = estimate(p, BEFORE)
        same = shift.after == BEFORE
        np.testing.assert_array_equal(corrected(p, shift)[:, same], p[:, same])
        changed += not same.all()
    assert 0 < changed < 14  # binomial, 5 of 100 expected


def test_probabilities_that_say_nothing_change_nothing():
    p = np.tile(BEFORE, (1000, 1))
    np.testing.assert_array_equal(estimate(p, BEFORE).after, BEFORE)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), c=st.integers(1, 4), places=st.sampled_from([1, 9]))
def test_shares_and_probabilities_stay_within_bounds_and_in_order(seed, n, c, places):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 0.5, (n, c)).round(places)  # also 0 and 1
    before = rng.uniform(0.01, 0.99, c)
    shift = estimate(p, before)
    assert ((shift.after >= 0) & (shift.after <= 1)).all()
    q = corrected(p, shift)
    assert ((q >= 0) & (q <= 1)).all()
    rising = np.diff(np.take_along_axis(q, np.argsort(p, axis=0), axis=0), axis=0)
    assert (rising >= -1e-12).all()
    assert ((q >= p) == (shift.after >= before))[(p > 0) & (p < 1) & (shift.after != before)].all()
    rows, classes = rng.permutation(n), rng.permutation(c)
    again = estimate(p[np.ix_(rows, classes)], before[classes])
    assert again.after == pytest.approx(shift.after[classes], abs=1e-9)
