"""Messages as lines of JSON, for programs that collect logs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOBase
from threading import Lock
from typing import TextIO

# How lines begin, and their level; all others are "info".
LEVELS = {
    "warning: ": "warning",
    "Error: ": "error",
    "alarm: ": "alarm",
    "failed: ": "error",
    "EO": "warning",
}
KEPT = ("failed: ", "EO")  # beginnings that say more than the level, and stay in the message


class JsonLines(TextIOBase):
    """A text stream whose lines are written to another one as JSON: time (UTC), level and message."""

    encoding = "utf-8"

    def __init__(self, target: TextIO) -> None:
        self._target, self._lock, self._rest = target, Lock(), ""

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Of the other stream, for what other processes print."""
        return self._target.fileno()

    def write(self, text: str) -> int:
        """Write the lines that are complete."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in filter(str.strip, lines):
                self._target.write(_json_line(line))
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        self._target.flush()

    def finish(self) -> None:
        """Write the last line, if it does not end."""
        self.write("\n")
        self.flush()


def _json_line(line: str) -> str:
    prefix, level = next(
        ((word, level) for word, level in LEVELS.items() if line.startswith(word)), ("", "info")
    )
    message = line if prefix in KEPT else line.removeprefix(prefix)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "level": level, "message": message.strip()}) + "\n"


@contextmanager
def json_messages() -> Iterator[None]:
    """A context manager in which everything that is printed on stderr becomes lines of JSON."""
    before, sys.stderr = sys.stderr, JsonLines(sys.stderr)
    try:
        yield
    finally:
        sys.stderr.finish()
        sys.stderr = before
