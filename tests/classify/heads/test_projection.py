import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from encode_once.classify.heads import projection


def problem(seed, n, d, c=3):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) * rng.lognormal(size=d) + rng.normal(size=d)).astype(np.float32)
    return X, X @ rng.normal(size=(d, c)) + 3 * rng.normal(size=(n, c)) > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(20, 200), d=st.integers(2, 30), p=st.integers(1, 40))
def test_the_axes_are_principal_components_then_ridge_regressions(seed, n, d, p):
    X, Y = problem(seed, n, d)
    X_val, Y_val = problem(seed + 1, 50, d)
    Z = projection.project(X_val, *projection.learn(X, Y, X_val, Y_val, p))
    kept = min(p, n, d)
    assert Z.shape == (50, kept + 3)
    principal = PCA(kept, svd_solver="full").fit(X)
    distinct = principal.explained_variance_ > 1e-3 * principal.explained_variance_[0]
    theirs = principal.transform(X_val)[:, distinct]
    np.testing.assert_allclose(np.abs(Z[:, :kept][:, distinct]), np.abs(theirs), rtol=1e-2, atol=1e-2)

    scale = X.astype(np.float64).var(axis=0).mean()
    models = [Ridge(alpha=share * scale * n).fit(X.astype(np.float64), Y) for share in projection.RIDGES]
    errors = [((model.predict(X_val) - Y_val) ** 2).sum() for model in models]
    predictions = Z[:, kept:] + Y.mean(axis=0)
    assert ((predictions - Y_val) ** 2).sum() == pytest.approx(min(errors), rel=1e-3)
    np.testing.assert_allclose(predictions, models[int(np.argmin(errors))].predict(X_val), atol=5e-3)


def test_constant_columns_give_finite_axes():
    X, Y = np.zeros((20, 4), np.float32), np.arange(20)[:, None] % 2 == 0
    center, axes = projection.learn(X, Y, X, Y, 2)
    assert np.isfinite(center).all()
    assert np.isfinite(axes).all()
