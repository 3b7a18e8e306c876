"""Arrays with an entry for each row of a large table: in unnamed temporary files rather than in memory.

The system writes their pages to the file and takes them back when memory is short. TMPDIR names the folder of
these files, which should be on a disk; they are gone when the array is, and when the process ends in any way.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from encode_once.cache.errors import StoreError

IN_MEMORY = 1 << 24  # the most bytes of an array in memory
BLOCK = 1 << 18  # rows at a time, of which Python objects or copies may be in memory


def new_array(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of any content, in memory or mapped from a temporary file.

    Raises:
        StoreError: the disk of TMPDIR is full.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process later
        except OSError as error:
            raise StoreError(
                f"{tempfile.gettempdir()} has no room for {size >> 20:,} MB ({error.strerror}): TMPDIR names "
                "another folder"
            ) from error
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)


def concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of arrays of one kind; the array itself if there is one."""
    if len(arrays) == 1:
        return arrays[0]
    result = new_array((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    start = 0
    for array in arrays:
        for rows in blocks(len(array)):
            result[start + rows.start : start + rows.stop] = array[rows]
        start += len(array)
    return result


def blocks(rows: int) -> Iterator[slice]:
    """The rows in slices of at most BLOCK."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def rows_where(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The numbers of the rows that are true, ascending."""
    result = new_array(int(np.count_nonzero(mask)), np.intp)
    end = 0
    for rows in blocks(len(mask)):
        of_block = np.flatnonzero(mask[rows]) + rows.start
        result[end : end + len(of_block)] = of_block
        end += len(of_block)
    return result
