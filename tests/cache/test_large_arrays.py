import errno
import os
import tempfile
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import StoreError, large_arrays
from encode_once.cache.large_arrays import concatenated, gathered, new_array, rows_where


@pytest.mark.parametrize("most", [0, 1 << 20])
@given(st.lists(st.lists(st.booleans(), max_size=9), min_size=1, max_size=4), st.integers(1, 5))
def test_arrays_in_files_are_like_those_in_memory(most, parts, block):
    arrays = [np.array(part, np.bool_) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_arrays, "IN_MEMORY", most)
        patch.setattr(large_arrays, "BLOCK", block)
        whole = concatenated(arrays)
        assert whole.tolist() == [*chain(*parts)]
        backwards = np.arange(len(whole))[::-1]
        assert gathered(whole, backwards).tolist() == whole[::-1].tolist()
        assert rows_where(whole).tolist() == np.flatnonzero([*chain(*parts)]).tolist()


def failing(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("module", "name", "number", "message"),
    [
        (os, "posix_fallocate", errno.ENOSPC, r"8 MB \(No space.*TMPDIR names another folder"),
        (os, "posix_fallocate", errno.EIO, r"8 MB \(Input/output error\): TMPDIR names another folder"),
        (tempfile, "TemporaryFile", errno.EACCES, r"8 MB \(Permission denied\): TMPDIR"),
        (tempfile, "TemporaryFile", errno.EMFILE, r"8 MB \(Too many open files\): `ulimit -n` allows more"),
    ],
)
def test_a_failing_disk_is_reported_before_an_array_is_used(monkeypatch, module, name, number, message):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(module, name, failing(number))
    with pytest.raises(StoreError, match=f"cannot hold {message}"):
        new_array(1 << 20, np.float64)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_a_file_system_that_cannot_reserve_space_holds_arrays(monkeypatch, number):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    else:
        monkeypatch.setattr(os, "posix_fallocate", failing(number))
    array = new_array((10, 3), np.int32)
    array[:] = 7
    assert array.sum() == 210
