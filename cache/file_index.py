"""Which key an unchanged file has, without reading it again.

A row says: the file of this path, size and modification time had this key. An image in a container is known
by the path `CONTAINER::WHERE` with the container's size and time. Losing the index costs one
reading of the files, nothing else; so a damaged one is thrown away, and a damaged row passed over.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from encode_once.cache.errors import StoreError
from encode_once.cache.format.atomic import writing

Result = TypeVar("Result")
Stat = tuple[int, int]  # size in bytes, modification time in nanoseconds
# A file modified later than this before it was hashed may change within one tick of its clock.
SETTLED_NS = 2_000_000_000
PATHS = 500  # asked for in one query; SQLite before 3.32 takes 999 variables
ROW_BYTES = 100  # about what a row takes on disk


def stat_of(path: str | os.PathLike[str]) -> Stat:
    """What a change of the file would change.

    Raises:
        OSError: there is no such file, or it may not be looked at.
    """
    found = os.stat(path)  # noqa: PTH116 — a million times: Path objects would cost more than the call
    return found.st_size, found.st_mtime_ns


class FileIndex:
    """The keys of files seen before, kept in SQLite beside the store.

    Args:
        path: the database; made when the first key is remembered.
        read_only: it is only read, and where it cannot be read it has no rows.
        base: an index of which this one has the newer rows; it is only read.
    """

    def __init__(self, path: Path, *, read_only: bool = False, base: "FileIndex | None" = None) -> None:
        self._path, self._read_only, self._base = path, read_only, base

    def find(self, stats: Mapping[str, Stat]) -> dict[str, bytes]:
        """Keys of those files, given by absolute path, that are as they were when they were hashed.

        Few files are looked up by path; for about half of the index or more, reading all of it is faster.
        """
        keys: dict[str, bytes] = {}
        if stats and self._path.exists():

            def look(connection: sqlite3.Connection) -> dict[str, bytes]:
                return _unchanged(self._rows(connection, stats), stats)

            keys = self._transaction(look, {})
        if self._base and (others := {path: stat for path, stat in stats.items() if path not in keys}):
            keys |= self._base.find(others)
        return keys

    def _rows(self, connection: sqlite3.Connection, paths: Collection[str]) -> Iterable[tuple[Any, ...]]:
        """The rows of these paths, among others perhaps."""
        query = "SELECT path, size, mtime_ns, key, checksum FROM keys_of_files"
        if 2 * ROW_BYTES * len(paths) > self._path.stat().st_size:
            return connection.execute(query)
        ordered = sorted(map(os.fsencode, paths))  # as the primary key is: neighbours lie on one page
        chunks = (ordered[start : start + PATHS] for start in range(0, len(ordered), PATHS))
        return chain.from_iterable(
            connection.execute(f"{query} WHERE path IN ({', '.join('?' * len(chunk))})", chunk)
            for chunk in chunks
        )

    def remember(self, files: Iterable[tuple[str, Stat, bytes]]) -> None:
        """Note the keys of files (absolute path, its stat before it was read, key)."""
        before = time.time_ns() - SETTLED_NS
        rows = [(os.fsencode(path), *stat, key) for path, stat, key in files if stat[1] < before]
        if not rows or self._read_only:
            return  # an index only saves time: what it lacks is read again
        self._transaction(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO keys_of_files VALUES (?, ?, ?, ?, ?)",
                ((*row, _checksum(*row)) for row in rows),
            ),
            None,
        )

    def problems(self) -> list[str]:
        """What is wrong with the index, one line each."""
        if not self._path.exists():
            return []
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as connection:
                found = [row for (row,) in connection.execute("PRAGMA integrity_check") if row != "ok"]
        except sqlite3.Error as error:
            found = [str(error)]
        return [f"{self._path}: {one}; the next extract makes it anew" for one in found]

    def _transaction(self, work: Callable[[sqlite3.Connection], Result], nothing: Result) -> Result:
        """Do something with the index, made if it is not there, or is damaged.

        `nothing` is the result where an index that is only read cannot be.
        """
        if self._read_only:
            with suppress(sqlite3.Error, OSError):
                uri = f"{self._path.absolute().as_uri()}?mode=ro"
                with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
                    return work(connection)
            return nothing
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            try:
                return self._attempt(work)
            except sqlite3.OperationalError:  # a full disk, a read-only folder: not the index's fault
                raise
            except sqlite3.DatabaseError:
                self._path.unlink()
                return self._attempt(work)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}. It may be deleted: it spares reading files") from error

    def _attempt(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS keys_of_files (path BLOB PRIMARY KEY, size INTEGER,"
                " mtime_ns INTEGER, key BLOB, checksum BLOB) WITHOUT ROWID"
            )
            return work(connection)


def _unchanged(rows: Iterable[tuple[Any, ...]], stats: Mapping[str, Stat]) -> dict[str, bytes]:
    """The keys of the sound rows whose files are as they were, by path."""
    keys = {}
    for raw, size, mtime_ns, key, checksum in rows:
        if checksum == _checksum(raw, size, mtime_ns, key):
            path = os.fsdecode(raw)
            if stats.get(path) == (size, mtime_ns):
                keys[path] = key
    return keys


def _checksum(path: bytes, size: int, mtime_ns: int, key: bytes) -> bytes:
    try:
        return xxhash.xxh3_64_digest(b"%b %d %d %b" % (path, size, mtime_ns, key))
    except TypeError:  # of other types, as only a damaged row is
        return b""
