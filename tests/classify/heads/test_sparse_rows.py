import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encode_once.classify.heads import sparse_rows
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.sparse_rows import SparseRows, background_of
from tests.conftest import examples

CPU = torch.device("cpu")


def counts(n=200, d=60, density=0.03, seed=0):
    """Standardised word counts (n, d), nearly all of them the same number in a column."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, d)) < density, rng.random((n, d)), 0)
    return ((X - X.mean(axis=0)) / (X.std() or 1)).astype(np.float32)


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(sparse_rows, "WIDE", 10)


@examples(30)
@given(seed=st.integers(0, 999), n=st.integers(2, 40), d=st.integers(1, 12))
def test_products_and_squares_are_those_of_the_dense_rows(seed, n, d):
    X, rng = counts(n, d, 0.3, seed), np.random.default_rng(seed)
    rows = SparseRows.of(X, np.median(X, axis=0), CPU)
    dense = np.hstack([X, np.ones((n, 1), np.float32)])
    U, G = (rng.normal(size=(size, 3)).astype(np.float32) for size in (d + 1, n))
    np.testing.assert_allclose(rows @ torch.from_numpy(U), dense @ U, atol=1e-4)
    np.testing.assert_allclose(rows.transposed_times(torch.from_numpy(G)), dense.T @ G, atol=1e-4)
    np.testing.assert_allclose(rows.mean_squares(), (dense**2).mean(axis=0), rtol=1e-4, atol=1e-5)
    assert len(rows) == n


def test_rows_are_sparse_if_they_are_wide_and_rarely_differ_from_the_usual_numbers(narrow):
    X = counts()
    usual = background_of(X)
    assert usual is not None
    assert (usual != X).mean() < 0.04
    assert background_of(X[:, :10]) is None
    assert background_of(np.random.default_rng(0).normal(size=(200, 60)).astype(np.float32)) is None


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_linear_has_the_same_optimum_with_sparse_rows(C, monkeypatch):
    X = counts()
    rng = np.random.default_rng(1)
    Y = rng.random((200, 3)) < 0.3
    Y[:, 0] |= X[:, 0] > 0
    dense = Linear(Cs=[C]).fit(X, Y, X[:50], Y[:50])
    monkeypatch.setattr(sparse_rows, "WIDE", 10)
    wide = Linear(Cs=[C]).fit(X, Y, X[:50], Y[:50])
    np.testing.assert_allclose(wide.coef_, dense.coef_, atol=3e-3)
    np.testing.assert_allclose(wide.intercept_, dense.intercept_, atol=1e-3)


def test_the_layer_of_the_chosen_strength_survives_the_next_one(narrow):
    X = counts()
    Y = np.random.default_rng(2).random((200, 2)) < 0.3  # random labels: the smallest C is the best
    several = Linear(Cs=[0.001, 10.0]).fit(X[:150], Y[:150], X[150:], Y[150:])
    single = Linear(Cs=[0.001]).fit(X[:150], Y[:150], X[150:], Y[150:])
    assert several.C_[0] == np.float32(0.001)
    np.testing.assert_allclose(several.coef_, single.coef_, atol=1e-6)
