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
    """A feature of sequences of 0 to 4 vectors, in two parts; two contents have none."""
    rng = np.random.default_rng(0)
    feature = Store(tmp_path_factory.mktemp("store")).declare("e/tokens", {"modality": "caption"})
    for part, lengths in (([3, 0, 5, 7], [2, 4, 0, 1]), ([1, 2, 4, 6], [1, 3, 3, 2])):
        with feature.writer(4) as writer:
            writer.append(
                KEYS[part], rng.normal(size=(sum(lengths), 3)).astype(np.float16), np.array(lengths)
            )
    return feature


def sequence(feature, contents, length):
    """The sequences of some contents one behind the other, cut, padded with NaN: (length, 3)."""
    found = [feature.read_ragged(KEYS[[content]])[0] for content in contents if content < 8]
    values = np.concatenate([np.empty((0, 3)), *found])[:length]
    return np.concatenate([values, np.full((length - len(values), 3), np.nan)])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_sequences_of_a_samples_captions_come_one_behind_the_other(tokens, data):
    k, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    content = st.integers(0, 9)
    samples = data.draw(st.lists(st.lists(content, min_size=k, max_size=k), min_size=1, max_size=8))
    n = len(samples)
    rows = np.array([tokens.find(KEYS[np.array(some)]) for some in samples]).T
    block = StoredBlock("e/tokens", tokens, rows, length)
    expected = np.array([sequence(tokens, some, length) for some in samples])
    assert (len(block), block.shape) == (n, (length, 3))
    wanted = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=8)), np.intp)
    taken = block.take(wanted)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, expected[wanted].astype(np.float32))
    assert block.missing().tolist() == [all(one >= 8 for one in some) for some in samples]
    flat = Matrix([block, replace(block, name="again")])
    assert flat.shape == (n, 6 * length)
    np.testing.assert_array_equal(flat[wanted], np.tile(expected[wanted].reshape(-1, 3 * length), 2))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(1, 5), chunk=st.integers(1, 7))
def test_the_standardisation_of_sequences_is_scikit_learns_over_all_tokens(seed, length, chunk):
    rng = np.random.default_rng(seed)
    sequences = [rng.normal(size=(rng.integers(0, length + 1), 2)) * 3 + 5 for _ in range(12)]
    sequences[0] = rng.normal(size=(length, 2))
    block = np.full((12, length, 2), np.nan)
    for row, one in zip(block, sequences, strict=True):
        row[: len(one)] = one
    vectors = rng.normal(size=(12, 3)) * 2 - 4
    X = np.concatenate([vectors, block.reshape(12, -1)], axis=1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encode_once.classify.data.matrix.CHUNK", chunk)
        mean, scale = standardisation(X, [(1, 3), (length, 2)])
    of_vectors, of_tokens = StandardScaler().fit(vectors), StandardScaler().fit(np.concatenate(sequences))
    share = np.sqrt(5 / (2 * np.array([3, 2])))  # of the two features, 1 a column on average
    assert mean == pytest.approx(
        np.append(of_vectors.mean_, np.tile(of_tokens.mean_, length)), rel=1e-4, abs=1e-5
    )
    expected = np.append(of_vectors.scale_ / share[0], np.tile(of_tokens.scale_ / share[1], length))
    assert scale == pytest.approx(expected, rel=1e-4)
    # What a network is given are the standardised tokens, and how many there are.
    _, (tokens, there) = split(torch.from_numpy(Standardised(X, mean, scale)[:]), [(1, 3), (length, 2)])
    assert there.sum(1).tolist() == [len(one) for one in sequences]
    for row, has, one in zip(tokens, there, sequences, strict=True):
        if len(one):
            np.testing.assert_allclose(row[has], of_tokens.transform(one) * share[1], atol=1e-4)
