"""Every encoder by name.

A family is one module here with `ABOUT`, `NAMES` (name → the library's own), `PREFIX` (how names outside
`NAMES` start, or None) and `towers(name, options)`. A new family is one new file and one line in `FAMILIES`.
A package brings its own as an entry point of the group `encode_once.encoders`, a user as a class in a file.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from cache.errors import unknown_name
from extract.encoders import custom
from extract.encoders.base import Options, Tower
from extract.errors import UnknownEncoderError

FAMILIES = (
    "clip",
    "timm_models",
    "torchvision_models",
    "detection",
    "onnx",
    "glove",
    "transformers_models",
    "captioner",
)


def families() -> Iterator[ModuleType]:
    """The modules of all families; importing one does not import its libraries."""
    for family in FAMILIES:
        yield import_module(f"extract.encoders.{family}")
    for package in entry_points(group="encode_once.encoders"):
        yield package.load()


def describe() -> Iterator[tuple[str, str]]:
    """Every name, and what it stands for."""
    for family in families():
        for name, model in family.NAMES.items():
            model = "/".join(model) if isinstance(model, tuple) else model
            yield name, f"{family.ABOUT} ({model})"
        if family.PREFIX:
            yield f"{family.PREFIX}…", f"{family.ABOUT}: any other"


def named(name: str) -> tuple[str, str | None]:
    """What the features of an encoder are called, and its file or folder where the name says one.

    `onnx:some/where/yolo.onnx` is `onnx:yolo.onnx` wherever it lies; its content is in its key.
    """
    family, colon, place = name.partition(":")
    if colon and not custom.is_custom(name) and Path(place).exists():
        return f"{family}:{Path(place).resolve().name}", str(Path(place).resolve())
    return name, None


def towers(name: str, options: Options) -> list[Tower]:
    """The towers of the encoder of that name, not loaded yet.

    Raises:
        UnknownEncoderError: with the nearest name.
    """
    if custom.is_custom(name):
        return custom.towers(name, options)
    known = []
    for family in families():
        if name in family.NAMES or (family.PREFIX and name.startswith(family.PREFIX)):
            made: list[Tower] = family.towers(name, options)
            return made
        known += family.NAMES
    known += [f"{family.PREFIX}…" for family in families() if family.PREFIX]
    raise unknown_name("encoder", name, known, UnknownEncoderError)
