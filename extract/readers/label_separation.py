"""Separate the names in the label cells of all splits, and report by what."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.terminal import short_list
from encode_once.extract.readers import label_names, separators
from encode_once.extract.readers.label_notation import EVERY, Labels
from encode_once.extract.readers.one_hot import BLANK
from encode_once.extract.readers.separators import Separator
from encode_once.extract.readers.split_rows import SplitRows

Names = list[tuple[str, ...]]  # of each row

SEPARATORS = (" ", ";", "|", ",")  # for lists of names: the first that occurs in no name


def separate_labels(
    parts: Sequence[SplitRows], user_separator: str | None, marks: Sequence[str] = ()
) -> tuple[list[Names | None], list[Names], str]:
    """The labels and the unknown labels of each split, and the separator with which predictions are written.

    marks: of unknown labels, see `ReadOptions`.

    Raises:
        DataError: the user's separator is empty, or names contain all possible separators.
    """
    if user_separator == "":
        raise DataError("the label separator is empty; give a character, or a space for any whitespace")
    counts = [label_cells(part) for part in parts]
    if user_separator:
        shared = separators.chosen(user_separator)
        of_part = [shared] * len(parts)
    else:
        shared, of_part = separators.decide_each(counts)
        for part, separator, of_cells in zip(parts, of_part, counts, strict=True):
            if of_cells:
                report_separator(part, separator, shared, of_cells)
    separated = [split_labels(part, separator, marks) for part, separator in zip(parts, of_part, strict=True)]
    labels, unknown = [names for names, _ in separated], [names for _, names in separated]
    names = {name for rows in labels for names_of_row in rows or () for name in names_of_row}
    for rows, unknown_of_rows in separated:
        unknown_of_rows[:] = expanded(unknown_of_rows, rows or [], sorted(names))
    if labelled := [part for part in parts if part.labels is not None]:
        names_unknown = {name for rows in unknown for names_of_row in rows for name in names_of_row}
        labelled[0].warnings += doubts(labelled[0].files[0], names, names_unknown)
    written = user_separator or (shared.text if any(counts) else None)
    return labels, unknown, separator_to_write(parts[0].files[0], names, written, user_separator)


def doubts(path: Path, names: set[str], unknown: set[str]) -> list[str]:
    """Warnings about the names of all labels of a file, and about those that are unknown in some rows."""
    lines = [f"{path}: {doubt}" for doubt in label_names.doubts(names)]
    if never := sorted(unknown - names):
        lines.append(
            f"{path}: labels that are unknown in some rows and present in none, and so no classes: "
            f"{short_list(never)}"
        )
    return lines


def separator_to_write(path: Path, names: set[str], written: str | None, user_separator: str | None) -> str:
    """The separator with which predictions of these names are written.

    written: that of the data, if it has one.

    Raises:
        DataError: names contain all possible separators.
    """
    candidates = [written] if written else SEPARATORS
    usable = separators.usable(names, candidates)
    if usable is None and not user_separator:
        usable = separators.usable(names, SEPARATORS)
    if usable is None:
        shown = next(name for name in names if separators.contains(name, candidates[0]))
        raise DataError(
            f"{path}: labels contain {' and '.join(map(repr, candidates))}, such as {shown!r}; "
            "choose another separator with --label-separator"
        )
    return usable


def label_cells(part: SplitRows) -> Counter[str]:
    """Cell of a split that may hold several names → number of rows."""
    return Counter(
        cell
        for cells in chain(part.labels or (), part.unknown or ())
        for cell in cells
        if isinstance(cell, str) and cell.strip()
    )


def split_labels(part: SplitRows, separator: Separator, marks: Sequence[str]) -> tuple[Names | None, Names]:
    """The labels of the rows, and those that are unknown: none at all if no row has such."""
    if part.labels is None:
        return None, []
    labels, unknown = _split_cells(part, part.labels, separator), []
    if part.unknown is not None:
        unknown = _split_cells(part, part.unknown, separator)
    if {*marks} - {BLANK} and not part.choice.one_hot:
        labels, unknown = _split_marked(labels, unknown or [()] * len(labels), marks)
    if not any(unknown):
        unknown = []
    both = [row for row, names in enumerate(unknown) if not set(names).isdisjoint(labels[row])]
    part.warn("rows that have a label and also name it as unknown", both, "they have it")
    for row in both:
        unknown[row] = tuple(name for name in unknown[row] if name not in labels[row])
    unlabelled = [row for row, names in enumerate(labels) if not names and not (unknown and unknown[row])]
    part.warn("rows without a label", unlabelled, "they are kept as negatives of every class")
    return labels, unknown


def _split_marked(labels: Names, unknown: Names, marks: Sequence[str]) -> tuple[Names, Names]:
    """The labels without those that are marked, which are added to the unknown ones.

    `?dog` is one if `?` is a mark; `?` alone is `EVERY`. A mark that ends in a letter or digit, such as NA,
    precedes no name: it may be the beginning of one.
    """
    whole = {*marks} - {BLANK}
    prefixes = tuple(sorted((mark for mark in whole if not mark[-1].isalnum()), key=len, reverse=True))

    def marked(name: str) -> str:
        """The name of the label that is unknown; "" for one that is not marked."""
        if name in whole:
            return EVERY[0]
        prefix = next(filter(name.startswith, prefixes), None)
        return name.removeprefix(prefix).strip() if prefix else ""

    of_name = {name: marked(name) for of_row in labels for name in of_row}
    return (
        [tuple(name for name in of_row if not of_name[name]) for of_row in labels],
        [
            (*names, *(of_name[name] for name in of_row if of_name[name]))
            for of_row, names in zip(labels, unknown, strict=True)
        ],
    )


def expanded(
    unknown: Iterable[tuple[str, ...]], labels: Iterable[tuple[str, ...]], classes: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """The unknown labels of rows with `EVERY` replaced by the classes that a row has no label of."""
    equal: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal ones are in memory once
    for names, of_row in zip(unknown, labels, strict=False):
        if EVERY[0] not in names:
            yield names
            continue
        others = (name for name in names if name not in EVERY)
        all_names = tuple(dict.fromkeys([*others, *(name for name in classes if name not in of_row)]))
        yield equal.setdefault(all_names, all_names)


def _split_cells(part: SplitRows, cells_of_rows: Sequence[tuple[Labels, ...]], separator: Separator) -> Names:
    labels: Names = []
    odd: list[int] = []
    split: dict[str, tuple[tuple[str, ...], bool]] = {}  # cell → its names, and whether it is odd
    equal: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal ones are in memory once
    for row, cells in enumerate(cells_of_rows):
        if len(cells) == 1 and isinstance(cells[0], tuple):
            labels.append(cells[0])
            continue
        names: list[str] = []
        for cell in cells:
            if not isinstance(cell, str):
                names += cell
            elif cell.strip():
                if cell not in split:
                    split[cell] = separator.split(cell)
                of_cell, is_odd = split[cell]
                names += of_cell
                odd += [row] if is_odd else []
        distinct = tuple(dict.fromkeys(names))
        labels.append(equal.setdefault(distinct, distinct))
    part.warn(
        f"cells written unlike the others, which are {separator.shown}",
        odd,
        "their names are known, so they are split",
    )
    return labels


def report_separator(
    part: SplitRows, separator: Separator, shared: Separator, counts: Mapping[str, int]
) -> None:
    """Note the separator of a table with an example; warn if it is doubtful or not that of the others."""
    if separator.text is None:
        note = separator.reason
        if blank := next((cell for cell in counts if len(cell.split()) > 1), None):
            note += f", such as {blank[:60]!r}"
    else:
        several = (cell for cell in counts if len(separators.parts_of(cell, separator.text)) > 1)
        example = next(several, next(iter(counts)))
        names = ", ".join(separator.split(example)[0])
        note = f"{separator.shown} ({separator.reason}): {example[:60]!r} is {names[:80]}"
    part.notes.setdefault("labels", []).append(note)
    if separator.text != shared.text:
        part.warnings.append(
            f"{part.files[0]}: labels are {separator.shown}, and those of the other tables {shared.shown}; "
            "each is read so; --label-separator sets one for all"
        )
    if separator.doubt:
        part.warnings.append(
            f"{part.files[0]}: labels are read as {separator.shown}, but {separator.doubt}; if so, use "
            "--label-separator"
        )
