"""What is in a data folder and was not read, with the option that would read it."""

from collections.abc import Sequence
from pathlib import Path

from encode_once.cache.errors import brief
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.raw import RawTable

# By suffix, what a file is that was not read. Each is named with `--data FILE`, which reads it alone.
READABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".tar", ".gz", ".xlsx")
UNREADABLE_IMAGES = (
    ".raw",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".dng",
    ".psd",
    ".svg",
    ".jxl",
    ".exr",
    ".dcm",
    ".ico",
)
SUFFIXES = tuple(IMAGE_SUFFIXES)
LISTED = 5  # names in a line


def unused_files(data: Path, tables: Sequence[RawTable]) -> list[str]:
    """A line for each kind of file in the data folder that no table was read from.

    Images are left to the look-up of images, and so are texts next to images.
    """
    if not data.is_dir():
        return []
    used = {path.resolve() for table in tables for path in (*table.files, *table.also_read)}
    others, has_images = [], False
    for path in data.iterdir():
        name = path.name
        if name.lower().endswith(SUFFIXES):
            has_images = True
        elif path.resolve() not in used and not path.is_dir():
            others.append(name)
    others = sorted(name for name in others if not (has_images and name.lower().endswith(".txt")))
    readable = [name for name in others if name.lower().endswith(READABLE) and not name.startswith(".")]
    images = [name for name in others if name.lower().endswith(UNREADABLE_IMAGES)]
    rest = [name for name in others if name not in {*readable, *images}]
    lines = []
    if readable:
        lines.append(
            f"{_list(readable)}: not the table of a split; --data {data / readable[0]} reads it alone"
        )
    if images:
        lines.append(f"{_list(images)}: pictures of a format that is not read; convert them to JPEG or PNG")
    if rest:
        lines.append(f"{_list(rest)}: neither tables nor pictures")
    return lines


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return brief(", ".join(names[:LISTED])) + more
