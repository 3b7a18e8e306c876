"""All errors of this project.

Each is an `EncodeOnceError` and also a built-in error, so that `except FileNotFoundError` works as expected.
Its message says what was found, where, and what to do; the command line prints it as one line.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import shorten
from types import MappingProxyType

from encode_once.cache.terminal import short_list

MOST_SUGGESTIONS = 8  # names in a hint
MOST_NAMES = 17  # listed where none is close
MIN_PREFIX = 3  # letters from which on names that begin so are suggested


class EncodeOnceError(Exception):
    """Base of every error this project raises on purpose."""


class DataError(EncodeOnceError, ValueError):
    """The user's table, images or options do not fit together."""


class UsageError(DataError):
    """A name, option or value that does not exist; the message suggests one that does. Exit status 2."""


class InsufficientMemoryError(DataError):
    """More memory would be needed than is available."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder does not exist."""


class StoreError(EncodeOnceError, OSError):
    """The feature store cannot be read or written."""


class RemoteError(StoreError):
    """A file or folder at a URL cannot be reached, or its server refuses a request."""


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
    kind: str,
    name: str,
    names: Iterable[str],
    error: type[UsageError] = UsageError,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> UsageError:
    """The error for a name that is not in `names`; its message suggests the closest ones, or lists some.

    aliases: what others call it → the name.
    """
    names = list(names)
    close = [repr(suggestion) for suggestion in _suggestions(name, names, aliases)]
    if not close:
        hint = f"choose from {short_list(names, MOST_NAMES)}" if names else "there is none yet"
    elif len(close) > MOST_SUGGESTIONS:
        hint = f"did you mean one of {', '.join(close[:MOST_SUGGESTIONS])}, …?"
    else:
        hint = f"did you mean {' or '.join(filter(None, [', '.join(close[:-1]), close[-1]]))}?"
    return error(f"unknown {kind} {name!r}: {hint}")


def _suggestions(name: str, names: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """The names that differ by case only; else that of an alias; else those that begin so, or the closest."""
    folded = name.casefold()
    same = [candidate for candidate in names if candidate.casefold() == folded]
    if not same and aliases.get(folded) in names:
        same = [aliases[folded]]
    if not same and len(name) >= MIN_PREFIX:
        same = [candidate for candidate in names if candidate.casefold().startswith(folded)]
    by_folded = {candidate.casefold(): candidate for candidate in names}
    return same or [by_folded[close] for close in difflib.get_close_matches(folded, by_folded, 1)]


@contextmanager
def collected(messages: list[str]) -> Iterator[None]:
    """Continue after an `EncodeOnceError` in the block; its message is appended to `messages`."""
    try:
        yield
    except EncodeOnceError as error:
        messages.append(str(error))
