"""Which key an unchanged file has, without reading it again.

A row says: the file of this path, size and modification time had this key. Losing the index costs one
reading of the files, nothing else.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cache.errors import StoreError

Stat = tuple[int, int]  # size in bytes, modification time in nanoseconds
SETTLED_NS = (
    2_000_000_000  # a file modified later than this before it was hashed may change within one clock tick
)


def stat_of(path: str | os.PathLike[str]) -> Stat:
    """What a change of the file would change.

    Raises:
        OSError: there is no such file, or it may not be looked at.
    """
    found = os.stat(path)  # noqa: PTH116 — a million times: Path objects would cost more than the call
    return found.st_size, found.st_mtime_ns


class StatIndex:
    """The keys of files seen before, kept in SQLite beside the store."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the index, made if it is not there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = sqlite3.connect(self._path, timeout=30)
            try:
                with connection:
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS files"
                        " (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, key BLOB) WITHOUT ROWID"
                    )
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: {error}. Delete it: it only spares reading files again."
            ) from error

    def known(self, stats: Mapping[str, Stat]) -> dict[str, bytes]:
        """Keys of those files, given by absolute path, that are as they were when they were hashed."""
        with self._open() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, key FROM files")
            return {path: key for path, *stat, key in rows if stats.get(path) == tuple(stat)}

    def remember(self, files: Iterable[tuple[str, Stat, bytes]]) -> None:
        """Note the keys of files (absolute path, its stat before it was read, key)."""
        before = time.time_ns() - SETTLED_NS
        rows = [(path, *stat, key) for path, stat, key in files if stat[1] < before]
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
