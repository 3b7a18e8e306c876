"""Which columns of a table are the id, the image, the captions and the labels: as named, or guessed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.extract.readers.options import Columns

# As columns are commonly called, without case, blanks, "_" and "-".
IDS = "imageid id key sampleid uid"
IMAGES = (
    "image img picture photo imagepath imgpath path filename filepath file imagefile imagename jpg jpeg png"
)
CAPTIONS = "caption captions text texts sentence sentences description descriptions"
LABELS = "label labels tag tags class classes category categories"


@dataclass(frozen=True)
class Roles:
    """The columns of a table that hold something known."""

    id: str | None
    image: str | None
    captions: Sequence[str]
    label: str | None


def roles(path: Path, names: Sequence[str], embedded: Iterable[str], given: Columns) -> Roles:
    """What the columns of a table are; an image column that holds the images themselves comes first.

    Raises:
        UsageError: a column named is not there, or several may be meant and none is named.
    """

    def one(option: str, named: str | None, known: str, among: Sequence[str] = names) -> str | None:
        if named is not None:
            if named not in names:
                raise unknown_name(f"column of {path}", named, names)
            return named
        fitting = [name for name in among if _plain(name) in known.split()]
        if len(fitting) > 1:
            raise _ambiguous(path, fitting, option)
        return fitting[0] if fitting else None

    option = "--image-column"
    image = one(option, given.image, IMAGES, list(embedded)) or one(option, None, IMAGES)
    captions = [one("--caption-column", name, CAPTIONS) or "" for name in given.captions]
    return Roles(
        one("--id-column", given.id, IDS),
        image,
        captions or _captions(path, names),
        one("--label-column", given.label, LABELS),
    )


def _captions(path: Path, names: Sequence[str]) -> list[str]:
    """The columns called caption, or caption1, caption2 … in the order of these numbers."""
    numbered = []
    for name in names:
        word, number = re.fullmatch(r"(.*?)(\d*)", _plain(name), re.DOTALL).groups()  # type: ignore[union-attr]
        if word in CAPTIONS.split():
            numbered.append((word, int(number or 0), name))
    if len({word for word, _, _ in numbered}) > 1:
        raise _ambiguous(path, [name for _, _, name in numbered], "--caption-column")
    return [name for _, _, name in sorted(numbered)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


def _ambiguous(path: Path, names: Sequence[str], option: str) -> UsageError:
    return UsageError(
        f"{path}: the columns {' and '.join(map(repr, names))} may be meant; choose with {option}"
    )
