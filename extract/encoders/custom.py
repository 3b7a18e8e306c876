"""An encoder of the user's own: a class in a file, `--encoder path.py:MyEncoder` (README shows one)."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import brief, unknown_name
from encode_once.extract.encoders.base import Options, Tower, bytes_identity
from encode_once.extract.errors import UnknownEncoderError


def is_custom(name: str) -> bool:
    """Whether this is the name of a class in a file."""
    return ".py:" in name


def file_of(name: str) -> Path:
    """The file of a class in a file.

    Raises:
        UnknownEncoderError: it is not below the working folder.
    """
    path = Path(name.rpartition(":")[0])
    if path.is_absolute() or ".." in path.parts:
        raise UnknownEncoderError(f"{name}: name the file by its path below this folder; features bear it")
    return path


def towers(name: str, options: Options) -> list[Tower]:
    """The user's `Tower`, made with the options; the content of its file is part of its features' keys.

    Raises:
        UnknownEncoderError: the file cannot be imported, or has no such class.
    """
    path, class_name = file_of(name), name.rpartition(":")[2]
    try:
        content = path.read_bytes()
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
    """The module of these bytes, which are what was hashed: an import might run a .pyc beside the file."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(content, path, "exec"), vars(module))  # noqa: S102 — that the user wants it run is known
    except Exception as error:  # it is the user's code: whatever it raises is told
        raise UnknownEncoderError(f"{path} cannot be imported: {brief(error)}") from error
    return module
