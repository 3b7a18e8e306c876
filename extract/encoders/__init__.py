"""Every encoder by name.

A family is a module with `NAMES` (our name → the library's name), `PREFIX` (the start of all other names that
the family accepts, or None), `towers(name, options)`, and `card(name)`, which returns the EncoderInfo that
`extract --list` prints. To add a family, add a file and a line in `FAMILIES`.
Packages add families as entry points of the group `encode_once.encoders`, users as a class in a file.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import unknown_name
from encode_once.cache.names import REGIONS, split_regions
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import Options, Tower
from encode_once.extract.encoders.catalogue import EncoderInfo
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
    """The modules of all families; importing them does not import their libraries."""
    for family in FAMILIES:
        yield import_module(f"encode_once.extract.encoders.{family}")
    for package in entry_points(group="encode_once.encoders"):
        yield package.load()


def listed() -> Iterator[tuple[str, EncoderInfo]]:
    """Every encoder name with its information; for a family that accepts other names, also its prefix."""
    for family in families():
        for name in [*family.NAMES, *([family.PREFIX] if family.PREFIX else [])]:
            yield name, family.card(name)


def card(name: str) -> EncoderInfo:
    """Information about an encoder that needs no weights.

    Raises:
        UnknownEncoderError: no encoder has that name.
    """
    family = _family(name)
    info: EncoderInfo = family.card(name if name in family.NAMES else family.PREFIX)
    return info


def named(name: str) -> tuple[str, str | None]:
    """The encoder's name in feature names, and the path of its weights if `name` contains one.

    `onnx:models/yolo.onnx` becomes `onnx:yolo.onnx`, so that features do not depend on the folder; the file's
    content is part of the features' key.
    """
    family, colon, location = name.partition(":")
    path = Path(location)
    if colon and not custom.is_custom(name) and path.exists():
        return f"{family}:{path.resolve().name}", str(path.resolve())
    return name, None


def requested(names: Iterable[str]) -> dict[str, bool]:
    """Encoder → whether its regions are requested too, as by `clip-vit-l/regions`."""
    regions: dict[str, bool] = {}
    for name in names:
        encoder, with_regions = split_regions(name)
        regions[encoder] = regions.get(encoder, False) or with_regions
    return regions


def towers(name: str, options: Options) -> list[Tower]:
    """The towers of an encoder, not loaded yet.

    Raises:
        UnknownEncoderError: the name is unknown (the message suggests the closest one), or regions are
            requested from an encoder that has none.
    """
    family = custom if custom.is_custom(name) else _family(name)
    encoder_towers: list[Tower] = family.towers(name, options)
    if options.regions and not any(REGIONS in tower.specs for tower in encoder_towers):
        raise UnknownEncoderError(f"{name} gives no regions: use an encoder of open_clip or timm")
    return encoder_towers


def _family(name: str) -> ModuleType:
    names = []
    for family in families():
        if name in family.NAMES or (family.PREFIX and name.startswith(family.PREFIX)):
            return family
        names += family.NAMES
    names += [f"{family.PREFIX}…" for family in families() if family.PREFIX]
    raise unknown_name("encoder", name, names, UnknownEncoderError)
