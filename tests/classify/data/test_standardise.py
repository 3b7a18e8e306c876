import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler

from encode_once.cache.errors import DataError
from encode_once.classify.data.standardise import (
    ColumnStatistics,
    Standardised,
    choose_scales,
    standardisation,
)
from encode_once.classify.heads.torch.networks import split
from tests.conftest import examples


def test_the_standardisation_is_scikit_learns_with_the_variance_shared_by_feature(monkeypatch):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 16)
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(100, 6)) * rng.lognormal(size=6) + 100 * rng.normal(size=6)).astype(np.float32)
    X[:, 1] = 7.7  # constant
    X[16:32, :2] = np.nan  # a whole chunk has no vector of the first feature
    X[96:, 2:] = np.nan  # and the last chunk none of the second
    mean, scale = standardisation(X, [(1, 2), (1, 4)])
    scaler = StandardScaler().fit(X.astype(np.float64))
    share = np.array([6 / (2 * 2)] * 2 + [6 / (2 * 4)] * 4)  # of the variance, 1 a column on average
    assert mean == pytest.approx(scaler.mean_, rel=1e-6)
    assert scale == pytest.approx(scaler.scale_ / np.sqrt(share), rel=1e-6)


def test_a_feature_without_any_vector_becomes_zeros():
    X = np.array([[1, np.nan], [3, np.nan]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, scale = standardisation(X, [(1, 1), (1, 1)])
        rows = Standardised(np.array([[1, np.nan], [3, 5]], np.float32), mean, scale)[:]
    assert rows.tolist() == [[-1, 0], [1, 0]]


@pytest.mark.parametrize("numbers", [[np.inf], [-np.inf], [np.inf, -np.inf, np.nan]])
def test_columns_with_infinite_numbers_name_their_feature(numbers):
    X = np.ones((20, 4), np.float32)
    X[:, 0] = np.nan  # missing in all rows
    ColumnStatistics.of(X, [(1, 1), (1, 3)]).check_finite({"a": (1, 1), "b": (1, 3)})
    X[: len(numbers), 2] = numbers
    statistics = ColumnStatistics.of(X, [(1, 1), (1, 3)])
    with pytest.raises(DataError, match="b has infinite numbers in 1 of 3 columns"):
        statistics.check_finite({"a": (1, 1), "b": (1, 3)})


def words(rng, n=200, d=30):
    """Rows of 0 and 1 in which later columns are rarer; each column has a 1."""
    X = (rng.random((n, d)) < 0.5 / np.arange(1, d + 1)).astype(np.float32)
    X[:d] += np.eye(d, dtype=np.float32) * (X[:d].sum(axis=0) == 0)
    return X


def test_only_columns_of_a_dense_feature_are_scaled_apart_unless_asked_for():
    rng = np.random.default_rng(0)
    dense, sparse = rng.normal(size=(200, 3)), words(rng)
    half = np.where(np.arange(200)[:, None] % 2, 0.0, rng.normal(size=(200, 2)))  # zeros: not more than half
    absent = np.full((200, 1), np.nan)
    X = np.hstack([dense, sparse, half, absent]).astype(np.float32)
    X[7, :33] = np.nan
    shapes = [(1, 3), (1, 30), (1, 2), (1, 1)]
    assert choose_scales(X, shapes) == ["column", "feature", "column", "column"]
    assert choose_scales(X, shapes, "idf") == ["idf"] * 4


@pytest.mark.parametrize("kind", ["feature", "idf"])
def test_a_feature_scaled_as_a_whole_keeps_its_proportions_and_its_share_of_the_variance(kind):
    rng = np.random.default_rng(1)
    X = np.hstack([words(rng), rng.normal(size=(200, 5))]).astype(np.float32)
    mean, scale = standardisation(X, [(1, 30), (1, 5)], [kind, "column"])
    weighted = X[:, :30]
    if kind == "idf":
        weighted = TfidfTransformer(norm=None, smooth_idf=False).fit_transform(weighted).toarray()
    ratio = Standardised(X, mean, scale)[:][:, :30] / (weighted - weighted.mean(axis=0))
    assert ratio == pytest.approx(np.full_like(ratio, ratio[0, 0]), rel=1e-4)
    of_words, of_others = np.split(Standardised(X, mean, scale)[:].var(axis=0), [30])
    assert of_words.sum() == pytest.approx(of_others.sum(), rel=1e-4)


def test_columns_are_only_centred_if_no_scale_is_wanted():
    X = np.array([[1, 10], [3, 50]], np.float32)
    mean, scale = standardisation(X, [(1, 1), (1, 1)], ["none", "none"])
    assert Standardised(X, mean, scale)[:].tolist() == [[-1, -20], [1, 20]]


@examples(50)
@given(seed=st.integers(0, 999), length=st.integers(1, 5), chunk=st.integers(1, 7))
def test_the_standardisation_of_sequences_is_scikit_learns_over_all_tokens(seed, length, chunk):
    rng = np.random.default_rng(seed)
    sequences = [rng.normal(size=(rng.integers(0, length + 1), 2)) * 3 + 5 for _ in range(12)]
    sequences[0] = rng.normal(size=(length, 2))
    block = np.full((12, length, 2), np.nan)
    for row, vectors in zip(block, sequences, strict=True):
        row[: len(vectors)] = vectors
    single = rng.normal(size=(12, 3)) * 2 - 4
    X = np.concatenate([single, block.reshape(12, -1)], axis=1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encode_once.classify.data.matrix.CHUNK", chunk)
        mean, scale = standardisation(X, [(1, 3), (length, 2)])
    of_single, of_tokens = StandardScaler().fit(single), StandardScaler().fit(np.concatenate(sequences))
    share = np.sqrt(5 / (2 * np.array([3, 2])))  # of the two features, 1 a column on average
    assert mean == pytest.approx(
        np.append(of_single.mean_, np.tile(of_tokens.mean_, length)), rel=1e-4, abs=1e-5
    )
    expected = np.append(of_single.scale_ / share[0], np.tile(of_tokens.scale_ / share[1], length))
    assert scale == pytest.approx(expected, rel=1e-4)
    # A network receives the standardised tokens and which places hold one.
    _, (tokens, present) = split(torch.from_numpy(Standardised(X, mean, scale)[:]), [(1, 3), (length, 2)])
    assert present.sum(1).tolist() == [len(vectors) for vectors in sequences]
    for row, places, vectors in zip(tokens, present, sequences, strict=True):
        if len(vectors):
            np.testing.assert_allclose(row[places], of_tokens.transform(vectors) * share[1], atol=1e-4)
