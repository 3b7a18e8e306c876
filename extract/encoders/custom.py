"""The user's own encoders: a class in a file, `--encoder path.py:MyEncoder` (see docs/extending.md)."""

import ast
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from encode_once.cache import own_code
from encode_once.cache.errors import unknown_name
from encode_once.cache.own_code import Source
from encode_once.extract.encoders.base import Options, Tower
from encode_once.extract.errors import UnknownEncoderError

PACKAGE = "encode_once"
OLD_NAMES = ("cache", "classify", "extract")  # top-level packages before they were in PACKAGE

_copies: ContextVar[Mapping[str, Source]] = ContextVar("_copies")  # path → the copy inside of `using`

is_custom = own_code.is_own


def file_of(name: str) -> Path:
    """The path of the file that contains the class.

    Raises:
        UnknownEncoderError: the file is not below the working folder.
    """
    return own_code.file_of(name, UnknownEncoderError)


def source_of(name: str) -> Source:
    """The file that contains the class, or its copy inside of `using`.

    Raises:
        UnknownEncoderError: the file cannot be read.
    """
    copy = _copies.get({}).get(file_of(name).as_posix())
    return copy or own_code.read(name, UnknownEncoderError)


@contextmanager
def using(copies: Collection[Source]) -> Iterator[None]:
    """Let `towers` take these copies of files, which the user trusts, for the files of their paths."""
    token = _copies.set({copy.path: copy for copy in copies})
    try:
        yield
    finally:
        _copies.reset(token)


def towers(name: str, options: Options) -> list[Tower]:
    """The user's `Tower`, constructed with the options; its file's content is part of its features' keys.

    Raises:
        UnknownEncoderError: the file cannot be imported or has no such class.
    """
    class_, source = _class(name)
    tower = class_(options)
    tower.specs = {output: {**spec, "source": source.identity} for output, spec in tower.specs.items()}
    return [tower]


def has_views(name: str) -> bool:
    """Whether the user's class passes the view in its options on, as networks of images do.

    Raises:
        UnknownEncoderError: as `towers`.
    """
    from encode_once.extract.encoders.image_network import ImageNetwork

    return issubclass(_class(name)[0], ImageNetwork)


def _class(name: str) -> tuple[type[Any], Source]:
    source, class_name = source_of(name), name.rpartition(":")[2]
    path = Path(source.path)
    classes: dict[str, type[Any]] = {
        class_.__name__: class_
        for class_ in vars(_imported(path, source.content)).values()
        if isinstance(class_, type) and issubclass(class_, Tower) and class_ is not Tower
    }
    if class_name not in classes:
        raise unknown_name(f"encoder of {path}", class_name, classes, UnknownEncoderError)
    return classes[class_name], source


@contextmanager
def _old_names(path: Path, content: bytes) -> Iterator[None]:
    """Let a file import `extract.encoders.base` and the like, as the packages were once called."""
    imports = [
        node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.ImportFrom) and node.module
    ]
    names = {str(node.module) for node in imports if str(node.module).partition(".")[0] in OLD_NAMES}
    aliases = {}
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            with suppress(ModuleNotFoundError):  # of the user's own package of that name
                old = ".".join(parts[:end])
                aliases[old] = import_module(f"{PACKAGE}.{old}")
    if names and names <= aliases.keys():
        line = f"{path} imports {', '.join(sorted(names))}: write {PACKAGE}.{min(names)}"
        warnings.warn(line, FutureWarning, stacklevel=2)
    else:
        aliases = {}
    before = {name: sys.modules.get(name) for name in aliases}
    sys.modules.update(aliases)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _imported(path: Path, content: bytes) -> ModuleType:
    return own_code.imported(path, content, UnknownEncoderError, _old_names(path, content))
