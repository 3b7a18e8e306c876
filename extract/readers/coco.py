"""COCO's JSON: `annotations/instances_SPLIT.json`, `annotations/captions_SPLIT.json`, or both.

A row is an image; its id is the file's name. Its labels are the category names of its annotations, crowds
included, without repetition and in the order of the annotations; its captions are those of its annotations.
"""

import mmap
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import open_regular, read_regular
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.json_text import holds_records, parse
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = (
    "COCO: annotations/instances_SPLIT.json, captions_SPLIT.json or both, images in SPLIT/, images/SPLIT/, "
    "images/ or data/; or one such .json file"
)
FILE_NAME = "ImageID"  # as the id column is called in predictions
NAME = re.compile(r"(instances|captions)_(.+)")
WORDS = re.compile(r"^_annotations\.coco$|[._-]?(annotations|coco|instances)(?=[._-]|$)")  # not of a split
PARTS = ("images", "annotations", "categories")


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are such files."""
    return bool(_files(data))


def recognises_file(path: Path) -> bool:
    """Whether a file has the names of COCO's JSON, or the name of one of its files."""
    if holds_records(path):
        return False
    if NAME.fullmatch(path.stem):
        return True
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            has = {name: content.find(b'"%s"' % name.encode()) >= 0 for name in (*PARTS, "sentences")}
    except (OSError, ValueError):  # ValueError: the file is empty
        return False
    return has["images"] and (has["annotations"] or has["categories"]) and not has["sentences"]


def _files(data: Path) -> dict[str, list[Path]]:
    """The files of each split, instances before captions."""
    if data.is_file():
        if data.suffix.lower() != ".json" or not recognises_file(data):
            return {}
        match = NAME.fullmatch(data.stem)
        if not match:
            return {data.stem: [data]}
        captions = data.with_name(f"captions_{match[2]}.json")
        return {match[2]: [data, captions] if captions != data and captions.is_file() else [data]}
    splits: dict[str, list[Path]] = {}
    folders = (data / "annotations", data)
    files = [folder / name for folder in folders for name in Folder.listed(folder).files]
    for path in sorted((path for path in files if path.suffix == ".json"), key=_instances_first):
        if match := NAME.fullmatch(path.stem):
            splits.setdefault(match[2], []).append(path)
    if splits:
        return splits
    others = [path for path in files if path.suffix == ".json" and recognises_file(path)]
    return {WORDS.sub("", path.stem).strip("._-") or path.stem: [path] for path in sorted(others)}


def _instances_first(path: Path) -> tuple[bool, Path]:
    return path.name.startswith("captions"), path


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split.

    Raises:
        DataError: a file is not COCO's JSON, or an annotation has an unknown image or category.
    """
    if options.columns.named:
        raise UsageError(f"{data} is COCO's JSON: it has no columns to name")
    return [_table(split, paths, options.bad_rows) for split, paths in sorted(_files(data).items())]


class _Image(NamedTuple):
    id: Any
    name: Any

    @property
    def problem(self) -> str:
        if type(self.id) in (int, str) and isinstance(self.name, str):
            return ""
        return f"the id {self.id!r} and the file name {self.name!r}"


class _Annotation(NamedTuple):
    image: Any
    category: Any
    caption: Any

    @property
    def problem(self) -> str:
        if type(self.image) not in (int, str):
            return f"the image {self.image!r}"
        if type(self.category) not in (int, str, NoneType):
            return f"the category {self.category!r}"
        return "" if type(self.caption) in (str, NoneType) else f"the caption {self.caption!r}"


def _slim(record: dict[str, Any]) -> Any:
    """Drop what is not needed of a JSON object during parsing: outlines take much memory."""
    if "image_id" in record:
        return _Annotation(record["image_id"], record.get("category_id"), record.get("caption"))
    if "file_name" in record:
        return _Image(record.get("id"), record["file_name"])
    if "coco_url" in record:  # LVIS names no files
        return _Image(record.get("id"), "/".join(str(record["coco_url"]).split("/")[-2:]))
    return record


@dataclass
class _Content:
    """What the files of a split say of its images."""

    file_names: dict[int | str, str] = field(default_factory=dict)  # image id → name of the image file
    first: dict[int | str, Path] = field(default_factory=dict)  # image id → first JSON file with that image
    captions: dict[int | str, list[str]] = field(default_factory=dict)
    labels: dict[int | str, list[str]] = field(default_factory=dict)
    labelled: bool = False
    bad: set[int | str] = field(default_factory=set)  # images with an annotation that cannot be read

    def add(self, path: Path, bad_rows: BadRows) -> None:
        """Add what a file says."""
        content = _parsed(path)
        categories = _categories(path, content.get("categories", []))
        self.labelled |= bool(categories)
        for image in _entries(path, content, "images", _Image, bad_rows):
            name = self.file_names.setdefault(image.id, image.name)
            if name != image.name or self.first.get(image.id) == path:
                raise DataError(f"{path}: two images have the id {image.id!r}: {name!r}, {image.name!r}")
            self.first.setdefault(image.id, path)
        for annotation in _entries(path, content, "annotations", _Annotation, bad_rows):
            if problem := _unlisted(annotation, self.file_names, categories):
                bad_rows.add(DataError(f"{path}: {problem}"))
                self.bad.add(annotation.image)
                continue
            if annotation.caption is not None:
                self.captions.setdefault(annotation.image, []).append(annotation.caption)
            if annotation.category is not None:
                self.labels.setdefault(annotation.image, []).append(categories[annotation.category])


def _table(split: str, paths: Sequence[Path], bad_rows: BadRows) -> RawTable:
    content = _Content()
    for path in paths:
        content.add(path, bad_rows)
    images = [image for image in content.file_names if image not in content.bad]
    if not images:
        raise DataError(f"{paths[0]}: its list of images is empty")
    columns: dict[str, Cells] = {FILE_NAME: [content.file_names[image] for image in images]}
    if content.captions:
        columns["captions"] = [content.captions.get(image, []) for image in images]
    if content.labelled:
        columns["categories"] = [content.labels.get(image, []) for image in images]
    folder = paths[0].absolute().parent
    base = folder.parent if folder.name == "annotations" else folder
    return RawTable.of_columns(
        split,
        paths,
        columns,
        lambda row: f"{content.first[images[row]]}, image {images[row]!r}",
        roles=Roles(
            id=FILE_NAME,
            captions=("captions",) if content.captions else (),
            labels=("categories",) if content.labelled else (),
        ),
        folders=[base / split, base / "images" / split, base / "images", base / "data", base],
    )


def _entries(
    path: Path, content: dict[str, Any], name: str, kind: type[Any], bad_rows: BadRows
) -> Iterator[Any]:
    """The entries of a list that are in COCO's format."""
    entries = content.get(name, [])
    if not isinstance(entries, list):
        raise DataError(f"{path}: {name} is not a list")
    for number, entry in enumerate(entries):
        problem = entry.problem if isinstance(entry, kind) else brief(repr(entry))
        if problem:
            bad_rows.add(
                DataError(f"{path}: {name}[{number}] has {brief(problem)}, which is not in COCO's format")
            )
        else:
            yield entry


def _unlisted(annotation: _Annotation, images: Collection[Any], categories: Collection[Any]) -> str:
    """Which image or category of an annotation the file does not list; empty if there is none."""
    if annotation.image not in images:
        return f"an annotation has the image {annotation.image!r}, which is not listed"
    if annotation.category is not None and annotation.category not in categories:
        category = f"the category {annotation.category!r}, which is not listed"
        return f"an annotation of the image {annotation.image!r} has {category}"
    return ""


def _categories(path: Path, entries: Any) -> dict[int | str, str]:
    """Id → name, or the id if there is no name."""
    if not isinstance(entries, list):
        raise DataError(f"{path}: categories is not a list")
    names = {}
    for number, category in enumerate(entries):
        fields = category if isinstance(category, dict) else {}
        name = fields.get("name", fields.get("id"))
        if type(fields.get("id")) not in (int, str) or type(name) not in (int, str):
            raise DataError(
                f"{path}: categories[{number}] has {brief(repr(category))}, which is not in COCO's format"
            )
        names[fields["id"]] = str(name)
    if len(set(names.values())) < len(entries):
        raise DataError(f"{path}: two categories share an id or a name; rename one of them")
    return names


def _parsed(path: Path) -> dict[str, Any]:
    with file_errors(path):
        text = read_regular(path)
    try:
        content = parse(text, _slim)
    except ValueError as error:
        raise DataError(f"{path}: not COCO's JSON ({brief(repr(error))})") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: it has no list of images; expected COCO's JSON")
    return content
