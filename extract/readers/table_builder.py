"""Build tables from the rows of splits: ids are checked, labels separated, and images found."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.input_files import TEXT_MB, limit_mb
from encode_once.cache.table import Table
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.image_lookup import ImageFinder
from encode_once.extract.readers.label_separation import separate_labels, split_labels
from encode_once.extract.readers.limits import is_too_sparse
from encode_once.extract.readers.separators import Separator
from encode_once.extract.readers.split_rows import SplitRows

NO_IMAGE = "no row has an image file"
WITHOUT_FILE = "rows without an image file"
REMEDY = "put the images in data/ or images/ next to the table, or use --images FOLDER"


def build_tables(
    parts: Sequence[SplitRows],
    label_separator: str | None,
    finder: ImageFinder,
    *,
    needs_content: bool = True,
    marks: Sequence[str] = (),
) -> tuple[list[Table], list[str]]:
    """The table of each split, in the order of the parts, and warnings about images.

    Other warnings, and notes, are added to the parts.

    Args:
        label_separator: " " means any whitespace; None: inferred from the labels of all splits.
        finder: where the image files are looked up.
        marks: of unknown labels, see `ReadOptions`.
        needs_content: whether it is an error if there are no images or captions.

    Raises:
        DataError: rows share an id, no separator can write the labels, or there are no images or captions.
    """
    for part in parts:
        if not part.ids:
            raise nothing_readable(part.files[0])
        _check(part)
    labels, unknown, separator = separate_labels(parts, label_separator, marks)
    captions = [_by_column(part) for part in parts]
    for part in parts:
        part.labels = part.unknown = part.captions = None  # to free memory: there may be millions of rows
    has_captions = [any(texts[0]) or not needs_content for texts in captions]
    image_warnings = _find_images(parts, has_captions, finder)
    result = [
        _table(part, names, unknown_names, texts, separator)
        for part, names, unknown_names, texts in zip(parts, labels, unknown, captions, strict=True)
    ]
    return result, image_warnings


def build_piece(
    part: SplitRows, separator: Separator, finder: ImageFinder, marks: Sequence[str] = ()
) -> tuple[Table, str]:
    """The table of a piece of a split, and a warning about its images; "" if there is none.

    `EVERY` still stands for all classes among the unknown labels. As in `build_tables` otherwise.
    """
    _check(part)
    names, unknown_names = split_labels(part, separator, marks)
    texts = _by_column(part)
    problem = _find_images_of(part, any(texts[0]), finder, is_piece=True)
    return _table(part, names, unknown_names, texts, ""), problem


def nothing_readable(path: Path) -> DataError:
    """The error for a table of which no row can be read."""
    return DataError(f"{path}: none of its rows can be read")


def _table(
    part: SplitRows,
    labels: Sequence[tuple[str, ...]] | None,
    unknown: Sequence[tuple[str, ...]],
    captions: Sequence[Sequence[str]],
    separator: str,
) -> Table:
    return Table(
        source=str(part.files[0].resolve()),
        ids=part.ids,
        images=part.images or [""] * len(part.ids),
        captions=captions[0],
        labels=labels,
        id_column=part.id_column,
        label_separator=separator,
        columns={**part.columns},
        split=part.split,
        more_sources=[str(path.resolve()) for path in part.files[1:]],
        more_captions=[*captions[1:]],
        unknown=unknown,
    )


def _check(part: SplitRows) -> None:
    if "\0" in part.split + part.id_column:
        raise DataError(f"{part.files[0]}: a name of a split or column contains a null byte; rename it")
    _check_ids(part)
    _check_lengths(part)


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
    """Raise if a text is longer than the limit."""
    megabytes = limit_mb(TEXT_MB)
    captions = chain.from_iterable(part.captions or ())
    labels = (cell for entries in part.labels or () for cell in entries if isinstance(cell, str))
    if max(map(len, chain(part.ids, captions, labels, *part.columns.values())), default=0) <= megabytes << 20:
        return
    entries = chain(
        enumerate(zip(part.ids, strict=True)),
        enumerate(part.captions or ()),
        enumerate(part.labels or ()),
        *(enumerate(zip(cells, strict=True)) for cells in part.columns.values()),
    )
    for row, texts in entries:
        longest = max(map(len, texts), default=0)
        if longest > megabytes << 20:
            raise DataError(
                f"{part.where(row)}: a text of {longest:,} characters, more than the limit of "
                f"{megabytes} MB; {TEXT_MB[0]} raises it"
            )


# -------------------------------------------------------------------------------- the captions, the images


def _by_column(part: SplitRows) -> list[list[str]]:
    """The first caption of every row, the second caption of every row, …; blank captions are ignored."""
    if part.captions is None:
        return [[""] * len(part.ids)]
    rows = [
        captions if all(map(str.strip, captions)) else [text for text in captions if text.strip()]
        for captions in part.captions
    ]
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
    problems = [
        problem
        for part, captioned in zip(parts, has_captions, strict=True)
        if (problem := _find_images_of(part, captioned, finder))
    ]
    without = [part for part in parts if not any(part.images or ())]
    if len(without) == len(parts) and (problems or not all(has_captions)):
        if not problems:
            raise DataError(nothing_to_encode(parts[0]))
        if finder.is_chosen or not all(has_captions):
            raise DataError(problems[0])
    for part, captioned in zip(parts, has_captions, strict=True):
        if part in without and not captioned:
            part.warnings.append(nothing_to_encode(part))
    return problems + finder.unused()


def nothing_to_encode(part: SplitRows) -> str:
    """What to do about a split without images and captions."""
    images, others = ", ".join(part.choice.image_columns), ", ".join(part.columns)
    if images and part.choice.roles.image is None:
        return (
            f"{part.files[0]}: has no captions, and no column of images was chosen; --image-column may name "
            f"{images[:80]}"
        )
    columns = f"; --caption-column or --image-column may name {others[:80]}" if others else ""
    return f"{part.files[0]}: has neither captions nor images; {REMEDY}{columns}"


def _find_images_of(part: SplitRows, captioned: bool, finder: ImageFinder, *, is_piece: bool = False) -> str:
    """Set the images of a split; if its rows name images and none is there, say what is there instead.

    is_piece: whether other pieces may have images, so that missing ones are kept.
    """
    if part.images is not None:
        missing = [row for row, source in enumerate(part.images) if not source]
        part.warn("rows without an image", missing, "they are kept without one")
        part.without_image = len(missing)
        return ""
    if part.folders is None:
        return ""
    names = part.image_names or part.ids
    says_images = part.image_names or Path(names[0]).suffix.lower() in IMAGE_SUFFIXES
    has_images = finder.has_images if captioned else lambda split, _: bool(finder.first_files(split))
    if not (says_images or finder.is_chosen or has_images(part.split, part.folders)):
        return ""  # the ids need not be names of images
    images = finder.find(names, part.split, part.folders, part.where)
    for difference, guesses in images.guesses.items():
        row, guess = guesses[0]
        example = f"first: {part.where(row)}, {names[row]!r} is {guess.shown!r}"
        part.warnings.append(
            f"images found {difference}: {len(guesses)} ({example}); --images FOLDER looks only there"
        )
    named = sum(map(bool, names))
    if len(images.missing) < named or (is_piece and named):
        part.images, part.without_image = images.paths, len(names) - named + len(images.missing)
        if images.missing:
            part.warn(WITHOUT_FILE, images.missing, finder.missing_text(names, images, part.split))
    if len(images.missing) < named or not named:
        return ""
    return f"{part.where(0)}: {NO_IMAGE}: {finder.missing_text(names, images, part.split)}"
