"""COCO's JSON: `annotations/instances_SPLIT.json`, `annotations/captions_SPLIT.json`, or both.

A row is an image; its id is the file's name. Its labels are the category names of its annotations, crowds
included, without repetition and in the order of the annotations; its captions are those of its annotations.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.table import Table
from encode_once.extract.readers.columns import ReadOptions
from encode_once.extract.readers.image_lookup import folder_with
from encode_once.extract.readers.json_text import parse
from encode_once.extract.readers.samples import RawSplit, tables

ABOUT = (
    "COCO: annotations/instances_SPLIT.json, captions_SPLIT.json or both, images in SPLIT/, images/SPLIT/, "
    "images/ or data/; or one such .json file"
)
NAME = re.compile(r"(instances|captions)_(.+)")


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether there are such files."""
    return bool(_files(data))


def _files(data: Path) -> dict[str, list[Path]]:
    """The files of each split, instances before captions."""
    if data.is_file():
        if data.suffix.lower() != ".json":
            return {}
        match = NAME.fullmatch(data.stem)
        if not match:
            return {data.stem: [data]}
        captions = data.with_name(f"captions_{match[2]}.json")
        return {match[2]: [data, captions] if captions != data and captions.is_file() else [data]}
    splits: dict[str, list[Path]] = {}
    for path in sorted([*data.glob("annotations/*.json"), *data.glob("*.json")], key=_instances_first):
        if match := NAME.fullmatch(path.stem):
            splits.setdefault(match[2], []).append(path)
    return splits


def _instances_first(path: Path) -> tuple[bool, Path]:
    return path.name.startswith("captions"), path


def read(data: Path, options: ReadOptions) -> tuple[dict[str, Table], list[str]]:
    """Return split name → table, and a warning for each kind of problem.

    Raises:
        DataError: a file is not COCO's JSON, or an annotation has an unknown image or category.
    """
    if options.columns.named:
        raise UsageError(f"{data} is COCO's JSON: it has no columns to name")
    parts = []
    for split, paths in sorted(_files(data).items()):
        try:
            parts.append(_samples(split, paths, options))
        except (TypeError, KeyError) as error:  # a value has another type than in COCO's format
            raise DataError(f"{paths[0]}: not COCO's JSON ({error!r})") from error
    return tables(parts, options.label_separator)


class _Image(NamedTuple):
    id: int | str
    name: str


class _Annotation(NamedTuple):
    image: int | str
    category: int | str | None
    caption: str | None


def _slim(record: dict[str, Any]) -> Any:
    """Drop what is not needed of a JSON object during parsing: outlines take much memory."""
    if "image_id" in record:
        return _Annotation(record["image_id"], record.get("category_id"), _text(record.get("caption")))
    return _Image(record["id"], str(record["file_name"])) if "file_name" in record else record


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _samples(split: str, paths: Sequence[Path], options: ReadOptions) -> RawSplit:
    names: dict[int | str, str] = {}  # image id → name of the image file
    first: dict[int | str, Path] = {}  # image id → first JSON file with that image
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
        for annotation in _entries(path, content, "annotations", _Annotation):
            image_id = annotation.image
            if image_id not in names:
                raise DataError(f"{path}: an annotation has the image {image_id!r}, which is not listed")
            if annotation.caption is not None:
                captions.setdefault(image_id, []).append(annotation.caption)
            if annotation.category is not None:
                labels.setdefault(image_id, []).append(_name(path, categories, annotation))
    if not names:
        raise DataError(f"{paths[0]}: its list of images is empty")
    ids = list(names.values())
    folder = paths[0].resolve().parent
    base = folder.parent if folder.name == "annotations" else folder
    folders = [base / split, base / "images" / split, base / "images", base / "data", base]

    def where(row: int) -> str:
        image = list(names)[row]
        return f"{first[image]}, image {image!r}"

    return RawSplit(
        files=list(paths),
        split=split,
        where=where,
        ids=ids,
        captions=[captions.get(image, []) for image in names] if captions else None,
        labels=[labels.get(image, []) for image in names] if labelled else None,
        root=options.images or folder_with(ids, folders, where) or (None if captions else base),
    )


def _entries(path: Path, content: dict[str, Any], name: str, kind: type[Any]) -> list[Any]:
    entries = content.get(name, [])
    invalid = next((entry for entry in entries if not isinstance(entry, kind)), None)
    if invalid is not None:
        raise DataError(f"{path}: {name} contains {brief(invalid)}, which is not in COCO's format")
    return list(entries)


def _name(path: Path, categories: Mapping[Any, str], annotation: _Annotation) -> str:
    if annotation.category not in categories:
        raise DataError(
            f"{path}: an annotation of the image {annotation.image!r} has the category "
            f"{annotation.category!r}, which is not listed"
        )
    return categories[annotation.category]


def _categories(path: Path, entries: Sequence[Any]) -> dict[int | str, str]:
    """Id → name, or the id if there is no name."""
    names = {category["id"]: str(category.get("name", category["id"])) for category in entries}
    if len(set(names.values())) < len(entries):
        raise DataError(f"{path}: two categories share an id or a name; rename one of them")
    return names


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = parse(path.read_bytes(), _slim)
        if not isinstance(content.get("images"), list):
            raise DataError(f"{path}: it has no list of images; expected COCO's JSON")
        return dict(content)
    except (ValueError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not COCO's JSON ({error!r})") from error
