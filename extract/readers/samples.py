"""What every container's reader ends in: samples become tables, and what is odd about them is counted."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.image_lookup import Images

Labels = str | Sequence[str]  # as one text, to be split, or name by name
REMEDY = "put the images in data/ or images/ beside the table, or say --images FOLDER"
MARKS = (" ", ";", "|", ",")  # between names that a container gives one by one: the first that is in none


@dataclass
class Samples:
    """The rows of one split as its container gives them; each list has one entry a row."""

    files: list[Path]  # the rows were read from these
    split: str
    where: Callable[[int], str]  # where a row stands, for messages
    ids: list[str]
    captions: Sequence[Sequence[str]] | None = None  # each row's; None: the container knows no captions
    labels: Sequence[Labels] | None = None
    names: list[str] | None = None  # of image files in `root`; None: the ids name them
    root: Path | None = None  # None: there is no folder of images
    outside: bool = False  # whether names may lead out of `root`
    images: list[str] | None = None  # sources of the images, where they need not be looked for
    id_column: str = "ImageID"
    columns: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def count(self, what: str, rows: list[int], then: str) -> None:
        """Add the warning that these rows are odd, if there are any."""
        if rows:
            first = f"{self.where(rows[0])}, id {self.ids[rows[0]]!r}"
            self.warnings.append(f"{what}: {len(rows)} (first: {first}); {then}")


def tables(parts: Sequence[Samples], label_separator: str | None) -> tuple[dict[str, Table], list[str]]:
    """The tables of all splits, by name, train first, and a line for each kind of oddity.

    `label_separator` is decided by the first split with labels where it is None; " " stands for any
    whitespace. Raises `DataError` where rows share an id, labels can be read in two ways, or none of the
    rows of a folder has an image there.
    """
    parts = sorted(parts, key=lambda part: not part.split.startswith("train"))
    for part in parts:
        _check_ids(part)
    separator = _separator(parts, label_separator)
    labels = [_split_labels(part, separator) for part in parts]
    captions = [_by_column(part) for part in parts]
    for part in parts:
        part.labels = part.captions = None  # of a million rows, not to be held twice
    unnamed = _find_images(parts)
    for part, texts in zip(parts, captions, strict=True):
        if part.images is None and not any(texts[0]):
            raise DataError(f"{part.files[0]}: there are neither captions nor an image folder; {REMEDY}")
    found = {
        part.split: Table(
            source=str(part.files[0].resolve()),
            ids=part.ids,
            images=part.images or [""] * len(part.ids),
            captions=texts[0],
            labels=names,
            id_column=part.id_column,
            label_separator=separator,
            columns=part.columns,
            split=part.split,
            more_sources=[str(path.resolve()) for path in part.files[1:]],
            more_captions=texts[1:],
        )
        for part, names, texts in zip(parts, labels, captions, strict=True)
    }
    return found, [line for part in parts for line in part.warnings] + unnamed


def _check_ids(part: Samples) -> None:
    first: dict[str, int] = {}
    for row, row_id in enumerate(part.ids):
        if not row_id.strip():
            raise DataError(f"{part.where(row)}: the row has no id; give each row an {part.id_column}")
        if first.setdefault(row_id, row) != row:
            raise DataError(
                f"{part.where(row)}: the id {row_id!r} is already that of {part.where(first[row_id])}; "
                "rename or remove one of the two rows"
            )


# ---------------------------------------------------------------------------------------------- the labels


def _separator(parts: Sequence[Samples], given: str | None) -> str:
    """What separates labels written as one text, and those of predictions."""
    if given == "":
        raise DataError("the label separator is empty; give a character, or a space for any whitespace")
    separator = given or next((mark for part in parts if (mark := _mark_of_texts(part))), None)
    names = {
        name for part in parts for names in part.labels or () if not isinstance(names, str) for name in names
    }
    marks = [separator] if separator else MARKS
    free = next((mark for mark in marks if not any(_holds(name, mark) for name in names)), None)
    if free is None:
        raise DataError(
            f"{parts[0].files[0]}: labels hold {' and '.join(map(repr, marks))}, such as "
            f"{next(name for name in names if _holds(name, marks[0]))!r}; "
            "say with --label-separator what is to stand between labels"
        )
    return free


def _holds(name: str, mark: str) -> bool:
    return len(name.split()) > 1 if mark == " " else mark in name


def _mark_of_texts(part: Samples) -> str | None:
    """What the split's labels are separated by, if any are written as one text."""
    texts = [(row, cell) for row, cell in enumerate(part.labels or ()) if isinstance(cell, str)]
    used = {mark: [row for row, cell in texts if mark in cell] for mark in "|;"}
    if used["|"] and used[";"]:
        raise DataError(
            f"{part.where(used['|'][0])}: the labels hold '|', and ';' at {part.where(used[';'][0])}; "
            "say with --label-separator which of the two separates them"
        )
    return next((mark for mark, rows in used.items() if rows), " " if texts else None)


def _split_labels(part: Samples, separator: str) -> list[tuple[str, ...]] | None:
    if part.labels is None:
        return None
    blanks = None if separator == " " else separator
    labels = []
    for cell in part.labels:
        names = (name.strip() for name in (cell.split(blanks) if isinstance(cell, str) else cell))
        labels.append(tuple(dict.fromkeys(name for name in names if name)))
    bare = [row for row, names in enumerate(labels) if not names]
    part.count("rows without a label", bare, "they are kept as negatives of every class")
    return labels


# -------------------------------------------------------------------------------- the captions, the images


def _by_column(part: Samples) -> list[list[str]]:
    """The first captions of all rows, the second ones, and so on; blank ones are none."""
    if part.captions is None:
        return [[""] * len(part.ids)]
    rows = [tuple(text for text in captions if text.strip()) for captions in part.captions]
    blank = [row for row, captions in enumerate(rows) if not captions]
    part.count("rows with an empty caption", blank, "they are kept without one")
    columns = max(1, *map(len, rows)) if rows else 1
    return [[row[i] if i < len(row) else "" for row in rows] for i in range(columns)]


def _find_images(parts: Sequence[Samples]) -> list[str]:
    """Fills in the samples' images; the warnings about the folders themselves."""
    warnings = []
    for root in dict.fromkeys(part.root for part in parts if part.images is None and part.root):
        images = Images(root)
        mine = [part for part in parts if part.root == root]
        for part in mine:
            names = part.names or part.ids
            part.images = [
                images.find(name, part.where, row, part.outside) if name else ""
                for row, name in enumerate(names)
            ]
            missing = [row for row, path in enumerate(part.images) if path not in images.found]
            part.count("rows without an image file", missing, f"their images were expected in {root}")
        warnings += images.unnamed(f"{mine[0].where(0)}: no row", (mine[0].names or mine[0].ids)[0])
    return warnings


def text_of(cell: object) -> str:
    """A cell as text: nothing for none, and 1 for the 1.0 of a column of integers with gaps."""
    if cell is None or cell != cell:  # NaN stands for none where numbers do
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def labels_of(cell: object) -> Labels:
    """A cell of labels: a text that may hold several, or a list, or one number."""
    if isinstance(cell, str):
        return cell
    cells: Iterable[object] = cell if isinstance(cell, list | tuple) else [cell]
    return tuple(sys.intern(text_of(name)) for name in cells)


def captions_of(cell: object) -> tuple[str, ...]:
    """A cell of captions: a text, or a list of them."""
    return tuple(map(text_of, cell if isinstance(cell, list | tuple) else [cell]))
