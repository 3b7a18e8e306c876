"""The command line that is running, as runs record it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PYTHON = "Python"  # a program that uses the package, rather than its command line
_line = ContextVar("_line", default=PYTHON)


def command_line() -> str:
    """The command line as it was typed, with `~` for the user's folder; `PYTHON` if there is none."""
    return _line.get()


@contextmanager
def running(line: str) -> Iterator[None]:
    """Let `command_line` be this line in the block."""
    token = _line.set(line.replace(f"{Path.home()}/", "~/"))
    try:
        yield
    finally:
        _line.reset(token)
