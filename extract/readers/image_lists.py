"""Lists of images in text files, in one of four forms.

images/0.jpg 0 1 0              a number for each class (NUS-WIDE)
dogs/0.jpg 3                    the number of a class
0.jpg -1 1 1                    the same after lines with the number of images and the classes' names (CelebA)
0.jpg#1\tA dog runs.            a caption (Flickr8k)
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import TEXT_MB
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = "a list train.txt of images and numbers of their classes: `0.jpg 0 1 0` or `0.jpg 2`"
LINE = re.compile(r"(\S.*?)\s+((?:-?[01])(?:[ \t]+-?[01])+|\d+)\s*")
CAPTION = re.compile(r"([^\t]+?)#\d+\t(.*)")
COMPARED = 20  # lines that a file is recognised by
MOST = 100  # .txt files in a folder that may be lists
HEADER = 2  # lines before the images, if there are any


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are such lists."""
    return bool(_files(data))


def _files(data: Path) -> list[Path]:
    if not data.is_dir():
        return [data] if data.suffix.lower() == ".txt" and _is_list(data) else []
    listing = Folder.listed(data)
    if listing.pictures:  # texts next to images are captions
        return []
    texts = [data / name for name in sorted(listing.files) if name.lower().endswith(".txt")]
    return [path for path in texts if _is_list(path)] if len(texts) <= MOST else []


def _is_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in islice(file, COMPARED) if line.strip()]
    except (OSError, ValueError):
        return False
    lines = lines[HEADER if _header(lines) else 0 :]
    return any(_are_lines(lines, form) for form in (LINE, CAPTION))


def _are_lines(lines: Sequence[str], form: re.Pattern[str]) -> bool:
    """Whether lines have a form, the first with an image's suffix: Flickr8k has one image without."""
    matches = [form.fullmatch(line) for line in lines]
    return bool(matches) and all(matches) and _names_image(matches[0])


def _names_image(match: re.Match[str] | None) -> bool:
    return match is not None and Path(match[1]).suffix.lower() in IMAGE_SUFFIXES


def _header(lines: Sequence[str]) -> list[str]:
    """The names of the classes, if the first line is the number of images and the second has names."""
    if len(lines) <= HEADER or not lines[0].strip().isdecimal():
        return []
    names, match = lines[1].split(), LINE.fullmatch(lines[2])
    return names if match and len(match[2].split()) == len(names) > 1 else []


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each list.

    Raises:
        DataError: a line has another form than the others.
    """
    if options.columns.named:
        raise UsageError(f"{data} is a list of images: it has no columns to name")
    return [_table(path, data, options) for path in _files(data)]


def _table(path: Path, data: Path, options: ParsedOptions) -> RawTable:
    with file_errors(path):
        lines = [
            (n, text.rstrip("\r\n")) for n, text in enumerate(read_lines(path, TEXT_MB), 1) if text.strip()
        ]
    classes = _header([text for _, text in lines[: HEADER + 1]])
    lines = lines[HEADER if classes else 0 :]
    form = CAPTION if _names_image(CAPTION.fullmatch(lines[0][1])) else LINE
    rows = []
    for number, text in lines:
        match = form.fullmatch(text)
        if match is None or (classes and len(match[2].split()) != len(classes)):
            options.bad_rows.add(
                DataError(f"{path}:{number}: not as the lines before: {brief(text.strip())}")
            )
        else:
            rows.append((number, match[1], match[2]))
    columns: dict[str, Cells] = {"image": [image for _, image, _ in rows]}
    values = [value for _, _, value in rows]
    if classes:
        cells = zip(*(value.split() for value in values), strict=True)
        columns |= {name: list(column) for name, column in zip(classes, cells, strict=True)}
        roles = Roles(image="image")
    elif form is CAPTION:
        columns["caption"] = values
        roles = Roles(image="image", captions=("caption",))
    else:
        columns["labels"] = [" ".join(value.split()) for value in values]
        roles = Roles(image="image", labels=("labels",))
    base = data if data.is_dir() else data.parent
    return RawTable.of_columns(
        path.stem,
        [path],
        columns,
        lambda row: f"{path}:{rows[row][0]}",
        roles=roles,
        folders=[base, base / "images", base / "data"],
    )
