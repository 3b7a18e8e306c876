import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestNeighbors

from encode_once.cache.errors import DataError
from encode_once.classify.heads.knn import KNN
from tests.conftest import examples


def problem(seed, n, d=6, c=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float16).astype(np.float32)  # float16 is stored
    Y = X @ rng.normal(size=(d, c)) + rng.normal(size=(n, c)) > np.linspace(-1, 1, c)
    Y[:2], Y[2:4] = True, False
    return X, Y


def neighbours(X, queries, k, metric):
    """Distances and indices of the k nearest rows, by scikit-learn."""
    if metric == "cosine":
        X, queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, queries))
        X = X.astype(np.float16)  # as stored
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X.astype(np.float64))
    distances, rows = index.kneighbors(queries.astype(np.float64))
    return distances**2 / 2 if metric == "cosine" else distances, rows


def shares(X, Y, queries, k, temperature, metric, spread):
    """The definition, row by row."""
    scores = np.empty((len(queries), Y.shape[1]))
    for row, distances, near in zip(scores, *neighbours(X, queries, k, metric), strict=True):
        weights = np.exp(-(distances - distances[0]) / (temperature * spread))
        row[:] = ((weights[:, None] * Y[near]).sum(0) + Y.mean(0)) / (weights.sum() + 1)
    return scores


def mean_spread(X, queries, k, metric):
    distances, _ = neighbours(X, queries, k, metric)
    return (distances[:, -1] - distances[:, 0]).mean()


@examples(50)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(12, 80),
    k=st.integers(2, 10),
    temperature=st.sampled_from([0.1, 1.0, float("inf")]),
    metric=st.sampled_from(["cosine", "l2"]),
)
def test_scores_are_the_shares_of_the_votes(seed, n, k, temperature, metric):
    X, Y = problem(seed, n)
    queries, truth = problem(seed + 1, 20)
    head = KNN(ks=[k], temperatures=[temperature], metric=metric, device="cpu").fit(X, Y, queries, truth)
    spread = mean_spread(X, queries, k, metric)
    expected = shares(X, Y, queries, k, temperature, metric, spread)
    np.testing.assert_allclose(head.predict_proba(queries), expected, atol=5e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_k_and_temperature_are_those_of_least_loss_on_the_validation_rows(metric):
    X, Y = problem(3, 500)
    X, Y, X_val, Y_val = X[:300], Y[:300], X[300:], Y[300:]
    head = KNN(ks=(3, 12, 48), temperatures=(0.25, float("inf")), metric=metric, device="cpu")
    head.fit(X, Y, X_val, Y_val)
    spread = mean_spread(X, X_val, 48, metric)
    losses = {
        (t, k): sum(log_loss(Y_val[:, c], shares(X, Y, X_val, k, t, metric, spread)[:, c]) for c in range(3))
        for t in (0.25, float("inf"))
        for k in (3, 12, 48)
    }
    assert losses[head.temperature_[0], head.k_[0]] == pytest.approx(min(losses.values()), abs=1e-3)
    assert max(losses.values()) > 1.05 * min(losses.values())


def test_without_validation_rows_all_rows_are_stored():
    X, Y = problem(4, 100)
    assert len(KNN(device="cpu").fit(X, Y).rows_) == 100
    assert len(KNN(device="cpu").fit(X[:80], Y[:80], X[80:], Y[80:]).rows_) == 80


def test_more_neighbours_than_rows_are_all_rows():
    X, Y = problem(5, 30)
    head = KNN(ks=(1000,), temperatures=(float("inf"),), device="cpu").fit(X, Y, X, Y)
    np.testing.assert_allclose(head.predict_proba(X[:3]), np.tile(Y.mean(0), (3, 1)), rtol=1e-5)


def test_an_unknown_metric_is_an_error():
    with pytest.raises(DataError, match="did you mean 'cosine'"):
        KNN(metric="cosin").fit(*problem(0, 20))


def test_rows_beyond_float16_are_an_error():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * 1e6
    with pytest.raises(DataError, match=r"rows of head knn as float16: .* of 120 values are NaN or infinite"):
        KNN(metric="l2", device="cpu").fit(X, X[:, :2] > 0, X, X[:, :2] > 0)


def test_no_share_exceeds_one():
    X, _ = problem(6, 300)
    head = KNN(device="cpu").fit(X[:200], np.ones((200, 2), bool), X[200:], np.ones((100, 2), bool))
    assert head.predict_proba(X).max() == 1
