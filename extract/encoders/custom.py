"""The user's own encoders: a class in a file, `--encoder path.py:MyEncoder` (see README for an example)."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import brief, unknown_name
from encode_once.extract.encoders.base import Options, Tower, file_identity
from encode_once.extract.errors import UnknownEncoderError


def is_custom(name: str) -> bool:
    """Whether the name refers to a class in a file."""
    return ".py:" in name


def towers(name: str, options: Options) -> list[Tower]:
    """The user's `Tower`, constructed with the options; its file's content is part of its features' keys.

    Raises:
        UnknownEncoderError: the file cannot be imported or has no such class.
    """
    place, _, class_name = name.rpartition(":")
    path = Path(place)
    if path.is_absolute() or ".." in path.parts:
        raise UnknownEncoderError(
            f"{name}: give the file as a path below this folder, since feature names contain it"
        )
    classes: dict[str, Callable[[Options], Tower]] = {
        class_.__name__: class_
        for class_ in vars(_imported(path)).values()
        if isinstance(class_, type) and issubclass(class_, Tower) and class_ is not Tower
    }
    if class_name not in classes:
        raise unknown_name(f"encoder of {path}", class_name, classes, UnknownEncoderError)
    tower = classes[class_name](options)
    source = file_identity(str(path))
    tower.specs = {output: {**spec, "source": source} for output, spec in tower.specs.items()}
    return [tower]


def _imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UnknownEncoderError(f"{path} cannot be imported: {brief(error)}") from error
    return module
