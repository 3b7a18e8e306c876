import errno
import os
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import StoreError, large_arrays
from encode_once.cache.large_arrays import concatenated, new_array, rows_where


@pytest.mark.parametrize("most", [0, 1 << 20])
@given(st.lists(st.lists(st.booleans(), max_size=9), min_size=1, max_size=4), st.integers(1, 5))
def test_arrays_in_files_are_like_those_in_memory(most, parts, block):
    arrays = [np.array(part, np.bool_) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_arrays, "IN_MEMORY", most)
        patch.setattr(large_arrays, "BLOCK", block)
        whole = concatenated(arrays)
        assert whole.tolist() == [*chain(*parts)]
        assert rows_where(whole).tolist() == np.flatnonzero([*chain(*parts)]).tolist()


def test_a_full_disk_is_reported_before_an_array_is_used(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"has no room for 8 MB \(No space.*TMPDIR names another folder"):
        new_array(1 << 20, np.float64)
