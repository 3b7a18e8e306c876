"""Read files that others may have written: regular files only, bounded, and every error in one line."""

import json
import os
import stat
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args, get_origin, get_type_hints

from encode_once.cache.errors import DamagedError, EncodeOnceError, StoreError, brief

T = TypeVar("T")
JSON_BYTES = 1 << 26  # the largest JSON file that is read
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def kind_of(mode: int) -> str:
    """What a path is, by its `st_mode`, if it is not a regular file."""
    return KINDS.get(stat.S_IFMT(mode), "something else")


def open_without_links(path: Path) -> BinaryIO:
    """Open a regular file for reading; a symbolic link is not followed, and a pipe not waited for.

    Raises:
        FileNotFoundError: there is nothing at the path.
        DamagedError: the path is not a regular file.
        StoreError: the file cannot be opened.
    """
    return os.fdopen(open_descriptor(path, os.O_RDONLY), "rb")


def open_descriptor(path: Path, flags: int) -> int:
    """The same with flags of `os.open`; returns the descriptor."""
    try:
        return open_at_once(path, flags | os.O_NOFOLLOW, lambda mode: not_regular(path))
    except (FileNotFoundError, DamagedError):
        raise
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise not_regular(path) from error
        raise StoreError(f"{path} cannot be opened ({error.strerror})") from error


def open_at_once(path: Path | str, flags: int, refusal: Callable[[int], Exception]) -> int:
    """Open a regular file without waiting, as opening a pipe would; returns the descriptor.

    Raises:
        OSError: the path cannot be opened; what `refusal` makes of the mode of anything else than a file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise refusal(mode)
    return descriptor


def not_regular(path: Path) -> DamagedError:
    """The error for a path that is something else than a regular file."""
    kind = kind_of(path.lstat().st_mode)
    return DamagedError(f"{path} is {kind}, not a file: remove it, or put the file itself there")


def check_regular_if_there(path: Path) -> None:
    """Refuse a path at which there is something else than a regular file.

    Raises:
        DamagedError: there is, such as a symbolic link.
    """
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise not_regular(path)


def check_no_link(path: Path, root: Path) -> None:
    """Refuse a path below `root` that leads elsewhere; `root` itself may be behind a link.

    Raises:
        DamagedError: the path, or a folder between it and `root`, is a symbolic link.
    """
    if path.resolve() != root.resolve() / path.relative_to(root):
        raise DamagedError(f"{path} is a symbolic link, or behind one: put the files themselves there")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error of the block, which reads the file, into an error of one line that names it.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedError: its content is not what it should be.
        StoreError: the disk or the memory fails.
    """
    try:
        yield
    except (EncodeOnceError, FileNotFoundError):
        raise
    except MemoryError as error:
        raise StoreError(f"{path} cannot be read: out of memory") from error
    except OSError as error:
        if error.errno is None:  # the HDF5 library's error for damaged content
            raise damaged(path, error) from error
        raise StoreError(f"{path} cannot be read ({error.strerror})") from error
    except Exception as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DamagedError:
    """The error for a file whose content has caused `error`."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return DamagedError(f"{path} cannot be read: it is damaged ({kind}{brief(error)})")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedError: it is not a regular file, not JSON, or too large.
        StoreError: the disk fails.
    """
    with reading(path), open_without_links(path) as file:
        content = file.read(JSON_BYTES + 1)
        if len(content) > JSON_BYTES:
            raise DamagedError(f"{path} cannot be read: it has more than {JSON_BYTES:,} bytes")
        return json.loads(content.decode("utf-8"))


def typed(kind: type[T], tree: Any) -> T:
    """An instance of a dataclass, or another type, from a JSON tree whose types are checked.

    Raises:
        ValueError: a value has another type, is missing, or is not a field.
    """
    value: T = _typed(kind, tree, kind.__name__)
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is types.UnionType:
        for option in args:
            with suppress(ValueError):
                return _typed(option, value, where)
    elif isinstance(value, dict) and is_dataclass(hint):
        return _instance(hint, value, where)
    elif isinstance(value, dict) and origin in (dict, Mapping):
        return {name: _typed(args[1], entry, str(name)) for name, entry in value.items()}
    elif isinstance(value, list) and origin in (list, Sequence):
        return [_typed(args[0], entry, where) for entry in value]
    elif type(value) is hint or (hint is float and type(value) is int):
        return float(value) if hint is float else value
    raise ValueError(f"{where} is {brief(repr(value))}")


def _instance(kind: Any, tree: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    for name in tree.keys() - hints.keys():
        raise ValueError(f"{where} has an unknown entry {name!r}")
    for field in fields(kind):
        is_required = field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in tree:
            raise ValueError(f"{where} has no {field.name}")
    return kind(**{name: _typed(hints[name], entry, name) for name, entry in tree.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
