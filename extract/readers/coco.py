"""COCO's JSON: `annotations/instances_SPLIT.json`, `annotations/captions_SPLIT.json`, or both.

A row is an image; its labels are the names of the categories of its annotations, each once, crowds included,
in the annotations' order; its captions are those of its annotations. The id is the file's name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.table import Table
from encode_once.extract.readers.image_lookup import folder_with
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import Samples, tables

ABOUT = (
    "COCO: annotations/instances_SPLIT.json, captions_SPLIT.json or both, images in SPLIT/, images/SPLIT/, "
    "images/ or data/; or one such .json file"
)
NAME = re.compile(r"(instances|captions)_(.+)")


def recognises(data: Path, options: Options) -> bool:
    """Whether such files are there."""
    return bool(_files(data))


def _files(data: Path) -> dict[str, list[Path]]:
    """The files of each split, instances first; captions of the same split lie beside a file of instances."""
    if data.is_file():
        if data.suffix.lower() != ".json":
            return {}
        named = NAME.fullmatch(data.stem)
        if not named:
            return {data.stem: [data]}
        beside = data.with_name(f"captions_{named[2]}.json")
        return {named[2]: [data, beside] if beside != data and beside.is_file() else [data]}
    splits: dict[str, list[Path]] = {}
    for path in sorted([*data.glob("annotations/*.json"), *data.glob("*.json")], key=_instances_first):
        if named := NAME.fullmatch(path.stem):
            splits.setdefault(named[2], []).append(path)
    return splits


def _instances_first(path: Path) -> tuple[bool, Path]:
    return path.name.startswith("captions"), path


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The tables by the names of the splits, and a line for each kind of oddity.

    Raises:
        DataError: a file is not COCO's JSON, or an annotation names an image or category that is not there.
    """
    if options.columns.named:
        raise UsageError(f"{data} is COCO's JSON: it has no columns to name")
    parts = [_samples(split, paths, options) for split, paths in sorted(_files(data).items())]
    return tables(parts, options.label_separator)


class _Image(NamedTuple):
    id: int | str
    name: str


class _Annotation(NamedTuple):
    image: int | str
    category: int | str | None
    caption: str | None


def _slim(read: dict[str, Any]) -> Any:
    """What is kept of an object of the JSON while it is parsed: its outlines would take far more."""
    if "image_id" in read:
        return _Annotation(read["image_id"], read.get("category_id"), read.get("caption"))
    return _Image(read["id"], read["file_name"]) if "file_name" in read else read


def _samples(split: str, paths: Sequence[Path], options: Options) -> Samples:
    names: dict[int | str, str] = {}  # of the images' files, by the images' ids
    first: dict[int | str, Path] = {}  # which file of JSON named the image
    captions: dict[int | str, list[str]] = {}
    labels: dict[int | str, list[str]] = {}
    labelled = False
    for path in paths:
        content = _parsed(path)
        categories = _categories(path, content.get("categories", []))
        labelled |= bool(categories)
        for image in _entries(path, content, "images", _Image):
            if names.setdefault(image.id, image.name) != image.name or first.get(image.id) == path:
                raise DataError(
                    f"{path}: two images have the id {image.id!r}: {names[image.id]!r}, {image.name!r}"
                )
            first.setdefault(image.id, path)
        for one in _entries(path, content, "annotations", _Annotation):
            if one.image not in names:
                raise DataError(f"{path}: an annotation is of the image {one.image!r}, which is not there")
            if one.caption is not None:
                captions.setdefault(one.image, []).append(one.caption)
            if one.category is not None:
                labels.setdefault(one.image, []).append(_name(path, categories, one))
    if not names:
        raise DataError(f"{paths[0]}: there are no images")
    ids = list(names.values())
    folder = paths[0].resolve().parent
    base = folder.parent if folder.name == "annotations" else folder
    beside = [base / split, base / "images" / split, base / "images", base / "data", base]

    def where(row: int) -> str:
        image = list(names)[row]
        return f"{first[image]}, image {image!r}"

    return Samples(
        files=list(paths),
        split=split,
        where=where,
        ids=ids,
        captions=[captions.get(image, []) for image in names] if captions else None,
        labels=[labels.get(image, []) for image in names] if labelled else None,
        root=options.images or folder_with(ids, beside, where) or (None if captions else base),
    )


def _entries(path: Path, content: dict[str, Any], name: str, kind: type[Any]) -> list[Any]:
    entries = content.get(name, [])
    odd = next((one for one in entries if not isinstance(one, kind)), None)
    if odd is not None:
        raise DataError(f"{path}: {name} holds {brief(odd)}, which is none of COCO's")
    return list(entries)


def _name(path: Path, categories: Mapping[Any, str], annotation: _Annotation) -> str:
    if annotation.category not in categories:
        raise DataError(
            f"{path}: an annotation of the image {annotation.image!r} has the category "
            f"{annotation.category!r}, which is not there"
        )
    return categories[annotation.category]


def _categories(path: Path, entries: Sequence[Any]) -> dict[int | str, str]:
    """Id → name; one without a name is called by its id."""
    found = {one["id"]: str(one.get("name", one["id"])) for one in entries}
    if len(set(found.values())) < len(entries):
        raise DataError(f"{path}: two categories share an id or a name; rename one of them")
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=_slim)
        if not isinstance(content.get("images"), list):
            raise DataError(f"{path}: no list of images is there; expected COCO's JSON")
        return dict(content)
    except (ValueError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not COCO's JSON ({error!r})") from error
