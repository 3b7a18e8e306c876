"""The content keys of files that have not changed, without reading them again.

The index maps a path, size and modification time to a key. An image in a container has the path
`CONTAINER::WHERE`, and the container's size and time. The index can be deleted: the files are then read once
more. So a damaged index is deleted, and a damaged row skipped.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import xxhash

from encode_once.cache.errors import DamagedError, StoreError
from encode_once.cache.format.atomic import writing
from encode_once.cache.format.files import check_regular_if_there
from encode_once.cache.input_files import stat_file
from encode_once.cache.keys import KEY_BYTES

Result = TypeVar("Result")
Stat = tuple[int, int]  # size in bytes, modification time in nanoseconds
# A file that was modified less than this before it was hashed could change again without changing its time.
SETTLED_NS = 2_000_000_000
PATHS_PER_QUERY = 500  # SQLite before 3.32 allows 999 variables
ROW_BYTES = 100  # approximate size of a row on disk
MAX_CELL = 1 << 20  # bytes
SCHEMA = (
    "CREATE TABLE keys_of_files (path BLOB PRIMARY KEY, size INTEGER,"
    " mtime_ns INTEGER, key BLOB, checksum BLOB) WITHOUT ROWID"
)
ROWS = "SELECT path, size, mtime_ns, key, checksum FROM keys_of_files"
MERGED = (
    "INSERT INTO keys_of_files VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET size = excluded.size,"
    " mtime_ns = excluded.mtime_ns, key = excluded.key, checksum = excluded.checksum"
    " WHERE excluded.mtime_ns > mtime_ns AND mtime_ns >= 0"  # of data at URLs it is minus a hash, no time
)
# Errors of the disk or of its permissions: the database is not damaged.
DISK_ERRORS = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}


def stat_of(path: str | os.PathLike[str]) -> Stat:
    """The file's size and modification time, one of which changes when its content does.

    Raises:
        OSError: the file does not exist, or may not be accessed.
    """
    result = stat_file(path)
    return result.st_size, result.st_mtime_ns


class FileIndex:
    """The keys of files, in an SQLite database.

    Args:
        path: the database; created when the first key is added.
        read_only: never write; a database that cannot be read counts as empty.
        base: another index, which is only read; rows of this index take precedence.
    """

    def __init__(self, path: Path, *, read_only: bool = False, base: "FileIndex | None" = None) -> None:
        self._path, self._read_only, self._base = path, read_only, base

    def find(self, stats: Mapping[str, Stat]) -> dict[str, bytes]:
        """The keys of the files, by absolute path, that have not changed since they were hashed.

        For more than about half of the index, reading all of it is faster than looking up paths.
        """
        keys: dict[str, bytes] = {}
        if stats and self._path.exists():
            keys = self._transaction(lambda connection: _unchanged(self._rows(connection, stats), stats), {})
        if self._base and (others := {path: stat for path, stat in stats.items() if path not in keys}):
            keys |= self._base.find(others)
        return keys

    def _rows(self, connection: sqlite3.Connection, paths: Collection[str]) -> Iterable[tuple[Any, ...]]:
        """The rows of these paths, and possibly others."""
        if 2 * ROW_BYTES * len(paths) > self._path.stat().st_size:
            return connection.execute(ROWS)
        ordered = sorted(map(os.fsencode, paths))  # as the primary key is, so that queries read few pages
        starts = range(0, len(ordered), PATHS_PER_QUERY)
        chunks = (ordered[start : start + PATHS_PER_QUERY] for start in starts)
        return chain.from_iterable(
            connection.execute(f"{ROWS} WHERE path IN ({', '.join('?' * len(chunk))})", chunk)
            for chunk in chunks
        )

    def remember(self, files: Iterable[tuple[str, Stat, bytes]]) -> None:
        """Add the keys of files: absolute path, stat before it was read, key."""
        if self._read_only:
            return
        settled = min(time.time_ns(), _time_ns(self._path.parent)) - SETTLED_NS
        rows = [(os.fsencode(path), *stat, key) for path, stat, key in files if stat[1] < settled]
        if not rows:
            return
        self._transaction(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO keys_of_files VALUES (?, ?, ?, ?, ?)",
                ((*row, _checksum(*row)) for row in rows),
            ),
            None,
        )

    def merge(self, other: "FileIndex") -> int:
        """Add the intact rows of another index, which is only read; returns how many were added or replaced.

        Of a file that both have, the row of the later modification counts; of one at a URL, the own row.

        Raises:
            DamagedError: the other database cannot be read; nothing was added.
            StoreError: this index is read-only, or the disk fails.
        """
        if self._read_only:
            raise StoreError(f"{self._path} is opened for reading only")
        if not os.path.lexists(other._path):
            return 0

        def insert(connection: sqlite3.Connection) -> int:
            with closing(other._intact_rows()) as rows:
                return max(connection.executemany(MERGED, rows).rowcount, 0)

        return self._transaction(insert, 0)

    def _intact_rows(self) -> Generator[tuple[Any, ...], None, None]:
        """The rows whose checksum is right, read as they are needed.

        Raises:
            DamagedError: the database cannot be read.
        """
        try:
            with self._connected("mode=ro") as connection:
                yield from filter(_is_intact, connection.execute(ROWS))
        except sqlite3.Error as error:
            raise DamagedError(f"{self._path} cannot be read ({error})") from error

    def entries(self) -> list[tuple[str, bytes]]:
        """Path and key of every file, whether it has changed or not."""
        query = "SELECT path, key FROM keys_of_files"
        rows: list[tuple[Any, Any]] = []
        if self._path.exists():
            rows = self._transaction(lambda connection: connection.execute(query).fetchall(), [])
        return [
            (os.fsdecode(raw), key) for raw, key in rows if isinstance(raw, bytes) and isinstance(key, bytes)
        ]

    def forget(self, paths: Collection[str], keys: Collection[bytes]) -> int:
        """Remove the files of these paths or keys, with all bytes of what was removed before; their number.

        Raises:
            StoreError: the index is read-only, or the disk fails.
        """
        if not self._path.exists():
            return 0
        if self._read_only:
            raise StoreError(f"{self._path} is opened for reading only")
        columns = {"path": [(os.fsencode(path),) for path in paths], "key": [(key,) for key in keys]}

        def delete(connection: sqlite3.Connection) -> int:
            deletions = (
                connection.executemany(f"DELETE FROM keys_of_files WHERE {name} = ?", rows)  # noqa: S608
                for name, rows in columns.items()
            )
            return sum(max(deletion.rowcount, 0) for deletion in deletions)

        count = self._transaction(delete, 0)
        try:
            with self._connected("mode=rw") as connection:
                connection.execute("VACUUM")  # deleted rows stay in the file otherwise
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}. It may be deleted: it only saves time") from error
        return count

    def problems(self) -> list[str]:
        """One line for each problem of the database."""
        if not os.path.lexists(self._path):
            return []
        try:
            with self._connected("mode=ro") as connection:
                messages = [row for (row,) in connection.execute("PRAGMA integrity_check") if row != "ok"]
        except StoreError as error:
            return [str(error)]
        except sqlite3.Error as error:
            messages = [str(error)]
        return [f"{self._path}: {message}; the next extract recreates it" for message in messages]

    def _transaction(self, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        """Run `work` on the database, which is created if it is missing or damaged.

        `default` is returned if the index is read-only and the database cannot be read.
        """
        if self._read_only:
            with suppress(sqlite3.Error, OSError), self._connected("mode=ro") as connection:
                return work(connection)
            return default
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            try:
                return self._attempt(work)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in DISK_ERRORS:
                    raise
                self._path.unlink()  # damaged
                return self._attempt(work)
        except StoreError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}. It may be deleted: it only saves time") from error

    def _attempt(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._connected("mode=rwc") as connection, connection:
            return work(connection)

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        """A connection to the database, once it is known to have our table and nothing else.

        A view, a trigger or a generated column of a crafted database would run in our queries.

        Raises:
            DamagedError: the database, or its journal, is not a regular file.
            sqlite3.DatabaseError: it has something else.
        """
        for suffix in ("", "-journal", "-wal", "-shm"):
            check_regular_if_there(Path(f"{self._path}{suffix}"))
        uri = f"{self._path.absolute().as_uri()}?{mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
            try:
                schema = connection.execute("SELECT sql FROM sqlite_master").fetchall()
            except UnicodeDecodeError as error:  # Python cannot decode SQLite's own message about it
                raise sqlite3.DatabaseError("its schema is not UTF-8") from error
            if not schema and mode != "mode=ro":
                connection.execute(SCHEMA)
            elif schema != [(SCHEMA,)]:
                raise sqlite3.DatabaseError("it has other tables than this program makes")
            yield connection


def _time_ns(folder: Path) -> int:
    """The time that the folder's file system gives a new file: its server's clock may be behind ours."""
    with suppress(OSError), TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return time.time_ns()


def _unchanged(rows: Iterable[tuple[Any, ...]], stats: Mapping[str, Stat]) -> dict[str, bytes]:
    """Path → key of the intact rows whose stat is that of `stats`."""
    keys = {}
    for raw, size, mtime_ns, key, _ in filter(_is_intact, rows):
        path = os.fsdecode(raw)
        if stats.get(path) == (size, mtime_ns):
            keys[path] = key
    return keys


def _is_intact(row: tuple[Any, ...]) -> bool:
    *content, checksum = row
    return checksum is not None and checksum == _checksum(*content) and len(content[-1]) == KEY_BYTES


def _checksum(path: bytes, size: int, mtime_ns: int, key: bytes) -> bytes | None:
    if (type(path), type(size), type(mtime_ns), type(key)) != (bytes, int, int, bytes):
        return None  # the row is damaged
    return xxhash.xxh3_64_digest(b"%b %d %d %b" % (path, size, mtime_ns, key))
