"""The user's own encoders: a class in a file, `--encoder path.py:MyEncoder` (see docs/extending.md)."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import brief, unknown_name
from encode_once.cache.input_files import read_regular
from encode_once.extract.encoders.base import Options, Tower, bytes_identity
from encode_once.extract.errors import UnknownEncoderError


def is_custom(name: str) -> bool:
    """Whether the name refers to a class in a file."""
    return ".py:" in name


def file_of(name: str) -> Path:
    """The path of the file that contains the class.

    Raises:
        UnknownEncoderError: the file is not below the working folder.
    """
    path = Path(name.rpartition(":")[0])
    if path.is_absolute() or ".." in path.parts:
        raise UnknownEncoderError(
            f"{name}: give the file as a path below this folder, since feature names contain it"
        )
    return path


def towers(name: str, options: Options) -> list[Tower]:
    """The user's `Tower`, constructed with the options; its file's content is part of its features' keys.

    Raises:
        UnknownEncoderError: the file cannot be imported or has no such class.
    """
    path, class_name = file_of(name), name.rpartition(":")[2]
    try:
        content = read_regular(path)
    except OSError as error:
        raise UnknownEncoderError(f"{path} cannot be imported: {error.strerror}") from error
    classes: dict[str, Callable[[Options], Tower]] = {
        class_.__name__: class_
        for class_ in vars(_imported(path, content)).values()
        if isinstance(class_, type) and issubclass(class_, Tower) and class_ is not Tower
    }
    if class_name not in classes:
        raise unknown_name(f"encoder of {path}", class_name, classes, UnknownEncoderError)
    tower = classes[class_name](options)
    source = bytes_identity(content)
    tower.specs = {output: {**spec, "source": source} for output, spec in tower.specs.items()}
    return [tower]


def _imported(path: Path, content: bytes) -> ModuleType:
    """Execute the bytes that were hashed as a module: an import could run a .pyc file next to it instead."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(content, path, "exec"), vars(module))  # noqa: S102 — the user named or trusts this code
    except Exception as error:  # the user's code may raise anything
        raise UnknownEncoderError(f"{path} cannot be imported: {brief(error)}") from error
    return module
