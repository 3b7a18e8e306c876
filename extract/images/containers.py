"""Images that lie in a container: a source `CONTAINER::WHERE` says which bytes of which file they are.

`shard.tar::dir/0.jpg@OFFSET+SIZE` is a member of an uncompressed tar archive, `x.parquet::COLUMN[ROW]` and
`x.arrow::COLUMN[ROW]` a cell with an image file's bytes, bare or in a struct beside its `path`. Nothing is
decoded here and nothing written to disk: the bytes are those of the original file, so its key is the same.
"""

import bisect
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from encode_once.cache import DataError
from encode_once.cache.errors import brief
from encode_once.cache.file_index import Stat, stat_of

MEMBER = re.compile(r"(.+\.(?:tar|parquet|arrow))::(.+)", re.DOTALL)
IN_TAR = re.compile(r".*@(\d+)\+(\d+)", re.DOTALL)
CELL = re.compile(r"(.*)\[(\d+)\]", re.DOTALL)
FILE_FORMAT = b"ARROW1"  # what arrow's random access files begin with; streams do not
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
OPENED = 16  # containers kept open
GROUPS = 2  # row groups kept of each: threads work side by side on rows around the end of one


def in_tar(container: str, name: str, offset: int, size: int) -> str:
    """The source of a tar archive's member, whose bytes begin at `offset`."""
    return f"{container}::{name}@{offset}+{size}"


def cell(container: str, column: str, row: int) -> str:
    """The source of an image in a parquet or arrow file, rows counted from 0."""
    return f"{container}::{column}[{row}]"


def container_of(source: str) -> str:
    """The file in which an image lies: its own, or a container."""
    # Asked of every image, a million times: most are files of their own, told without the pattern.
    found = MEMBER.fullmatch(source) if "::" in source else None
    return found[1] if found else source


def read(source: str) -> bytes:
    """The bytes of an image, from a file of its own or a container. Any number of threads may call this.

    Raises:
        OSError: the file is not there or cannot be read.
        DataError: the container is not as it was when the source was named.
    """
    found = MEMBER.fullmatch(source)
    if not found:
        return Path(source).read_bytes()
    container, where = found.groups()
    if container.endswith(".tar"):
        return _in_tar(container, where)
    column, row = _parsed(CELL, source, where)
    try:
        return _opened(container, stat_of(container)).image(column, int(row))
    except (ValueError, KeyError) as error:  # pyarrow's, or ours
        raise DataError(f"{container}: {brief(error)}") from error


def _parsed(pattern: re.Pattern[str], source: str, where: str) -> tuple[str, ...]:
    found = pattern.fullmatch(where)
    if not found:
        raise DataError(f"{source} names no image in the container; extract again")
    return found.groups()


def _in_tar(container: str, where: str) -> bytes:
    offset, size = map(int, _parsed(IN_TAR, f"{container}::{where}", where))
    with Path(container).open("rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise DataError(f"{container} ends within this image: it was cut off; get the archive again")
    return content


class _Columns:
    """A parquet or arrow file, open: its columns, a row group or record batch at a time."""

    def __init__(self, sizes: list[int], read: Callable[[int, str], Any]) -> None:
        self._ends = list(accumulate(sizes))
        self._lock = Lock()  # threads that need the same group wait for it instead of each reading it
        self._read = lru_cache(GROUPS)(read)

    def image(self, column: str, row: int) -> bytes:
        group = bisect.bisect_right(self._ends, row)
        if group == len(self._ends):
            raise DataError(f"the container has no row {row} any more: extract again")
        first = self._ends[group - 1] if group else 0
        with self._lock:
            values = self._read(group, column)
        value = values[row - first].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise DataError(f"row {row} of the container has no image")
        return bytes(content)


@lru_cache(OPENED)
def _opened(container: str, stat: Stat) -> _Columns:
    """A container, opened once for each state of it."""
    if container.endswith(".arrow"):
        batches = arrow_batches(Path(container))
        return _Columns([len(batch) for batch in batches], lambda group, column: batches[group][column])
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(container)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return _Columns(sizes, lambda group, column: file.read_row_group(group, columns=[column])[column])


def arrow_batches(path: Path) -> list[Any]:
    """The record batches of an arrow file, mapped, not read; `datasets` writes the stream format.

    Raises:
        OSError: it is not there or cannot be read.
        DataError: it is in neither format, or was cut off.
    """
    import pyarrow as pa

    mapped = pa.memory_map(str(path))
    try:
        if mapped.read(len(FILE_FORMAT)) == FILE_FORMAT:
            file = pa.ipc.open_file(mapped)
            return [file.get_batch(number) for number in range(file.num_record_batches)]
        mapped.seek(0)
        batches = list(pa.ipc.open_stream(mapped))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no arrow file: {error}") from error
    mapped.seek(max(0, mapped.size() - len(END_OF_STREAM)))
    if mapped.read() != END_OF_STREAM:
        raise DataError(f"{path} ends before its end mark: it was cut off; write it again")
    return batches
