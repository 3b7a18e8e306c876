"""Replace several files of a folder together: after a crash it has all the old files or all the new ones.

New files are written next to the old ones, as `NAME.new`. Then `replacing.json`, which lists them, is
created in one step: from then on they count. They are renamed to their places, and the list is removed. What
a crash interrupts, the next reader or writer completes. Writers, and readers of more than one file, hold a
lock of the folder, so that each sees only whole states.
"""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLock, Timeout

from encode_once.cache.errors import DamagedError, StoreBusyError
from encode_once.cache.format.atomic import sync_folder, write_json, writing
from encode_once.cache.format.files import check_regular_if_there, read_json

MARKER = "replacing.json"
NEW = ".new"
LOCK = ".lock"  # the marker where the file system has no locks
WAIT = 60.0  # seconds: the folder is locked for a few small files at a time


class Replacement:
    """The files of a folder that are about to be replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str) -> Path:
        """The place to write the new file of this name to."""
        if name not in self.names:
            self.names.append(name)
            self._place(name).unlink(missing_ok=True)  # a link of that name would be followed
        return self._place(name)

    def discard(self) -> None:
        """Remove what was written."""
        for name in self.names:
            self._place(name).unlink(missing_ok=True)

    def commit(self) -> None:
        """Make the new files count."""
        for name in self.names:
            with self._place(name).open("rb") as file:
                os.fsync(file.fileno())
        write_json(self.folder / MARKER, self.names)
        _finish(self.folder, self.names)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}{NEW}"


@contextmanager
def replacing_together(folder: Path, allowed: Collection[str]) -> Iterator[Replacement]:
    """Yield where to write new files of a folder; at the end they replace the old, after an error none.

    Args:
        allowed: the names of the folder's files, see `whole`.
    """
    replacement = Replacement(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with folder_locked(folder, fcntl.LOCK_EX):
            _finish(folder, allowed)
            try:
                yield replacement
            except BaseException:  # Ctrl-C as well; it goes on
                replacement.discard()
                raise
            replacement.commit()


@contextmanager
def whole(folder: Path, allowed: Collection[str]) -> Iterator[None]:
    """Read several files of a folder in the block: none is replaced meanwhile.

    A replacement that a crash interrupted is completed first.

    Args:
        allowed: the names that the list of such a replacement may have; the folder may be a stranger's.

    Raises:
        DamagedError: the list is not one, or has other names.
        OSError: there is a list, and the folder cannot be written.
    """
    if (folder / MARKER).exists():
        with folder_locked(folder, fcntl.LOCK_EX):
            _finish(folder, allowed)
    if not folder.is_dir():
        yield
        return
    with folder_locked(folder, fcntl.LOCK_SH):
        yield


def _finish(folder: Path, allowed: Collection[str]) -> None:
    """Complete a replacement that was decided; nothing if there is none."""
    marker = folder / MARKER
    if not marker.exists():
        return
    names = read_json(marker)
    if not isinstance(names, list) or not set(map(str, names)) <= set(allowed):
        raise DamagedError(f"{marker} does not list files of {folder}: remove it")
    for name in names:
        with suppress(FileNotFoundError):  # it is in its place already
            (folder / f"{name}{NEW}").replace(folder / name)
    sync_folder(folder)
    marker.unlink(missing_ok=True)
    sync_folder(folder)


@contextmanager
def folder_locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold a lock of the folder itself, without a file; the system releases that of a process that dies.

    On a file system without locks, writers use a marker in the folder, as `locked` does; readers, nothing.

    Raises:
        StoreBusyError: on such a file system, another writer has had the folder for WAIT seconds.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with ExitStack() as marker:
            try:
                fcntl.flock(descriptor, kind)
            except OSError:  # a file system without locks
                if kind == fcntl.LOCK_EX:
                    marker.enter_context(_marked(folder / LOCK))
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _marked(path: Path) -> Iterator[None]:
    check_regular_if_there(path)
    lock = SoftFileLock(path, timeout=WAIT, thread_local=False)
    with writing(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusyError(
                f"{path.parent} is being changed by another process, as {path} says: "
                "let it end; if there is none, delete that file"
            ) from error
    try:
        yield
    finally:
        lock.release()
