import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.heads.torch.networks import split


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


@settings(max_examples=50, deadline=None)
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
