"""Arrays with an entry for each row of a large table: in unnamed temporary files rather than in memory.

The system writes their pages to the file and takes them back when memory is short. TMPDIR names the folder of
these files, which should be on a disk; they are gone when the array is, and when the process ends in any way.
"""

import errno
import mmap
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from encode_once.cache.errors import StoreError, brief
from encode_once.cache.format.atomic import reserve

IN_MEMORY = 1 << 24  # the most bytes of an array in memory
BLOCK = 1 << 18  # rows at a time, of which Python objects or copies may be in memory


def new_array(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of any content, in memory or mapped from a temporary file.

    Raises:
        StoreError: the folder of TMPDIR cannot hold it.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    with temporary_files(f"{size >> 20:,} MB"), tempfile.TemporaryFile() as file:
        file.truncate(size)
        reserve(file.fileno())
        return np.frombuffer(map_file(file, mmap.ACCESS_WRITE), dtype).reshape(shape)


@contextmanager
def temporary_files(content: str) -> Iterator[None]:
    """Turn an error of temporary files in the block into a `StoreError`; content: what they are for."""
    try:
        yield
    except OSError as error:
        many = error.errno == errno.EMFILE
        advice = "`ulimit -n` allows more files" if many else "TMPDIR names another folder"
        reason = brief(error.strerror or error)
        raise StoreError(f"{tempfile.gettempdir()} cannot hold {content} ({reason}): {advice}") from error


def map_file(file: IO[bytes], access: int) -> mmap.mmap:
    """Map the whole of a file, which may then be closed; before Python 3.13, the map keeps it open.

    access: `mmap.ACCESS_READ`, or `ACCESS_WRITE` to change the file. A map of `ACCESS_COPY` counts as memory
    that the process may use, so that the system refuses one that is larger than its memory.
    """
    if sys.version_info >= (3, 13):
        return mmap.mmap(file.fileno(), 0, access=access, trackfd=False)
    return mmap.mmap(file.fileno(), 0, access=access)


def concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of arrays of one kind; the array itself if there is one."""
    if len(arrays) == 1:
        return arrays[0]
    result = new_array((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    start = 0
    for array in arrays:
        for rows in row_slices(len(array)):
            result[start + rows.start : start + rows.stop] = array[rows]
        start += len(array)
    return result


def row_slices(rows: int) -> Iterator[slice]:
    """The rows in slices of at most BLOCK."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def gathered(array: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """These rows of an array, (m, …)."""
    result = new_array((len(rows), *array.shape[1:]), array.dtype)
    for part in row_slices(len(rows)):
        result[part] = array[rows[part]]
    return result


def rows_where(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The numbers of the rows that are true, ascending."""
    result = new_array(int(np.count_nonzero(mask)), np.intp)
    end = 0
    for rows in row_slices(len(mask)):
        of_block = np.flatnonzero(mask[rows]) + rows.start
        result[end : end + len(of_block)] = of_block
        end += len(of_block)
    return result
