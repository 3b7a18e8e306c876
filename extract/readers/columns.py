"""The user's options for reading, and which columns hold the ids, images, captions and labels."""

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError, unknown_name
from encode_once.extract.readers.errors import BadRows
from encode_once.extract.readers.image_lookup import ImageFolder
from encode_once.extract.readers.raw import RawTable, Roles

# Common names of columns, in lower case and without blanks, "_" and "-".
IDS = "imageid id key sampleid uid"
IMAGES = (
    "image img picture photo imagepath imgpath path filename filepath file imagefile imagename jpg jpeg png"
)
CAPTIONS = "caption captions text texts sentence sentences description descriptions"
LABELS = "label labels tag tags class classes category categories"


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; those that are not set are guessed."""

    id: str | None = None
    image: str | None = None
    captions: tuple[str, ...] = ()
    label: str | None = None

    @property
    def named(self) -> bool:
        """Whether any name is set."""
        return self != Columns()


@dataclass(frozen=True)
class ReadOptions:
    """The user's options for reading.

    `images` are the folders that image names are relative to; by default they are searched next to the table.
    `label_separator` is what separates labels in a text; by default it is inferred from the texts.
    `bad_rows` decides what happens to rows that cannot be read.
    """

    columns: Columns = field(default_factory=Columns)
    images: tuple[ImageFolder, ...] = ()
    label_separator: str | None = None
    bad_rows: BadRows = field(default_factory=BadRows)


def roles(table: RawTable, columns: Columns) -> Roles:
    """Find the columns by the user's names, by what the format says, or by common names.

    Columns that hold the images themselves take precedence over those that name image files.

    Raises:
        UsageError: the table has no column of the user's name, or several have a common name.
        DataError: a column of texts holds bytes.
    """

    path, names, embedded, fixed = table.files[0], table.names, table.sources, table.roles
    free = [name for name in names if name not in fixed.used]

    def chosen(name: str) -> str:
        if name not in names:
            raise unknown_name(f"column of {path}", name, names)
        return name

    def guessed(option: str, common: str, candidates: Iterable[str] = free) -> str | None:
        matches = [name for name in candidates if _plain(name) in common.split()]
        if len(matches) > 1:
            raise _ambiguous(path, matches, option)
        return matches[0] if matches else None

    def column(option: str, name: str | None, of_format: str | None, common: str) -> str | None:
        return chosen(name) if name is not None else of_format or guessed(option, common)

    option = "--image-column"
    embedded_image = fixed.image or guessed(option, IMAGES, embedded) if columns.image is None else None
    label = column("--label-column", columns.label, next(iter(fixed.labels), None), LABELS)
    result = Roles(
        column("--id-column", columns.id, fixed.id, IDS),
        embedded_image or column(option, columns.image, fixed.image, IMAGES),
        tuple(map(chosen, columns.captions)) or fixed.captions or tuple(_captions(path, free)),
        (label,) if label is not None else (),
    )
    for name in (result.id, *result.labels, *result.captions):
        if name in embedded:
            raise DataError(f"{path}: the column {name!r} holds bytes or images; save it as strings")
    return result


def _captions(path: Path, names: Sequence[str]) -> list[str]:
    """The columns named caption, or caption1, caption2 … in the order of their numbers."""
    numbered = []
    for name in names:
        plain = _plain(name)
        word = plain.rstrip(string.digits)
        if word in CAPTIONS.split():
            numbered.append((word, int(plain.removeprefix(word) or 0), name))
    if len({word for word, _, _ in numbered}) > 1:
        raise _ambiguous(path, [name for _, _, name in numbered], "--caption-column")
    return [name for _, _, name in sorted(numbered)]


def is_caption(name: str) -> bool:
    """Whether a column of this name holds captions: caption, caption 2, text …"""
    return _plain(name).rstrip(string.digits) in CAPTIONS.split()


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


def _ambiguous(path: Path, names: Sequence[str], option: str) -> UsageError:
    return UsageError(
        f"{path}: the columns {' and '.join(map(repr, names))} have equivalent names; choose with {option}"
    )
