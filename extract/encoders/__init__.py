"""Every encoder by name.

A family is one module here with `NAMES` (name → the library's own), `PREFIX` (how names outside `NAMES`
start, or None), `towers(name, options)`, and `card(name)` for `extract --list`. A new family is one new file
and one line in `FAMILIES`.
A package brings its own as an entry point of the group `encoders`, a user as a class in a file.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import unknown_name
from encode_once.cache.feature import REGIONS
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import Options, Tower
from encode_once.extract.encoders.catalogue import Card
from encode_once.extract.errors import UnknownEncoderError

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
        yield import_module(f"encode_once.extract.encoders.{family}")
    for package in entry_points(group="encode_once.encoders"):
        yield package.load()


def listed() -> Iterator[tuple[str, Card]]:
    """Every name, and what is known of it; of a family that takes any other, how its names start."""
    for family in families():
        for name in [*family.NAMES, *([family.PREFIX] if family.PREFIX else [])]:
            yield name, family.card(name)


def card(name: str) -> Card:
    """What is known of an encoder, by its name, before it is made.

    Raises:
        UnknownEncoderError: there is none of that name.
    """
    family = _family(name)
    found: Card = family.card(name if name in family.NAMES else family.PREFIX)
    return found


def named(name: str) -> tuple[str, str | None]:
    """What the features of an encoder are called, and its file or folder where the name says one.

    `onnx:some/where/yolo.onnx` is `onnx:yolo.onnx` wherever it lies; its content is in its key.
    """
    family, colon, place = name.partition(":")
    if colon and not custom.is_custom(name) and Path(place).exists():
        return f"{family}:{Path(place).resolve().name}", str(Path(place).resolve())
    return name, None


def wanted(names: Iterable[str]) -> dict[str, bool]:
    """The encoders that are asked for, and of which regions are wanted, too, as by `clip-vit-l/regions`."""
    found: dict[str, bool] = {}
    for name in names:
        encoder = name.removesuffix(REGIONS)
        found[encoder] = found.get(encoder, False) or name != encoder
    return found


def towers(name: str, options: Options) -> list[Tower]:
    """The towers of the encoder of that name, not loaded yet.

    Raises:
        UnknownEncoderError: with the nearest name; or it has no regions, and they are wanted.
    """
    made = _made(name, options)
    if options.regions and not any("regions" in tower.specs for tower in made):
        raise UnknownEncoderError(f"{name} gives no regions: encoders of open_clip and timm do")
    return made


def _made(name: str, options: Options) -> list[Tower]:
    if custom.is_custom(name):
        return custom.towers(name, options)
    made: list[Tower] = _family(name).towers(name, options)
    return made


def _family(name: str) -> ModuleType:
    known = []
    for family in families():
        if name in family.NAMES or (family.PREFIX and name.startswith(family.PREFIX)):
            return family
        known += family.NAMES
    known += [f"{family.PREFIX}…" for family in families() if family.PREFIX]
    raise unknown_name("encoder", name, known, UnknownEncoderError)
