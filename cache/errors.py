"""What can go wrong, as a small tree of classes.

Every error of this project is an `EncodeOnceError` and also the built-in it refines, so that
`except FileNotFoundError` works as a stranger expects. A message says what was found, where, and what to
do: the command line prints it as one line and exits with 1.
"""

import difflib
from collections.abc import Iterable
from textwrap import shorten


class EncodeOnceError(Exception):
    """Base of every error this project raises on purpose."""


class DataError(EncodeOnceError, ValueError):
    """The user's table, images or options do not fit together."""


class UsageError(DataError):
    """A name, option or value that does not exist; the message says which do. Exit status 2."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder that was asked for is not there."""


class StoreError(EncodeOnceError, OSError):
    """The feature store cannot be read or written."""


class DamagedError(StoreError):
    """A file of the store is not as it was written."""


class SpecMismatchError(StoreError):
    """A feature would mix vectors made in two different ways."""


class UnknownFeatureError(UsageError, KeyError):
    """The store holds no feature of that name."""

    __str__ = Exception.__str__  # KeyError would print the message quoted


class MissingRowsError(StoreError, KeyError):
    """Rows were asked for that the feature does not hold."""

    __str__ = Exception.__str__


class StoreBusyError(StoreError, BlockingIOError):
    """Another process is writing the same feature."""


def brief(message: object) -> str:
    """Shorten an error message to one line."""
    return shorten(str(message), 160, placeholder=" …")


def unknown_name(
    kind: str, name: str, known: Iterable[str], error: type[UsageError] = UsageError
) -> UsageError:
    """The error for a name that is not among the known ones: with the nearest of them, or all."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    choice = f"choose from {', '.join(known)}" if known else "there is none yet"
    hint = f"did you mean {near[0]!r}?" if near else choice
    return error(f"unknown {kind} {name!r}: {hint}")
