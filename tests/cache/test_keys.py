import hashlib
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import large_arrays
from encode_once.cache.keys import (
    NO_KEY,
    KeyIndex,
    Shard,
    content_key,
    first_occurrences,
    pack,
    present,
    spec_key,
)

# Few distinct halves, so that keys agree in one half and the index must compare both.
halves = st.sampled_from([0, 1, 128, 255])
keys = st.builds(lambda a, b: bytes([a] * 8 + [b] * 8), halves, halves)


@contextmanager
def in_files(block):
    """All arrays in temporary files, and `block` rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_arrays, "BLOCK", block)
        patch.setattr(large_arrays, "IN_MEMORY", 0)
        yield


def test_a_content_key_is_blake2b():
    assert content_key(b"a cat") == hashlib.blake2b(b"a cat", digest_size=16).digest()
    assert content_key(b"a cat") != content_key(b"a bat")


def test_a_spec_key_depends_on_the_spec_and_not_on_its_order():
    assert spec_key({"a": 1, "b": "x"}) == spec_key({"b": "x", "a": 1})
    assert spec_key({"a": 1}) != spec_key({"a": 2})
    assert spec_key({"a": 1}) != spec_key({"a": "1"})


def test_a_row_without_content_has_no_key():
    assert present(pack([NO_KEY, content_key(b"")])).tolist() == [False, True]


@given(st.lists(keys), st.lists(keys), st.sampled_from([1, 3, 1000]))
def test_the_index_finds_the_first_row_of_each_key(indexed, queries, block):
    first = {key: row for row, key in reversed([*enumerate(indexed)])}
    with in_files(block):
        index = KeyIndex(pack(indexed))
        assert index.find(pack(queries)).tolist() == [first.get(key, -1) for key in queries]
        assert index.has(pack(queries)).tolist() == [key in first for key in queries]
    assert len(index) == len(first)


@given(st.lists(keys), st.sampled_from([1, 3, 1000]))
def test_first_occurrences_keep_the_order(rows, block):
    with in_files(block):
        first = first_occurrences(pack(rows))
    assert [rows[i] for i in first] == list(dict.fromkeys(rows))
    assert np.all(np.diff(first) > 0)


@given(st.lists(st.binary(min_size=16, max_size=16)), st.integers(1, 7))
def test_each_content_belongs_to_exactly_one_shard(contents, count):
    keys = pack(contents)
    shares = np.array([Shard(number, count).has(keys) for number in range(count)]).reshape(count, len(keys))
    assert (shares.sum(axis=0) == 1).all()
    numbers = [int.from_bytes(content[:8], "little") % count for content in contents]  # as SPEC.md says
    assert shares.argmax(axis=0).tolist() == numbers


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", (0, 1)), ("1/3", (1, 3)), ("3/3", (0, 3)), ("0/3", (0, 3))]
)
def test_a_shard_is_parsed_counted_from_one_or_from_zero(text, shard):
    assert Shard.parse(text) == Shard(*shard)
