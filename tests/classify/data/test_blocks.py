from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify.data.blocks import Matrix, StoredBlock
from tests.conftest import examples

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


@examples(100)
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
