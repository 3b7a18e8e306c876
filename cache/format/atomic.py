"""Writing files that are either whole or not there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from encode_once.cache.errors import StoreError, brief


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes to a store: an error of the disk becomes one line that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = brief(error.strerror or error)
        raise StoreError(
            f"{path} cannot be written ({reason}). What was committed is kept: "
            "make room, or mend the place, and run the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder or, where it is not there, in the nearest above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; put it in the place of `path` once it is whole and on disk.

    A reader sees the old file or the new one, never a part of either. On an error the old one stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):  # the place may have vanished
                temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
