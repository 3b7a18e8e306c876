import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from encode_once.classify.data.matrix import column_order
from encode_once.classify.heads import projection
from tests.conftest import examples


def problem(seed, n, d, c=3):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) * rng.lognormal(size=d) + rng.normal(size=d)).astype(np.float32)
    return X, X @ rng.normal(size=(d, c)) + 3 * rng.normal(size=(n, c)) > 0


@examples(15)
@given(seed=st.integers(0, 1000), n=st.integers(20, 60), d=st.integers(3, 30), p=st.integers(1, 40))
def test_the_axes_are_the_columns_then_principal_components_then_ridge_regressions(seed, n, d, p):
    X, Y = problem(seed, n, d)
    X_val, _ = problem(seed + 1, 50, d)
    center, axes, _ = projection.learn(X, Y, p, seed)
    Z = projection.project(X_val, center, axes)
    kept = min(p, n, d)
    assert Z.shape == (50, d + kept + 3)
    plain = (X_val - X.mean(axis=0))[:, column_order(X)]
    np.testing.assert_allclose(Z[:, :d], plain, rtol=1e-4, atol=1e-4)
    principal = PCA(kept, svd_solver="full").fit(X)
    distinct = principal.explained_variance_ > 1e-3 * principal.explained_variance_[0]
    theirs = principal.transform(X_val)[:, distinct]
    np.testing.assert_allclose(np.abs(Z[:, d : d + kept][:, distinct]), np.abs(theirs), rtol=1e-2, atol=1e-2)

    regressions = Z[:, d + kept :]
    scale = X.astype(np.float64).var(axis=0).mean()
    Z, centred = X - X.mean(axis=0, dtype=np.float64), Y - Y.mean(axis=0)
    models = [Ridge(alpha=share * scale * n, fit_intercept=False) for share in projection.RIDGES]
    scores = [cross_val_predict(model, Z, centred, cv=LeaveOneOut()) for model in models]
    errors = ((np.array(scores) - centred) ** 2).sum(axis=(1, 2))
    if np.sort(errors)[1] > errors.min() * (1 + 1e-4):  # else rounding chooses
        best = models[int(errors.argmin())].fit(Z, centred)
        expected = best.predict(X_val - X.mean(axis=0))[:, column_order(Y)]
        np.testing.assert_allclose(regressions, expected, atol=5e-3)


@pytest.mark.parametrize(("n", "d"), [(60, 20), (30, 80)])
def test_a_train_rows_regressions_are_fitted_on_the_other_folds(n, d, monkeypatch):
    monkeypatch.setattr(projection, "RIDGES", (0.3,))
    X, Y = problem(0, n, d)
    center, axes, columns = projection.learn(X, Y, 8, 5)
    np.testing.assert_allclose(columns[:, :-3], projection.project(X, center, axes)[:, :-3], atol=1e-5)
    Z, centred = X - X.mean(axis=0, dtype=np.float64), Y - Y.mean(axis=0)
    model = Ridge(alpha=0.3 * (Z**2).mean() * n, fit_intercept=False)
    for fold in np.array_split(np.random.default_rng(5).permutation(n), projection.MIN_FOLDS):
        others = np.setdiff1d(np.arange(n), fold)
        expected = model.fit(Z[others], centred[others]).predict(Z[fold])[:, column_order(Y)]
        np.testing.assert_allclose(columns[fold, -3:], expected, atol=1e-4)


def test_many_columns_are_left_out_and_so_are_regressions_of_more_labels_than_columns(monkeypatch):
    monkeypatch.setattr(projection, "MAX_PLAIN", 9)
    X, Y = problem(0, 40, 10)
    assert projection.learn(X, Y, 4, 0)[2].shape == (40, 4 + 3)
    X, Y = problem(0, 40, 9, c=10)
    assert projection.learn(X, Y, 4, 0)[2].shape == (40, 9 + 4)


@pytest.mark.parametrize("n", [40, 12])
def test_of_very_many_columns_those_of_greatest_variance_have_axes(n, monkeypatch):
    X, Y = problem(0, n, 20)
    X[:, ::2] *= 1e-3
    kept = np.argsort(-X.var(axis=0))[:8]
    narrow, _, columns_of_kept = projection.learn(X[:, kept], Y, 4, 0)
    monkeypatch.setattr(projection, "MAX_AXES", 8)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 8 * n)
    center, axes, columns = projection.learn(X, Y, 4, 0)
    others = np.setdiff1d(np.arange(20), kept)
    assert not axes[:, others].any()
    np.testing.assert_allclose(center[kept], narrow)
    np.testing.assert_allclose(np.abs(columns), np.abs(columns_of_kept), atol=1e-3)
    np.testing.assert_allclose(projection.project(X, center, axes)[:, :8], columns[:, :8], atol=1e-5)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 20 * n)  # few rows: all columns
    assert projection.learn(X, Y, 4, 0)[1][:, others].any()


def test_constant_columns_give_finite_axes():
    X, Y = np.zeros((20, 4), np.float32), np.arange(20)[:, None] % 2 == 0
    assert all(np.isfinite(learned).all() for learned in projection.learn(X, Y, 2, 0))
