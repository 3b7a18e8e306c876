"""Python code of the user's own: a class or function in a file, named as `path.py:Name`.

Code runs only if it is trusted: because the user names it on the command line or calls `trust_code`, or
because --trust allows the copy that a run holds, see `check`. A name that is read from a run, a store or a
recipe runs nothing by itself. What runs are the bytes that were hashed.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from encode_once.cache.errors import EncodeOnceError, UsageError, brief, unknown_name
from encode_once.cache.input_files import read_regular
from encode_once.cache.keys import content_key
from encode_once.cache.representation import short_repr
from encode_once.cache.terminal import Log

NAME = re.compile(r"[^:\0]+\.py:\w+")


class UntrustedError(EncodeOnceError, PermissionError):
    """A store, a run or a recipe names code or a file that the user does not trust."""


@dataclass(frozen=True)
class Source:
    """A file of Python code: its path in names, and its bytes."""

    path: str
    content: bytes

    __repr__ = short_repr

    @property
    def identity(self) -> str:
        """The hash of the bytes."""
        return bytes_identity(self.content)


_trusted: dict[tuple[str, str], Source] = {}  # (path, hash) → the file
_meant: dict[str, Source] = {}  # path → the file that a name with this path means
_meant_here: ContextVar[Mapping[str, Source]] = ContextVar("_meant_here")  # the same inside of `meaning`
_modules: dict[tuple[str, str], ModuleType] = {}


def bytes_identity(content: bytes) -> str:
    """The content key of a file's bytes, in the notation of specs."""
    return f"blake2b:{content_key(content).hex()}"


def is_own(name: str) -> bool:
    """Whether the name refers to a class or function in a file."""
    return ".py:" in name


def file_of(name: str, error: type[UsageError] = UsageError) -> Path:
    """The path of the file that contains the class.

    Raises:
        UsageError: the file is not below the working folder.
    """
    path = Path(name.rpartition(":")[0])
    if path.is_absolute() or ".." in path.parts:
        raise error(f"{name}: give the file as a path below this folder, since names contain it")
    return path


def read(name: str, error: type[UsageError] = UsageError) -> Source:
    """The file of a name, as it is now.

    Raises:
        UsageError: it cannot be read.
    """
    path = file_of(name, error)
    try:
        return Source(path.as_posix(), read_regular(path))
    except OSError as problem:
        raise error(f"{path} cannot be imported: {problem.strerror}") from problem


def trust_code(name: str) -> None:
    """Trust a file of your own, `path.py` or a name in it: from now on its names may be used.

    Raises:
        UsageError: it cannot be read.
    """
    source = read(name if is_own(name) else f"{name}:")
    _meant[source.path] = source
    allow(source)


def allow(source: Source) -> None:
    """Trust the bytes of a file; names with its path mean them if no other file of this path is trusted."""
    _trusted[source.path, source.identity] = source
    _meant.setdefault(source.path, source)


def trust_named(value: Any) -> None:
    """Trust the files that a value of the command line names, see `names_in`; `load` reports missing ones."""
    for name in names_in(value):
        with suppress(UsageError):
            trust_code(name)


def names_in(value: Any) -> list[str]:
    """The names of own code in a name, or in the values of options, which may be nested."""
    if isinstance(value, str):
        return [value] if NAME.fullmatch(value) else []
    if isinstance(value, Mapping):
        value = [*value.values()]
    parts = value if isinstance(value, list | tuple) else ()
    return [name for part in parts for name in names_in(part)]


def identities_in(value: Any) -> dict[str, str]:
    """Path → hash of the files that `names_in` finds.

    Raises:
        UntrustedError: one is not trusted.
    """
    sources = [_source(name) for name in names_in(value)]
    return {source.path: source.identity for source in sources}


def trusted(path: str, identity: str) -> Source | None:
    """The file of this path and hash, if it is trusted."""
    return _trusted.get((path, identity))


@contextmanager
def meaning(sources: Collection[Source]) -> Iterator[None]:
    """Let names mean these files in the block, and no others."""
    token = _meant_here.set({source.path: source for source in sources})
    try:
        yield
    finally:
        _meant_here.reset(token)


def load(name: str, what: str, fits: Callable[[Any], bool] = callable) -> Any:
    """The class or function of a name.

    Args:
        what: what it should be, as "loss", for messages.
        fits: whether an object of the file can be one.

    Raises:
        UntrustedError: its file is not trusted.
        UsageError: the file cannot be imported, or has nothing of that name that fits.
    """
    source, attribute = _source(name), name.rpartition(":")[2]
    key = source.path, source.identity
    if key not in _modules:
        _modules[key] = imported(Path(source.path), source.content)
    members = vars(_modules[key])
    fitting = [member for member, value in members.items() if not member.startswith("_") and fits(value)]
    if attribute not in fitting:
        raise unknown_name(f"{what} of {source.path}", attribute, fitting)
    return members[attribute]


def meant(name: str) -> Source | None:
    """The trusted file that a name means, if there is one."""
    return _meant_here.get(_meant).get(file_of(name).as_posix())


def _source(name: str) -> Source:
    """The trusted file that a name means."""
    path, source = file_of(name).as_posix(), meant(name)
    if source is None:
        if not Path(path).is_file():
            raise UsageError(f"{name}: there is no file {path}")
        raise UntrustedError(
            f"{name} names code to run: {path}; read it, then name it on the command line, or call "
            f"encode_once.trust_code({path!r})"
        )
    return source


def imported(
    path: Path,
    content: bytes,
    error: type[UsageError] = UsageError,
    around: AbstractContextManager[None] | None = None,
) -> ModuleType:
    """Execute the bytes that were hashed as a module: an import could run a .pyc file next to it instead.

    around: a context in which it runs.

    Raises:
        UsageError: the code raises an error.
    """
    module = ModuleType(f"{path.stem}_{content_key(content).hex()[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look for it there
    try:
        with around or nullcontext():
            exec(compile(content, path, "exec"), vars(module))  # noqa: S102 — the user named or trusts it
    except Exception as problem:  # the user's code may raise anything
        del sys.modules[module.__name__]
        raise error(f"{path} cannot be imported: {brief(problem)}") from problem
    return module


def check(
    what: str,
    path: str,
    hashes: Collection[str],
    remedy: str,
    missing: str,
    *,
    consent: bool,
    identity: Callable[[], str],
    log: Log,
) -> None:
    """Refuse a file that others name, unless the user consents and its hash is the recorded hash.

    Args:
        what: who names it, and for what, as "runs/a names code to run".
        hashes: those that are recorded.
        remedy, missing: what the user can do; and if there is no such file.
        consent: whether --trust was passed.
        identity: computes the hash of the file as it is now.
        log: called with a line before the file is used.

    Raises:
        UntrustedError: it is refused.
    """
    recorded = f"recorded as {' and '.join(sorted(hashes))}" if hashes else "no hash of it is recorded"
    if not os.path.exists(path):  # noqa: PTH110 — False for a path that may not be accessed
        raise UntrustedError(f"{what}: {path} ({recorded}), which is not there; {missing}")
    if not (consent and hashes):
        raise UntrustedError(f"{what}: {path} ({recorded}); {remedy}")
    try:
        actual = identity()
    except (EncodeOnceError, OSError) as error:
        raise UntrustedError(f"{what}: {path}, which cannot be read ({brief(error)})") from error
    if {actual} != set(hashes):
        raise UntrustedError(f"{what}: {path} ({recorded}), but its hash is now {actual}: it is not used")
    log(f"trusted: {path} ({actual})")
