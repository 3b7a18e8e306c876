import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cache.keys import NO_KEY, KeyIndex, content_key, first_occurrences, pack, present, spec_key

# Few distinct first and last bytes, so that keys agree in part and the index has to look at all of them.
keys = st.builds(lambda a, b: bytes([a] * 8 + [b] * 8), st.integers(0, 3), st.integers(0, 3))


def test_a_content_key_is_blake2b():
    assert content_key(b"a cat") == hashlib.blake2b(b"a cat", digest_size=16).digest()
    assert content_key(b"a cat") != content_key(b"a bat")


def test_a_spec_key_depends_on_what_it_says_and_not_on_its_order():
    assert spec_key({"a": 1, "b": "x"}) == spec_key({"b": "x", "a": 1})
    assert spec_key({"a": 1}) != spec_key({"a": 2})
    assert spec_key({"a": 1}) != spec_key({"a": "1"})


def test_a_row_without_content_has_no_key():
    assert present(pack([NO_KEY, content_key(b"")])).tolist() == [False, True]


@given(st.lists(keys, unique=True), st.lists(keys))
def test_the_index_finds_what_a_dict_finds(held, asked):
    place = {key: row for row, key in enumerate(held)}
    found = KeyIndex(pack(held)).find(pack(asked))
    assert found.tolist() == [place.get(key, -1) for key in asked]


@given(st.lists(keys))
def test_first_occurrences_keep_the_order(rows):
    first = first_occurrences(pack(rows))
    assert [rows[i] for i in first] == list(dict.fromkeys(rows))
    assert np.all(np.diff(first) > 0)
