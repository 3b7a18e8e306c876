"""Every encoder by name.

A family is a module with `towers(name, options)`. `catalogue.FAMILIES` lists its encoders, and the prefix
behind which it accepts every model of its library. To add a family, add a file and its entries.
Packages add families as entry points of the group `encode_once.encoders`: modules with `towers` and with
`ENCODERS`, a mapping like that of a family in `FAMILIES`. Users add a class in a file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.cache.names import REGIONS, split_regions
from encode_once.cache.views import AT, View, canonical, split_view, with_view, without_view
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import TRIAL, Options, Tower
from encode_once.extract.encoders.catalogue import ENCODERS, FAMILIES, EncoderInfo, answers
from encode_once.extract.errors import UnknownEncoderError, WeightsError

Loader = Callable[[], Any]  # imports a family's module
VIEWED = ("clip", "timm_models", "torchvision_models", "onnx")  # families that have views
LIST_THEM = "encode-once encoders"
NO_AT = ("timm:", "open_clip:")  # prefixes of names that have no @ of their own


def _families() -> Iterator[tuple[Loader, Mapping[str, EncoderInfo]]]:
    for family, infos in FAMILIES.items():
        yield partial(import_module, f"{__name__}.{family}"), infos
    for package in entry_points(group="encode_once.encoders"):
        yield package.load, package.load().ENCODERS


def listed() -> Iterator[tuple[str, EncoderInfo]]:
    """Every encoder name, and every prefix of names, with its information."""
    for _, infos in _families():
        yield from infos.items()


def _find(name: str) -> tuple[Loader, EncoderInfo]:
    names: list[str] = []
    for load, infos in _families():
        for key in (name, f"{name.partition(':')[0]}:"):
            if key in infos:
                return load, infos[key]
        names += infos
    raise unknown_name("encoder", name, names, UnknownEncoderError)


def trial_name(name: str) -> str:
    """The name of an encoder with random weights."""
    encoder, view = split_view(name)
    return with_view(f"{encoder.removesuffix(TRIAL)}{TRIAL}", view)


def card(name: str) -> EncoderInfo:
    """Information about an encoder, whatever its view.

    Raises:
        UnknownEncoderError: no encoder has that name, or this one has no views.
        UsageError: the view is unknown.
    """
    _check_view(name)
    encoder, view = split_view(name)
    info = _find(encoder.removesuffix(TRIAL))[1]
    if view and not has_views(encoder):
        raise _no_views(encoder)
    return info


def rights(name: str) -> dict[str, str]:
    """The licence of an encoder's published weights and their training data, as provenance records them.

    Nothing for random weights, users' own encoders, and models whose licence only they themselves state.
    """
    name = without_view(name)
    if name.endswith(TRIAL) or custom.is_custom(name) or name not in (infos := dict(listed())):
        return {}
    texts = {"licence": infos[name].licence, "trained_on": infos[name].trained_on}
    return {key: text for key, text in texts.items() if text}


def check_reachable(name: str) -> None:
    """Raise if the published weights of a named encoder are not here, and their site does not answer.

    The libraries would try again for a minute before they say so.

    Raises:
        WeightsError: there is no way to get them.
    """
    info = ENCODERS.get(without_view(name))
    if info and info.files and not info.here and not answers(info.weights):
        raise WeightsError(
            f"{name}: its weights are not on this machine, and {info.weights} does not answer; fetch "
            f"{info.files[0]} where there is a network and pass --weights PATH, or take an encoder "
            "whose weights are here (encode-once encoders)"
        )


def named(name: str) -> tuple[str, str | None]:
    """The encoder's name in feature names, and the path of its weights if `name` contains one.

    `onnx:models/yolo.onnx` becomes `onnx:yolo.onnx`, so that features do not depend on the folder; the file's
    content is part of the features' key.

    Raises:
        UsageError: the file is named like another with a view, as `onnx:net@64`.
    """
    encoder, view = split_view(name)
    family, colon, location = encoder.partition(":")
    if not colon or custom.is_custom(encoder):
        return name, None
    path = Path(location)
    if path.exists():
        return with_view(f"{family}:{path.resolve().name}", view), str(path.resolve())
    if view and (file := Path(name.partition(":")[2])).exists():
        raise UsageError(f"{file} is named like a view of {path}: rename it, as to {file}.onnx")
    return with_view(encoder, view), None


def requested(names: Iterable[str]) -> dict[str, bool]:
    """Encoder → whether its regions are requested too, as by `clip-vit-l/regions`."""
    regions: dict[str, bool] = {}
    for name in names:
        encoder, with_regions = split_regions(name)
        encoder = canonical(encoder)
        regions[encoder] = regions.get(encoder, False) or with_regions
    return regions


def towers(name: str, options: Options) -> list[Tower]:
    """The towers of an encoder, not loaded yet. Of the families only the encoder's own is imported.

    A view, as in `clip-vit-l@whole`, is that of the tower of images; one of captions is the same without it.

    Raises:
        UnknownEncoderError: the name is unknown (the message suggests the closest one), or regions or a view
            are requested of an encoder that has none.
        UsageError: the view is unknown.
    """
    encoder, view = split_view(name)
    encoder = encoder.removesuffix(TRIAL)
    if not custom.is_custom(encoder):
        _check_view(name)
    family = custom if custom.is_custom(encoder) else _find(encoder)[0]()
    encoder_towers: list[Tower] = family.towers(encoder, replace(options, view=view))
    if view and not any(tower.view == view for tower in encoder_towers):
        raise _no_views(encoder)
    if options.regions and not any(REGIONS in tower.specs for tower in encoder_towers):
        raise UnknownEncoderError(f"{encoder} gives no regions: use an encoder of open_clip or timm")
    return encoder_towers


def has_views(name: str) -> bool:
    """Whether an encoder may have views: it is an image network."""
    if custom.is_custom(name):
        return custom.has_views(name)
    prefix = f"{name.partition(':')[0]}:"
    return any(key in FAMILIES[family] for family in VIEWED for key in (name.removesuffix(TRIAL), prefix))


def _check_view(name: str) -> None:
    """Raise if what follows the last @ of a name was meant as a view, but is none."""
    encoder, at, text = name.removesuffix(TRIAL).rpartition(AT)
    if at and (encoder.removesuffix(TRIAL) in dict(listed()) or encoder.startswith(NO_AT)):
        View.parse(text)


def _no_views(encoder: str) -> UnknownEncoderError:
    """The error that an encoder has no views."""
    return UnknownEncoderError(f"{encoder} has no views: use an image network ({LIST_THEM})")
