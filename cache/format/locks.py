"""Locks that let one process at a time write under each name."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from encode_once.cache.errors import StoreBusyError
from encode_once.cache.format.atomic import write_json, writing
from encode_once.cache.format.files import check_regular_if_there, read_json
from encode_once.cache.keys import Shard


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock at that path; do not wait for it.

    The system releases the lock of a process that dies. On a file system without locks, filelock writes a
    marker instead, and detects a dead owner by its process, start time, host and the host's boot.

    Raises:
        StoreBusyError: another process holds the lock; the message says which.
    """
    check_regular_if_there(path)
    lock = FileLock(path, timeout=0, thread_local=False)
    owner = path.with_suffix(".owner")
    with writing(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusyError(
                f"another process is writing {what} ({_describe(owner)}): let it end, "
                "share the work with --shard, or use another --store"
            ) from error
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def helper_locked(folder: Path, writer: str, what: str) -> Iterator[str]:
    """Hold the lock of the first free name of a helper of `writer`: `WRITER+0`, `WRITER+1`, …; yields it."""
    with ExitStack() as lock:
        for number in count():
            with suppress(StoreBusyError):
                name = f"{writer}+{number}"
                lock.enter_context(locked(folder / f"{name}.lock", what))
                break
        yield name


@contextmanager
def all_locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the locks of all writers of a feature's folder, including the default one.

    Raises:
        StoreBusyError: a writer is active.
    """
    with ExitStack() as locks:
        for path in sorted({folder / f"{Shard()}.lock", *folder.glob("*.lock")}):
            locks.enter_context(locked(path, what))
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(owner: Path) -> str:
    try:
        record = read_json(owner)
        return f"process {record['pid']} on {record['host']} since {record['since']}"
    except (OSError, KeyError, TypeError):
        return "which one is not recorded"
