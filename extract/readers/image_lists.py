"""Lists of images and classes: lines of a path and numbers, as `images/0.jpg 0 1 0` or `dogs/0.jpg 3`."""

import re
from itertools import islice
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import TEXT_MB
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.columns import ReadOptions
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.image_lookup import Folder
from encode_once.extract.readers.raw import RawTable, Roles

ABOUT = "a list train.txt of images and numbers of their classes: `0.jpg 0 1 0` or `0.jpg 2`"
LINE = re.compile(r"(\S.*?)\s+([01](?:[ \t]+[01])+|\d+)\s*")
COMPARED = 20  # lines that a file is recognised by


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether there are such lists."""
    return bool(_files(data))


def _files(data: Path) -> list[Path]:
    if not data.is_dir():
        return [data] if data.suffix.lower() == ".txt" and _is_list(data) else []
    listing = Folder.listed(data)
    if listing.pictures:  # texts next to images are captions
        return []
    return [
        data / name
        for name in sorted(listing.files)
        if name.lower().endswith(".txt") and _is_list(data / name)
    ]


def _is_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line for line in islice(file, COMPARED) if line.strip()]
    except (OSError, ValueError):
        return False
    matches = [LINE.fullmatch(line.rstrip("\n")) for line in lines]
    return bool(matches) and all(m and Path(m[1]).suffix.lower() in IMAGE_SUFFIXES for m in matches)


def read(data: Path, options: ReadOptions) -> list[RawTable]:
    """The table of each list.

    Raises:
        DataError: a line is not a path and numbers.
    """
    if options.columns.named:
        raise UsageError(f"{data} is a list of images: it has no columns to name")
    return [_table(path, data, options) for path in _files(data)]


def _table(path: Path, data: Path, options: ReadOptions) -> RawTable:
    images, labels, lines = [], [], []
    with file_errors(path):
        for number, line in enumerate(read_lines(path, TEXT_MB), start=1):
            if not line.strip():
                continue
            match = LINE.fullmatch(line.rstrip("\r\n"))
            if not match:
                options.bad_rows.add(
                    DataError(f"{path}:{number}: not a path and numbers of classes: {brief(line.strip())}")
                )
                continue
            images.append(match[1])
            labels.append(" ".join(match[2].split()))
            lines.append(number)
    base = data if data.is_dir() else data.parent
    return RawTable.of_columns(
        path.stem,
        [path],
        {"image": images, "labels": labels},
        lambda row: f"{path}:{lines[row]}",
        roles=Roles(image="image", labels=("labels",)),
        folders=[base, base / "images", base / "data"],
    )
