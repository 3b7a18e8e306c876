"""All errors of this project.

Each is an `EncodeOnceError` and also a built-in error, so that `except FileNotFoundError` works as expected.
Its message says what was found, where, and what to do; the command line prints it as one line.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from textwrap import shorten


class EncodeOnceError(Exception):
    """Base of every error this project raises on purpose."""


class DataError(EncodeOnceError, ValueError):
    """The user's table, images or options do not fit together."""


class UsageError(DataError):
    """A name, option or value that does not exist; the message suggests one that does. Exit status 2."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder does not exist."""


class StoreError(EncodeOnceError, OSError):
    """The feature store cannot be read or written."""


class DamagedError(StoreError):
    """A file of the store has changed since it was written."""


class SpecMismatchError(StoreError):
    """A feature would mix vectors of two different specs."""


class UnknownFeatureError(UsageError, KeyError):
    """The store has no feature of that name."""

    __str__ = Exception.__str__  # KeyError would print the message quoted


class MissingRowsError(StoreError, KeyError):
    """The feature lacks some of the requested rows."""

    __str__ = Exception.__str__


class StoreBusyError(StoreError, BlockingIOError):
    """Another process is writing the same feature."""


def brief(message: object) -> str:
    """Shorten an error message to one line."""
    return shorten(str(message), 160, placeholder=" …")


def unknown_name(
    kind: str, name: str, names: Iterable[str], error: type[UsageError] = UsageError
) -> UsageError:
    """The error for a name that is not in `names`; its message suggests the closest name, or lists all."""
    names = list(names)
    close = difflib.get_close_matches(name, names, 1)
    choice = f"choose from {', '.join(names)}" if names else "there is none yet"
    hint = f"did you mean {close[0]!r}?" if close else choice
    return error(f"unknown {kind} {name!r}: {hint}")


@contextmanager
def collected(messages: list[str]) -> Iterator[None]:
    """Continue after an `EncodeOnceError` in the block; its message is appended to `messages`."""
    try:
        yield
    except EncodeOnceError as error:
        messages.append(str(error))
