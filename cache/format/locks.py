"""Who may write: one process at a time under each name, as the system knows it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from encode_once.cache.errors import StoreBusyError
from encode_once.cache.format.atomic import writing
from encode_once.cache.keys import Shard


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of that path, or refuse at once.

    The system frees the lock of a process that died. Where a file system has no locks, filelock keeps a
    marker instead, and knows a dead owner by its process, that one's start, its host and the host's boot.

    Raises:
        StoreBusyError: another process holds it; the message says which.
    """
    lock = FileLock(path, timeout=0, thread_local=False)
    owner = path.with_suffix(".owner")
    with writing(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusyError(
                f"another process is writing {what} ({_told(owner)}): let it end, "
                "share the work with --shard, or use another --store"
            ) from error
    try:
        with writing(owner):
            owner.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}) + "\n",
                encoding="utf-8",
            )
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def all_locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of every writer of a feature's folder, and that of the one that writes alone.

    Raises:
        StoreBusyError: one of them is at work.
    """
    with ExitStack() as locks:
        for path in sorted({folder / f"{Shard()}.lock", *folder.glob("*.lock")}):
            locks.enter_context(locked(path, what))
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _told(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said which"
