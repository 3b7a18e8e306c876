"""A folder of images, and beside each, if it has captions, a text of the same stem: a line a caption."""

import posixpath
import re
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.table import Table
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.image_lookup import Folder
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import Samples, tables

ABOUT = "a folder of images, with captions in a .txt of the same name beside each, a line a caption"


def recognises(data: Path, options: Options) -> bool:
    """Whether images lie directly in the folder."""
    return bool(Folder.listed(data).pictures)


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The table "train", without labels, and a line for each kind of oddity.

    Rows are the images in natural order: 2.jpg before 10.jpg. Without any text there are no captions.

    Raises:
        DataError: a text belongs to two images, or is not UTF-8.
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
            raise DataError(f"{path}: may belong to {' or '.join(sorted(images))}; rename one of them")
        if images:
            captions[images[0]] = [line.rstrip("\r\n") for line in read_lines(Path(path))]
        else:
            stray.append(path)
    ids = sorted((name for names in folder.pictures.values() for name in names), key=_natural)
    part = Samples(
        files=[data],
        split="train",
        where=lambda row: str(data / ids[row]),
        ids=ids,
        captions=[captions.get(name, []) for name in ids] if captions else None,
        images=[folder.files[name] for name in ids],
    )
    if stray:
        part.warnings.append(
            f"texts that belong to no image: {len(stray)} (first: {min(stray)}); they are not read"
        )
    return tables([part], options.label_separator)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
