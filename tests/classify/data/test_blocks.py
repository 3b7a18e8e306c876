from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from encode_once.cache import Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify.data.blocks import Matrix, StoredBlock
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.heads.torch.networks import split

KEYS = pack(content_key(bytes([row])) for row in range(10))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A feature of sequences of 0 to 4 vectors, in two parts; contents 8 and 9 are absent."""
    rng = np.random.default_rng(0)
    feature = Store(tmp_path_factory.mktemp("store")).declare("e/tokens", {"modality": "caption"})
    for part, lengths in (([3, 0, 5, 7], [2, 4, 0, 1]), ([1, 2, 4, 6], [1, 3, 3, 2])):
        with feature.writer(4) as writer:
            writer.append(
                KEYS[part], rng.normal(size=(sum(lengths), 3)).astype(np.float16), np.array(lengths)
            )
    return feature


def sequence(feature, contents, length):
    """The joined sequences of contents, cut or padded with NaN to (length, 3)."""
    sequences = [feature.read_ragged(KEYS[[content]])[0] for content in contents if content < 8]
    values = np.concatenate([np.empty((0, 3)), *sequences])[:length]
    return np.concatenate([values, np.full((length - len(values), 3), np.nan)])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_sequences_of_a_samples_captions_are_joined(tokens, data):
    k, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    content = st.integers(0, 9)
    samples = data.draw(st.lists(st.lists(content, min_size=k, max_size=k), min_size=1, max_size=8))
    n = len(samples)
    rows = np.array([tokens.find(KEYS[np.array(contents)]) for contents in samples]).T
    block = StoredBlock("e/tokens", tokens, rows, length)
    expected = np.array([sequence(tokens, contents, length) for contents in samples])
    assert (len(block), block.shape) == (n, (length, 3))
    indices = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=8)), np.intp)
    taken = block.take(indices)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, expected[indices].astype(np.float32))
    assert block.missing().tolist() == [min(contents) >= 8 for contents in samples]
    flat = Matrix([block, replace(block, name="again")])
    assert flat.shape == (n, 6 * length)
    np.testing.assert_array_equal(flat[indices], np.tile(expected[indices].reshape(-1, 3 * length), 2))


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
