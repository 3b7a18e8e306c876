"""Images in container files: a source `CONTAINER::POSITION` identifies the bytes of an image.

`shard.tar::dir/0.jpg@OFFSET+SIZE` is a member of an uncompressed tar archive, `x.parquet::COLUMN[ROW]` and
`x.arrow::COLUMN[ROW]` a cell with an image file's bytes, possibly in a struct with its `path`. Images and
containers may also be at URLs. Nothing is decoded here or written to disk: the bytes, and so the content key,
are those of the original file.
"""

import bisect
import os
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from encode_once.cache import DataError
from encode_once.cache.errors import EncodeOnceError, brief
from encode_once.cache.file_index import Stat, stat_of
from encode_once.cache.input_files import (
    IMAGE_MB,
    check_regular,
    check_size,
    limit_mb,
    open_regular,
    read_regular,
)
from encode_once.extract.remote import contents, files
from encode_once.extract.remote.urls import is_remote

MEMBER = re.compile(r"(.+\.(?:tar|parquet|arrow))::(.+)", re.DOTALL)
IN_TAR = re.compile(r".*@(\d{1,18})\+(\d{1,18})", re.DOTALL)
CELL = re.compile(r"(.*)\[(\d{1,18})\]", re.DOTALL)
FILE_FORMAT = b"ARROW1"  # start of arrow's random access files, not of streams
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
MAX_OPEN = 16  # containers kept open
CUT = "{} ends within this image: it was truncated; get the archive again"
GROUPS = 2  # row groups cached per container: threads may be at the end of a group and in the next


def in_tar(container: str, name: str, offset: int, size: int) -> str:
    """The source of a member of a tar archive; `offset` and `size` are in bytes."""
    return f"{container}::{name}@{offset}+{size}"


def cell(container: str, column: str, row: int) -> str:
    """The source of an image in a parquet or arrow file, rows counted from 0."""
    return f"{container}::{column}[{row}]"


def container_of(source: str) -> str:
    """The file that contains an image: the image file itself, or a container."""
    # Called for every image, millions of times; most are separate files, recognised without the pattern.
    match = MEMBER.fullmatch(source) if "::" in source else None
    return match[1] if match else source


def read(source: str) -> bytes:
    """The bytes of an image, from a file or a container. Thread-safe.

    Raises:
        OSError: the file cannot be read, is not a regular file, or the image is larger than IMAGE_MB allows.
        DataError: the container has changed since the source was created, or is damaged.
    """
    match = MEMBER.fullmatch(source) if "::" in source else None
    if not match:
        return _read_url(source) if is_remote(source) else read_regular(source, IMAGE_MB)
    container, position = match.groups()
    if container.endswith(".tar"):
        return _read_tar(container, position)
    column, row = _parsed(CELL, source, position)
    if not is_remote(container):
        check_regular(container)
    try:
        content = _open(container, stat(container)).image(column, int(row))
    except (EncodeOnceError, MemoryError):
        raise
    except Exception as error:  # pyarrow may raise anything for damaged files
        raise DataError(f"{container}: {brief(error)}") from error
    check_size(len(content), IMAGE_MB, source)
    return content


def _parsed(pattern: re.Pattern[str], source: str, position: str) -> tuple[str, ...]:
    match = pattern.fullmatch(position)
    if not match:
        raise DataError(f"{source} is not the position of an image in the container; run extract again")
    return match.groups()


def stat(container: str) -> Stat:
    """Size and version of an image file or a container, at a path or a URL.

    Raises:
        OSError: it does not exist, or may not be accessed; InputError: of a URL, too.
    """
    return files.stat(container) if is_remote(container) else stat_of(container)


def _read_url(url: str) -> bytes:
    check_size(files.stat(url)[0], IMAGE_MB, url)
    content = contents.read_whole(url, limit_mb(IMAGE_MB) << 20)
    check_size(len(content), IMAGE_MB, url)
    return content


def _read_tar(container: str, position: str) -> bytes:
    source = f"{container}::{position}"
    offset, size = map(int, _parsed(IN_TAR, source, position))
    check_size(size, IMAGE_MB, source)
    if is_remote(container):
        if offset + size > files.size(container):
            raise DataError(CUT.format(container))
        return contents.read_part(container, offset, offset + size)
    with open_regular(container) as file:
        if offset + size > os.fstat(file.fileno()).st_size:
            raise DataError(CUT.format(container))
        file.seek(offset)
        return file.read(size)


class _OpenTable:
    """An open parquet or arrow file, of which a row group or record batch is read at a time."""

    def __init__(self, sizes: list[int], read: Callable[[int, str], Any]) -> None:
        self._ends = list(accumulate(sizes))
        self._lock = Lock()  # so that threads do not read the same group several times
        self._read = lru_cache(GROUPS)(read)

    def image(self, column: str, row: int) -> bytes:
        group = bisect.bisect_right(self._ends, row)
        if group == len(self._ends):
            raise DataError(f"the container no longer has a row {row}: run extract again")
        first = self._ends[group - 1] if group else 0
        with self._lock:
            values = self._read(group, column)
        value = values[row - first].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise DataError(f"row {row} of the container has no image")
        return bytes(content)


@lru_cache(MAX_OPEN)
def _open(container: str, stat: Stat) -> _OpenTable:
    """Open a container; cached until the file changes."""
    if container.endswith(".arrow"):
        batches = arrow_batches(Path(container))
        return _OpenTable([len(batch) for batch in batches], lambda group, column: batches[group][column])
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(contents.OpenUrl(container) if is_remote(container) else container)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return _OpenTable(sizes, lambda group, column: file.read_row_group(group, columns=[column])[column])


def arrow_batches(path: Path) -> list[Any]:
    """The record batches of an arrow file (file or stream format), memory-mapped.

    Raises:
        OSError: the file cannot be read.
        DataError: it has neither format, or is truncated.
    """
    import pyarrow as pa

    check_regular(path)
    try:
        mapped = pa.memory_map(str(path))
        if mapped.read(len(FILE_FORMAT)) == FILE_FORMAT:
            file = pa.ipc.open_file(mapped)
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        else:
            mapped.seek(0)
            batches = list(pa.ipc.open_stream(mapped))
            mapped.seek(max(0, mapped.size() - len(END_OF_STREAM)))
            if mapped.read() != END_OF_STREAM:
                raise DataError(f"{path} has no end mark: it was truncated; write it again")
        for batch in batches:
            batch.validate(full=True)  # pyarrow would read wherever damaged offsets lead
    except pa.ArrowException as error:
        raise DataError(f"{path} is not an arrow file: {brief(error)}") from error
    return batches
