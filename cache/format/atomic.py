"""Write files completely or not at all."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile
from typing import Any

from encode_once.cache.errors import DataError, StoreError, brief


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk error in the block into a `StoreError` that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = brief(error.strerror or error)
        raise StoreError(
            f"{path} cannot be written ({reason}). What was committed is kept: "
            "free disk space or fix the disk, then run the same command again"
        ) from error


def write_at(descriptor: int, place: int, content: Any) -> None:
    """Write a whole buffer at a place in a file."""
    rest = memoryview(content).cast("B")
    while len(rest):
        written = os.pwrite(descriptor, rest, place)
        rest, place = rest[written:], place + written


def reserve(descriptor: int) -> None:
    """Reserve disk space for the holes of a file: to map a hole on a full tmpfs kills the process.

    Raises:
        OSError: the disk is full.
    """
    size = os.fstat(descriptor).st_size
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system has no such call
                raise


def sync_folder(folder: Path) -> None:
    """Make renames and new files in a folder, or the content of a file, survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_writable(folder: Path) -> bool:
    """Whether files can be created in a folder or, if it does not exist, in its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary(path: Path) -> Path:
    """A name that nothing has: processes of several machines or containers may have the same number."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; then rename it to `path`, once its content is on disk.

    A reader sees the complete old file or the complete new one. After an error the old one remains.
    """
    temporary = _temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):  # the folder may have been removed
                temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; then rename it to `path`, once its files are on disk.

    Raises:
        DataError: there is something at the path: what a folder of other programs holds is not replaced.
    """
    if os.path.lexists(path):
        raise DataError(f"{path} exists: remove it, or choose another place")
    temporary = _temporary(path)
    with writing(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                sync_folder(file)
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
        finally:
            rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON, completely or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        # A path that is not UTF-8 contains half surrogates, which become their JSON escapes.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
