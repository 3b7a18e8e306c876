"""Build tables from the samples that a container's reader returns, and collect warnings."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import TEXT_MB, limit_mb
from encode_once.cache.table import Table
from encode_once.extract.readers.errors import is_too_sparse
from encode_once.extract.readers.image_lookup import ImageFinder

Labels = str | Sequence[str]  # of a row: a text to be split, or a list of names
REMEDY = "put the images in data/ or images/ next to the table, or use --images FOLDER"
NO_IMAGE = "no row has an image file"
SEPARATORS = (" ", ";", "|", ",")  # for lists of names: the first that occurs in no name


@dataclass
class SplitRows:
    """The rows of a split as read from its container; each list has an entry per row."""

    files: list[Path]  # from which the rows were read
    split: str
    where: Callable[[int], str]  # a row's position, for messages
    ids: list[str]
    captions: Sequence[Sequence[str]] | None = None  # each row's captions; None: the container has none
    labels: Sequence[Labels] | None = None
    names: list[str] | None = None  # of the image files; None: the ids may be their names
    folders: list[Path] | None = None  # that names are relative to; None: there are no names of image files
    images: list[str] | None = None  # sources of the images, if already resolved
    id_column: str = "ImageID"
    columns: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def without(self, rows: Collection[int]) -> "SplitRows":
        """The same split without these rows."""
        kept = [row for row in range(len(self.ids)) if row not in rows]

        def of(column: Sequence[Any] | None) -> Any:
            return None if column is None else [column[row] for row in kept]

        return replace(
            self,
            where=lambda row: self.where(kept[row]),
            ids=of(self.ids),
            captions=of(self.captions),
            labels=of(self.labels),
            names=of(self.names),
            images=of(self.images),
            columns={name: of(cells) for name, cells in self.columns.items()},
        )

    def warn(self, problem: str, rows: list[int], consequence: str) -> None:
        """Add a warning about these rows, if there are any."""
        if rows:
            first = f"{self.where(rows[0])}, id {self.ids[rows[0]]!r}"
            self.warnings.append(f"{problem}: {len(rows)} (first: {first}); {consequence}")


def tables(
    parts: Sequence[SplitRows], label_separator: str | None, finder: ImageFinder
) -> tuple[dict[str, Table], list[str]]:
    """Return split name → table, train first, and a warning for each kind of problem.

    Args:
        label_separator: " " means any whitespace; None: inferred from the first split with labels.
        finder: where the image files are looked up.

    Raises:
        DataError: rows share an id, labels are ambiguous, or the rows have neither images nor captions.
    """
    parts = sorted(parts, key=lambda part: not part.split.startswith("train"))
    for part in parts:
        if not part.ids:
            raise DataError(f"{part.files[0]}: none of its rows can be read")
        if "\0" in part.split + part.id_column:
            raise DataError(f"{part.files[0]}: a name of a split or column contains a null byte; rename it")
        _check_ids(part)
        _check_lengths(part)
    separator = _separator(parts, label_separator)
    labels = [_split_labels(part, separator) for part in parts]
    captions = [_by_column(part) for part in parts]
    for part in parts:
        part.labels = part.captions = None  # to free memory: there may be millions of rows
    image_warnings = _find_images(parts, [any(texts[0]) for texts in captions], finder)
    result = {
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
    return result, [line for part in parts for line in part.warnings] + image_warnings


def _check_ids(part: SplitRows) -> None:
    first: dict[str, int] = {}
    for row, row_id in enumerate(part.ids):
        if not row_id.strip():
            raise DataError(f"{part.where(row)}: the row has no id; give each row an {part.id_column}")
        if first.setdefault(row_id, row) != row:
            raise DataError(
                f"{part.where(row)}: the id {row_id!r} is already used by {part.where(first[row_id])}; "
                "rename or remove one of the two rows"
            )


def _check_lengths(part: SplitRows) -> None:
    megabytes = limit_mb(TEXT_MB)
    columns: list[Iterable[Labels]] = [
        part.ids,
        part.labels or (),
        part.captions or (),
        *part.columns.values(),
    ]
    for column in columns:
        for row, texts in enumerate(column):
            longest = len(texts) if isinstance(texts, str) else max(map(len, texts), default=0)
            if longest > megabytes << 20:
                raise DataError(
                    f"{part.where(row)}: a text of {longest:,} characters, more than the limit of "
                    f"{megabytes} MB; {TEXT_MB[0]} raises it"
                )


# ---------------------------------------------------------------------------------------------- the labels


def _separator(parts: Sequence[SplitRows], user_separator: str | None) -> str:
    """The separator of labels, in texts of the data and in predictions."""
    if user_separator == "":
        raise DataError("the label separator is empty; give a character, or a space for any whitespace")
    separator = user_separator or next((used for part in parts if (used := _inferred_separator(part))), None)
    names = {
        name for part in parts for names in part.labels or () if not isinstance(names, str) for name in names
    }
    candidates = [separator] if separator else SEPARATORS
    for candidate in candidates:
        if not any(_contains(name, candidate) for name in names):
            return candidate
    raise DataError(
        f"{parts[0].files[0]}: labels contain {' and '.join(map(repr, candidates))}, such as "
        f"{next(name for name in names if _contains(name, candidates[0]))!r}; "
        "choose another separator with --label-separator"
    )


def _contains(name: str, separator: str) -> bool:
    return len(name.split()) > 1 if separator == " " else separator in name


def _inferred_separator(part: SplitRows) -> str | None:
    """The separator in the split's labels; None if no labels are texts."""
    texts = [(row, cell) for row, cell in enumerate(part.labels or ()) if isinstance(cell, str)]
    rows_with = {separator: [row for row, cell in texts if separator in cell] for separator in "|;"}
    if rows_with["|"] and rows_with[";"]:
        bar, semicolon = (part.where(rows_with[separator][0]) for separator in "|;")
        raise DataError(
            f"{bar}: the labels contain '|', but ';' at {semicolon}; "
            "choose the separator with --label-separator"
        )
    return next((separator for separator, rows in rows_with.items() if rows), " " if texts else None)


def _split_labels(part: SplitRows, separator: str) -> list[tuple[str, ...]] | None:
    if part.labels is None:
        return None
    split_at = None if separator == " " else separator  # None: any whitespace
    labels = []
    for cell in part.labels:
        names = (name.strip() for name in (cell.split(split_at) if isinstance(cell, str) else cell))
        labels.append(tuple(dict.fromkeys(name for name in names if name)))
    unlabelled = [row for row, names in enumerate(labels) if not names]
    part.warn("rows without a label", unlabelled, "they are kept as negatives of every class")
    return labels


# -------------------------------------------------------------------------------- the captions, the images


def _by_column(part: SplitRows) -> list[list[str]]:
    """The first caption of every row, the second caption of every row, …; blank captions are ignored."""
    if part.captions is None:
        return [[""] * len(part.ids)]
    rows = [tuple(text for text in captions if text.strip()) for captions in part.captions]
    blank = [row for row, captions in enumerate(rows) if not captions]
    part.warn("rows with an empty caption", blank, "they are kept without a caption")
    columns = max(1, *map(len, rows)) if rows else 1
    if is_too_sparse(len(rows), columns, sum(map(len, rows))):
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        raise DataError(
            f"{part.where(longest)}: {columns:,} captions, where other rows have few; remove some"
        )
    return [[row[i] if i < len(row) else "" for row in rows] for i in range(columns)]


def _find_images(parts: Sequence[SplitRows], has_captions: Sequence[bool], finder: ImageFinder) -> list[str]:
    """Set the images of the samples; return warnings about the folders.

    Raises:
        DataError: no split has images, and one has no captions or the user names the folder of the images.
    """
    problems = [problem for part in parts if (problem := _find_images_of(part, finder))]
    without = [part for part in parts if not any(part.images or ())]
    if len(without) == len(parts) and (problems or not all(has_captions)):
        if not problems:
            raise DataError(f"{parts[0].files[0]}: has neither captions nor images; {REMEDY}")
        if finder.is_chosen or not all(has_captions):
            raise DataError(problems[0])
    for part, captioned in zip(parts, has_captions, strict=True):
        if part in without and not captioned:
            part.warnings.append(f"{part.files[0]}: has neither captions nor images; {REMEDY}")
    return problems + finder.unused()


def _find_images_of(part: SplitRows, finder: ImageFinder) -> str:
    """Set the images of a split; if its rows name images and none is there, say what is there instead."""
    if part.images is not None:
        missing = [row for row, source in enumerate(part.images) if not source]
        part.warn("rows without an image", missing, "they are kept without one")
        return ""
    if part.folders is None:
        return ""
    names = part.names or part.ids
    images = finder.find(names, part.split, part.folders, part.where)
    for difference, guesses in images.guesses.items():
        row, guess = guesses[0]
        example = f"first: {part.where(row)}, {names[row]!r} is {guess.shown!r}"
        part.warnings.append(
            f"images found {difference}: {len(guesses)} ({example}); --images FOLDER looks only there"
        )
    named = sum(map(bool, names))
    if len(images.missing) < named:
        part.images = images.paths
        if images.missing:
            part.warn(
                "rows without an image file", images.missing, finder.missing_text(names, images, part.split)
            )
        return ""
    if not named or not (part.names or finder.is_chosen or finder.first_files(part.split)):
        return ""  # the ids are no names of images
    return f"{part.where(0)}: {NO_IMAGE}: {finder.missing_text(names, images, part.split)}"


@dataclass(frozen=True)
class BadCell:
    """A cell whose value its column does not allow."""

    problem: str


def text_of(cell: object) -> str:
    """A cell as text: "" for None or NaN, "1" for 1.0 (integer columns with gaps contain floats).

    Raises:
        DataError: it is a list, an object or bytes, or a `BadCell`; the message is the end of a sentence.
    """
    if isinstance(cell, BadCell):
        raise DataError(cell.problem)
    if isinstance(cell, list | tuple | dict | bytes):
        raise DataError(f"has {brief(repr(cell))}, where a text or a number is expected")
    if cell is None or cell != cell:  # NaN
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def labels_of(cell: object) -> Labels:
    """A cell of labels: a text (possibly of several labels), a list, or a number."""
    if isinstance(cell, str):
        return cell
    cells: Iterable[object] = cell if isinstance(cell, list | tuple) else [cell]
    return tuple(sys.intern(text_of(name)) for name in cells)


def captions_of(cell: object) -> tuple[str, ...]:
    """A cell of captions: a text or a list of texts."""
    return tuple(map(text_of, cell if isinstance(cell, list | tuple) else [cell]))
