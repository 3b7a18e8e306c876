"""The inputs that failed and have no vector: a journal with one JSON object per line."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from encode_once.cache.format.atomic import replacing, writing
from encode_once.cache.format.files import open_descriptor, open_without_links, reading, typed
from encode_once.cache.keys import KEY_BYTES

LINE_BYTES = 1 << 20  # of a longer line, each piece is a line that cannot be read


@dataclass(frozen=True)
class Failure:
    """Why an input has no vector."""

    key: str  # of the input's content, in hexadecimal
    reason: str  # a type, such as "truncated"
    message: str
    input: str  # its path or text when it failed


def read_failures(journal: Path) -> dict[bytes, Failure]:
    """The last failure of each content.

    Unreadable lines are skipped: those inputs will be tried again.

    Raises:
        DamagedError: the journal is not a regular file.
        StoreError: the disk fails.
    """
    failed = {}
    with suppress(FileNotFoundError), reading(journal), open_without_links(journal) as file:
        while line := file.readline(LINE_BYTES):
            with suppress(ValueError, RecursionError):
                failure = typed(Failure, json.loads(line))
                key = bytes.fromhex(failure.key)
                if len(key) == KEY_BYTES:
                    failed[key] = failure
    return failed


def write_failures(journal: Path, failures: Iterable[Failure]) -> None:
    """Replace the journal's content."""
    with replacing(journal) as temporary:
        temporary.write_text("".join(map(_line, failures)), encoding="utf-8")


def add_failures(journal: Path, failures: Iterable[Failure]) -> None:
    """Append failures; they are on disk when this returns."""
    lines = "".join(map(_line, failures))
    if lines:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with writing(journal), os.fdopen(open_descriptor(journal, flags), "a", encoding="utf-8") as file:
            file.write("\n" + lines)  # a kill may have left an incomplete line without its end
            file.flush()
            os.fsync(file.fileno())


def _line(failure: Failure) -> str:
    return json.dumps(asdict(failure)) + "\n"
