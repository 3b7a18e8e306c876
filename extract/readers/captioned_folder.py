"""A folder of images; the captions of an image are the lines of a .txt file of the same name next to it."""

import posixpath
import re
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.input_files import TEXT_MB
from encode_once.extract.readers.columns import ReadOptions
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.image_lookup import Folder
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = "a folder of images, with captions in a .txt of the same name next to each, one per line"


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether the folder directly contains images."""
    return bool(Folder.listed(data).pictures)


def read(data: Path, options: ReadOptions) -> list[RawTable]:
    """The table "train", without labels.

    Rows are the images in natural order: 2.jpg before 10.jpg.

    Raises:
        DataError: a text matches two images, or is not UTF-8.
    """
    if options.columns.named:
        raise UsageError(f"{data} is a folder of images: it has no columns to name")
    folder = Folder.listed(data.resolve())
    captions: dict[str, list[str]] = {}
    stray = []
    for name, path in folder.files.items():
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() != ".txt" or name.startswith("."):
            continue
        images = folder.pictures.get(stem, [])
        if len(images) > 1:
            raise DataError(f"{path}: matches {' and '.join(sorted(images))}; rename one of them")
        if images:
            captions[images[0]] = [line.rstrip("\r\n") for line in read_lines(Path(path), TEXT_MB)]
        else:
            stray.append(path)
    ids = sorted((name for names in folder.pictures.values() for name in names), key=_natural)
    columns: dict[str, Cells] = {"image": [folder.files[name] for name in ids]}
    if captions:
        columns["captions"] = [captions.get(name, []) for name in ids]
    table = RawTable.of_columns(
        "train",
        [data],
        columns,
        lambda row: str(data / ids[row]),
        sources={"image": lambda: ids},
        roles=Roles(image="image", captions=("captions",) if captions else ()),
    )
    if stray:
        table.warnings.append(
            f"texts without an image of the same name: {len(stray)} (first: {min(stray)}); they are not read"
        )
    if folder.folders:
        table.warnings.append(
            f"{data}: folders: {len(folder.folders)} (first: {min(folder.folders)!r}); they are not read"
        )
    return [table]


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
