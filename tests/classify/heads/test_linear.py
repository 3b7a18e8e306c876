import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from encode_once.classify.data.splits import inner
from encode_once.classify.heads.linear import Linear

CS = (0.001, 0.01, 0.1, 1.0, 10.0)


def problem(seed, n, d, c=3):
    """Correlated features of unequal scale and mean, and labels from rare to common."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * rng.lognormal(size=d) + rng.normal(size=d)
    Y = X @ rng.normal(size=(d, c)) / X.std() + rng.logistic(size=(n, c)) > np.linspace(-2, 3, c)
    Y[:2], Y[2:4] = True, False  # both happen in every class
    return X.astype(np.float32), Y


def logistic(X, y, C):
    return LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(X.astype(np.float64), y)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(30, 200), d=st.integers(1, 60), C=st.sampled_from(CS))
def test_scores_are_those_of_logistic_regression(seed, n, d, C):
    X, Y = problem(seed, n, d)
    scores = Linear(Cs=[C], tolerance=1e-6, device="cpu").fit(X, Y, X, Y).predict_proba(X)
    for k in range(Y.shape[1]):
        assert scores[:, k] == pytest.approx(logistic(X, Y[:, k], C).predict_proba(X)[:, 1], abs=2e-3)


def test_each_class_takes_the_strength_of_least_loss_on_the_validation_rows():
    X, Y = problem(1, 400, 30)
    X_val, Y_val, X, Y = X[:200], Y[:200], X[200:], Y[200:]
    head = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X, Y, X_val, Y_val)
    for k in range(Y.shape[1]):
        losses = [log_loss(Y_val[:, k], logistic(X, Y[:, k], C).predict_proba(X_val)[:, 1]) for C in CS]
        assert head.C_[k] == pytest.approx(CS[int(np.argmin(losses))])


def test_without_validation_rows_a_part_serves_to_choose_and_all_rows_are_fitted():
    X, Y = problem(2, 400, 30)
    head = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X, Y)
    rows, held = inner(Y, np.arange(400), seed=0)
    chosen = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X[rows], Y[rows], X[held], Y[held])
    assert np.array_equal(head.C_, chosen.C_)
    for k in range(Y.shape[1]):
        expected = logistic(X, Y[:, k], head.C_[k]).predict_proba(X)[:, 1]
        assert head.predict_proba(X)[:, k] == pytest.approx(expected, abs=2e-3)


def test_separable_and_constant_classes_end_in_finite_scores():
    X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    Y = np.hstack([X > 0, np.zeros_like(X, dtype=bool), np.ones_like(X, dtype=bool)])
    scores = Linear(Cs=[1e6], device="cpu").fit(X, Y, X, Y).predict_proba(X)
    assert np.array_equal(scores > 0.5, Y)


def test_axes_that_float32_does_not_find_are_found_in_float64(monkeypatch):
    """LAPACK may fail on the curvature of a few rows in many columns."""
    X, Y = problem(3, 100, 8)
    expected = Linear(Cs=[1.0], device="cpu").fit(X, Y, X, Y).predict_proba(X)
    solve, asked = torch.linalg.eigh, []

    def eigh(matrix):
        asked.append(matrix.dtype)
        if matrix.dtype == torch.float32:
            raise torch._C._LinAlgError("the algorithm failed to converge")
        return solve(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    found = Linear(Cs=[1.0], device="cpu").fit(X, Y, X, Y).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert asked == [torch.float32, torch.float64]
