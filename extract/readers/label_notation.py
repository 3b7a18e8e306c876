"""Read the labels in a column of cells, however they are written.

A cell may be a list, tuple or set, or a text that Python, JSON, NumPy or Label Studio wrote for one; an
object of flags; a vector of 0 and 1, whose classes must be named; a number; or a text of one or several names
(see `separators`). The column is looked at as a whole: how most of its cells are written decides.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import TEXT_MB
from encode_once.extract.readers.cells import BadCell, text_of
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.label_values import is_vector, names_in, strings_in, unknown_in
from encode_once.extract.readers.literals import is_shortened, literal, names_without_brackets
from encode_once.extract.readers.missing import EMPTY_LISTS, is_missing
from encode_once.extract.readers.one_hot import BLANK, Uncertain
from encode_once.extract.readers.raw import Cells

Labels = str | tuple[str, ...]  # of a row: a text that may hold several names, or the names
EVERY = ("\0",)  # among a row's unknown labels: every class that it has no label of
MOSTLY = 0.5  # share of the cells that are written as lists, from which on the column is one of lists
WHOLE = re.compile(r"\s*-?\d+\.0\s*")  # what pandas makes of whole numbers in a column with gaps
BITS = 3  # characters of a text such as 011, from which on it is a vector


@dataclass
class LabelColumn:
    """The labels in a column, (n,), and how they were written."""

    labels: list[Labels]
    notation: str
    example: str = ""  # a cell, if the notation is one of texts
    missing: int = 0  # cells with a word for a missing value
    odd: list[int] = field(default_factory=list)  # rows whose cell is written otherwise
    oddity: str = ""  # how these are written
    bad: dict[int, str] = field(default_factory=dict)  # row → what is wrong with its cell
    unknown: list[tuple[str, ...]] = field(default_factory=list)  # (n,) names that are unknown, if any are
    uncertain: list[int] = field(default_factory=list)  # rows of a vector with -1 where others have 0
    marked: list[int] = field(default_factory=list)  # rows whose cell is a mark of unknown labels
    marked_blank: list[int] = field(default_factory=list)  # those whose cell is blank, or nan and the like


class ClassNamesNeededError(DataError):
    """Labels are vectors of 0 and 1, and nothing says what the classes are called."""


def class_list(text: str) -> tuple[str, ...]:
    """The class names in a file, one a line or a JSON list; or those between the commas of a text.

    Raises:
        DataError: the file has no names.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # many names are too long for the name of a file
        is_file = False
    if not is_file:
        names = text.split(",")
    else:
        content = "".join(read_lines(path, TEXT_MB))
        listed = strings_in(literal(content))
        names = list(listed) if listed is not None else content.splitlines()
    classes = tuple(name.strip() for name in names if name.strip())
    if len(set(classes)) < max(len(classes), 1):
        raise DataError(f"--classes {text}: names must be there, and differ; it has {', '.join(classes[:5])}")
    return classes


def read_labels(
    cells: Cells,
    classes: Sequence[str] = (),
    keep_text: bool = False,
    uncertain: Uncertain = "unknown",
    marks: Collection[str] = (),
) -> LabelColumn:
    """Read a column of labels.

    Args:
        classes: the names of the positions, if the cells are vectors of 0 and 1.
        keep_text: whether None, nan and the like are names.
        uncertain: what -1 means in such vectors, if they have 0, too.
        marks: of unknown labels, see `ReadOptions`.

    Raises:
        ClassNamesNeededError: the cells are vectors, and there are no class names.
        DataError: there are class names, and the cells are no vectors of that length.
    """
    missing = 0
    marked: list[int] = []
    marked_blank: list[int] = []
    values: list[Any] = []
    for row, cell in enumerate(cells):
        gone = _is_blank(cell) or (not keep_text and is_missing(cell))
        is_mark = bool(marks) and _is_mark(cell, gone, marks)
        if is_mark:
            (marked_blank if is_missing(cell) else marked).append(row)
        missing += gone and not (is_mark or _is_blank(cell))
        values.append(None if gone or is_mark else cell)
    column = _column_of(values, classes, keep_text, uncertain, marks)
    column.missing += missing
    column.marked, column.marked_blank = marked, marked_blank
    return column


def _is_blank(cell: object) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _is_mark(cell: object, gone: bool, marks: Collection[str]) -> bool:
    """Whether a cell, gone if it holds no label, is a mark; an empty list is none."""
    if isinstance(cell, list | tuple | dict):
        return False
    text = str(cell).strip()
    return text in marks or (gone and BLANK in marks and text not in EMPTY_LISTS)


def _column_of(
    values: list[Any], classes: Sequence[str], keep_text: bool, uncertain: Uncertain, marks: Collection[str]
) -> LabelColumn:
    """The labels in cells, of which None holds none; see `read_labels`."""
    texts = Counter(cell for cell in values if isinstance(cell, str))
    if shortened := next(filter(is_shortened, texts), None):
        raise DataError(
            f"labels were shortened when they were written, such as {brief(shortened)}; write all of them, "
            "as with ' '.join(map(str, row))"
        )
    vectors = _vectors(values, texts)
    if vectors or (classes and any(value is not None for value in values)):
        return _multi_hot(vectors, classes, len(values), uncertain)
    if texts and all(map(WHOLE.fullmatch, texts)):
        column = _of_cells([value.partition(".")[0] if isinstance(value, str) else value for value in values])
        column.notation = "numbers such as 1.0 are read as 1"
        return column
    literals = names_without_brackets(texts) or {text: literal(text) for text in texts}
    listed = sum(n for text, n in texts.items() if literals[text] is not None)
    if listed and listed >= MOSTLY * sum(texts.values()):
        column = _of_lists(values, literals)
    else:
        column = _of_cells(values, {text for text in texts if strings_in(literals[text]) and text[0] == "["})
    if not keep_text:
        column.missing = _drop_missing(column.labels, marks)
    unknown = [_unknown_names(literals.get(value) if isinstance(value, str) else value) for value in values]
    column.unknown = unknown if any(unknown) else []
    return column


def _unknown_names(value: Any) -> tuple[str, ...]:
    return tuple(text_of(name).strip() for name in unknown_in(value)) if isinstance(value, dict) else ()


def _drop_missing(labels: list[Labels], marks: Collection[str]) -> int:
    """Remove words for missing values, except marks, from lists of names; return how many."""
    count = 0
    for row, names in enumerate(labels):
        if isinstance(names, tuple) and any(map(is_missing, names)):
            kept = tuple(name for name in names if name in marks or not is_missing(name))
            count += len(names) - len(kept)
            labels[row] = kept
    return count


def _names(value: Any) -> tuple[str, ...]:
    """The names in a list or object.

    Raises:
        DataError: it holds something else; the message is the end of a sentence.
    """
    names = names_in(value)
    if names is None:
        raise DataError(f"has {brief(repr(value))}, where names are expected")
    return tuple(dict.fromkeys(sys.intern(text) for name in names if (text := text_of(name).strip())))


def _converted(values: list[Any], convert: Callable[[Any], Labels]) -> tuple[list[Labels], dict[int, str]]:
    labels: list[Labels] = []
    bad: dict[int, str] = {}
    equal: dict[Labels, Labels] = {}  # equal ones are in memory once
    for row, value in enumerate(values):
        try:
            converted = convert(value)
            labels.append(equal.setdefault(converted, converted))
        except DataError as error:
            bad[row] = str(error)
            labels.append(())
    return labels, bad


def _of_lists(values: list[Any], literals: dict[str, Any]) -> LabelColumn:
    """Texts that are lists; other texts are one name."""
    odd = [row for row, value in enumerate(values) if isinstance(value, str) and literals[value] is None]
    by_tool = any(isinstance(value, dict) for value in literals.values())  # writes single names as they are

    def convert(value: Any) -> Labels:
        if value is None:
            return ()
        if not isinstance(value, str):
            return _of_value(value)
        return (value.strip(),) if literals[value] is None else _names_or_text(literals[value])

    labels, bad = _converted(values, convert)
    example = max((text for text, value in literals.items() if value), key=len, default="[]")
    oddity = "cells that are no lists in a column of lists, each read as one name"
    odd = [] if by_tool else odd
    return LabelColumn(labels, "lists written as text", example, odd=odd, oddity=oddity, bad=bad)


def _names_or_text(value: Any) -> tuple[str, ...]:
    return _names(value if isinstance(value, list | dict) else [value])


def _of_value(value: Any) -> Labels:
    if isinstance(value, BadCell):
        raise DataError(value.problem)
    if isinstance(value, list | tuple | dict):
        return _names(value)
    return (sys.intern(text_of(value)),)


def _of_cells(values: list[Any], listed: Collection[str] = ()) -> LabelColumn:
    """Lists, numbers, and texts that are still to be separated; those `listed` are lists."""

    def convert(value: Any) -> Labels:
        if value is None:
            return ()
        if isinstance(value, str):
            return _names(literal(value)) if value in listed else value
        return _of_value(value)

    # Objects are names only if all of them are.
    objects = [value for value in values if isinstance(value, dict)]
    if objects and any(names_in(value) is None for value in objects):
        labels, bad = _converted(values, _not_an_object)
    else:
        labels, bad = _converted(values, convert)
    lists = any(isinstance(value, list | tuple | dict) for value in values)
    odd = [row for row, value in enumerate(values) if isinstance(value, str) and value in listed]
    oddity = "cells that are lists in a column of names, read as lists"
    return LabelColumn(labels, "lists" if lists else "", odd=odd, oddity=oddity, bad=bad)


def _not_an_object(value: Any) -> Labels:
    if isinstance(value, dict):
        raise DataError(f"has {brief(repr(value))}, where a text or a number is expected")
    return () if value is None else value if isinstance(value, str) else _of_value(value)


# ---------------------------------------------------------------------------------------- vectors of 0 and 1


def _vectors(values: list[Any], texts: Counter[str]) -> dict[int, list[Any]]:
    """Row → vector, if all cells that are not blank are vectors of one length; else none."""
    parsed = {}
    for text in texts:
        parsed[text] = _vector_of(text)
        if parsed[text] is None:
            return {}
    vectors: dict[int, list[Any]] = {}
    length = None
    for row, value in enumerate(values):
        if value is None or (isinstance(value, list | tuple) and not value):
            continue
        vector: Any = parsed[value] if isinstance(value, str) else value
        if not is_vector(vector, length):
            return {}
        length = len(vector)
        vectors[row] = vector
    bits = texts and all(text.strip().isdecimal() for text in texts)
    if bits and (length is None or length < BITS or not any(text.strip()[0] == "0" for text in texts)):
        return {}
    return vectors


def _vector_of(text: str) -> list[int] | None:
    text = text.strip()
    if text[:1] in "[(":
        value = literal(text)
        return value if is_vector(value) else None
    parts = text.replace(",", " ").replace(";", " ").replace("|", " ").split()
    if len(parts) == 1:
        parts = list(text)
    numbers = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1}
    return [numbers[p] for p in parts] if len(parts) > 1 and all(p in numbers for p in parts) else None


def _multi_hot(
    vectors: dict[int, list[Any]], classes: Sequence[str], rows: int, uncertain: Uncertain
) -> LabelColumn:
    if not vectors:
        raise DataError("--classes names the positions of vectors of 0 and 1, which the labels are not")
    length = len(next(iter(vectors.values())))
    if not classes:
        raise ClassNamesNeededError(
            f"the labels are vectors of {length} numbers, each 0 or 1: name the {length} classes in their "
            "order with --classes FILE or --classes a,b,c"
        )
    if len(classes) != length:
        raise DataError(f"--classes has {len(classes)} names, and the labels are vectors of {length} numbers")
    has_zero = any(flag == 0 and flag is not None for vector in vectors.values() for flag in vector)
    labels: list[Labels] = [()] * rows
    unknown: list[tuple[str, ...]] = [()] * rows
    counts_as = {1, -1} if has_zero and uncertain == "positive" else {1}
    for row, vector in vectors.items():
        flags = [*zip(classes, vector, strict=True)]
        labels[row] = tuple(name for name, flag in flags if flag in counts_as)
        unknown[row] = tuple(
            name
            for name, flag in flags
            if flag is None or (flag == -1 and has_zero and uncertain == "unknown")
        )
    return LabelColumn(
        labels,
        f"vectors of {length} numbers, 0 or 1",
        unknown=unknown if any(unknown) else [],
        uncertain=[row for row, vector in vectors.items() if has_zero and -1 in vector],
    )
