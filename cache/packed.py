"""Open table files, also those that are compressed: `.csv.gz` is read as a .csv file."""

import gzip
import io
from pathlib import Path
from typing import BinaryIO, cast

from encode_once.cache.errors import DataError
from encode_once.cache.input_files import open_regular

GZIP = ".gz"
MOST = 200  # bytes that a byte may become; text shrinks to a tenth or, if it repeats much, a hundredth
ENOUGH = 1 << 30  # bytes that are always allowed


def suffix_of(path: Path) -> str:
    """The suffix that says the format, in lower case, without that of a compression."""
    inner = path.with_suffix("") if path.suffix.lower() == GZIP else path
    return inner.suffix.lower()


def stem_of(path: Path) -> str:
    """The name without its suffixes."""
    return (path.with_suffix("") if path.suffix.lower() == GZIP else path).stem


def open_packed(path: Path) -> BinaryIO:
    """Open a regular file for reading, decompressed if its name ends in .gz.

    Raises:
        OSError: it cannot be opened.
    """
    file = open_regular(path)
    if path.suffix.lower() != GZIP:
        return file
    most = max(ENOUGH, MOST * path.stat().st_size)
    return cast("BinaryIO", io.BufferedReader(_Limited(gzip.GzipFile(fileobj=file), most, path)))


class _Limited(io.RawIOBase):
    """A compressed file that is an error when it becomes far larger than tables do."""

    def __init__(self, file: gzip.GzipFile, most: int, path: Path) -> None:
        self._file, self._left, self._path = file, most, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._path}: becomes far larger than a table does; unpack it to see what it is"
            )
        buffer[: len(content)] = content
        return len(content)
