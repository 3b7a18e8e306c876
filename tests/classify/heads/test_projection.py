import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from encode_once.cache.errors import InsufficientMemoryError
from encode_once.classify import heads
from encode_once.classify.data.matrix import column_order
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.heads import checks, projection
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
    center, axes, _, _ = projection.learn(X, Y, p, seed)
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
    center, axes, columns, _ = projection.learn(X, Y, 8, 5)
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


def words(n, d, seed=0):
    """Rows (n, d) of words in 2, 3, 4, … rows; the columns in random order, and their frequencies (d,)."""
    rng = np.random.default_rng(seed)
    frequencies = rng.permutation(np.arange(2, d + 2))
    return np.column_stack([rng.permutation(np.arange(n) < count) for count in frequencies]), frequencies


@pytest.mark.parametrize("n", [400, 24])
@pytest.mark.parametrize("scale", ["column", "feature", "none"])
def test_of_very_many_columns_the_rarest_words_are_left_out_however_they_are_scaled(n, scale, monkeypatch):
    """The variance chose them, which --scale column makes equal: rounding did, and frequent words went."""
    monkeypatch.setattr(projection, "FREQUENT", 0.6)
    X, frequencies = words(n, 10)
    X, shapes = X.astype(np.float32), [(1, 10)]
    X = np.asarray(Standardised(X, *standardisation(X, shapes, [scale])))
    dense = problem(0, n, 22)[0] * 1e-3  # of the least variance
    X = np.hstack([X[:, :5], dense, X[:, 5:]])
    Y = problem(0, n, 10)[1]
    rarest = np.argsort(frequencies)[:2]
    left_out = np.where(rarest < 5, rarest, rarest + 22)
    used = np.setdiff1d(np.arange(32), left_out)
    narrow, _, columns_of_used, notes = projection.learn(X[:, used], Y, 4, 0)
    assert not notes
    monkeypatch.setattr(projection, "MAX_AXES", 30)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 30 * n)
    center, axes, columns, notes = projection.learn(X, Y, 4, 0)
    assert notes == [
        "trees left out 2 of 32 columns, the rarest of those that are the same in more than 40% of the rows"
    ]
    assert np.array_equal(np.flatnonzero(~axes.any(axis=0)), np.sort(left_out))
    np.testing.assert_allclose(center[used], narrow)
    np.testing.assert_allclose(np.abs(columns), np.abs(columns_of_used), atol=1e-3)
    np.testing.assert_allclose(projection.project(X, center, axes)[:, :30], columns[:, :30], atol=1e-5)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 32 * n)  # few rows: all columns
    _, axes, _, notes = projection.learn(X, Y, 4, 0)
    assert axes.any(axis=0).all()
    assert not notes


@pytest.mark.parametrize("missing", [0.1, 0.7])
def test_rows_without_words_do_not_make_words_frequent(missing, monkeypatch):
    X, _ = words(1_000, 20)
    X = X.astype(np.float32)
    X[np.random.default_rng(1).random(1_000) < missing] = np.nan
    shown = np.nansum(X, axis=0)
    X, Y = np.asarray(Standardised(X, *standardisation(X, [(1, 20)]))), problem(0, 1_000, 1)[1]
    monkeypatch.setattr(projection, "MAX_AXES", 8)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 8)
    _, axes, _, notes = projection.learn(X, Y, 4, 0)
    used = axes.any(axis=0)
    assert used.sum() == 8
    assert shown[used].min() >= shown[~used].max()
    assert len(notes) == 1


@pytest.mark.parametrize("n", [100, 30])
def test_dense_columns_are_never_left_out(n, monkeypatch):
    """Of 5,000 columns, the only informative one was, as its variance was the least."""
    monkeypatch.setattr(projection, "MAX_AXES", 8)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 8)
    X, Y = problem(0, n, 20)
    X[:, 7] /= 1e3
    _, axes, _, notes = projection.learn(X, Y, 4, 0)
    assert axes.any(axis=0).all()
    assert not notes


@pytest.mark.parametrize(("n", "d"), [(60, 20), (20, 60)])
def test_columns_that_are_too_many_for_memory_are_an_error(n, d, monkeypatch):
    X, Y = problem(0, n, d)
    monkeypatch.setattr(checks, "available_memory", lambda: 8.0 * 4 * 20**2 - 1)
    with pytest.raises(InsufficientMemoryError, match=r"head with trees would need about .* --features"):
        projection.learn(X, Y, 4, 0)


@pytest.mark.parametrize("name", ["forest", "gbm"])
def test_heads_of_trees_note_columns_that_they_leave_out(name, monkeypatch):
    X, _ = words(100, 40)
    head = heads.make(name, jobs=1, **{"trees": 2} if name == "forest" else {"rounds": 2})
    assert not head.fit(X.astype(np.float32), X[:, :2]).notes
    monkeypatch.setattr(projection, "MAX_AXES", 10)
    monkeypatch.setattr(projection, "MAX_NUMBERS", 10)
    # Words in 5 of 100 rows or more stay, though they are more than ten; and two of the three others.
    assert head.fit(X.astype(np.float32), X[:, :2]).notes == [
        "trees left out 1 of 40 columns, the rarest of those that are the same in more than 95% of the rows"
    ]


def test_constant_columns_give_finite_axes():
    X, Y = np.zeros((20, 4), np.float32), np.arange(20)[:, None] % 2 == 0
    assert all(np.isfinite(learned).all() for learned in projection.learn(X, Y, 2, 0)[:3])
