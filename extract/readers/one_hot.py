"""Labels in one column for each class: 1 or 0, yes or no, 1 or -1, the name of the class, ?, or blank."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from encode_once.extract.readers.missing import is_missing
from encode_once.extract.readers.raw import Cells, CodedCells

Uncertain = Literal["unknown", "positive", "negative", "missing"]
POSITIVE = {*"1 1.0 true yes y t x positive pos present checked on ✓ ✔ ☑ ✅".split()}
NEGATIVE = {*"0 0.0 false no n f negative neg absent unchecked off ✗ ✘ ☐ ❌".split()}
MINUS_ONE = {"-1", "-1.0"}
UNKNOWN = {"?"}
BLANK = "blank"  # among the marks of unknown entries: cells that are empty, or nan and the like
FLAGS = POSITIVE | NEGATIVE | MINUS_ONE | UNKNOWN
MOST_VALUES = 12  # different cells in such a column


@dataclass(frozen=True)
class OneHot:
    """The labels of each row, and how its cells were read."""

    labels: list[tuple[str, ...]]
    unknown: list[tuple[str, ...]]  # classes whose cell says that nobody knows; [] if there are no such cells
    blanks: int  # cells that are empty, and negative
    omitted: int  # how many of these are in columns that say of other rows that they are negative
    uncertain: list[int]  # rows with a cell of -1 where other cells are 0
    minus_one: str  # what -1 was read as; empty if there is none


def distinct(cells: Cells, most: int = MOST_VALUES) -> set[Any] | None:
    """The different cells; None if there are more than that, or lists."""
    if isinstance(cells, CodedCells):
        return set(cells.values) if len(cells.values) <= most else None
    values: set[Any] = set()
    for cell in cells:
        if isinstance(cell, list | dict):
            return None
        values.add(cell)
        if len(values) > most:
            return None
    return values


def _word(cell: object, name: str) -> str:
    """What a cell of the column `name` says, in lower case; "yes" for the name itself, as surveys have it."""
    word = "" if cell is None or cell != cell else str(cell).strip().casefold()
    return "yes" if word and word not in FLAGS and word == name.strip().casefold() else word


def is_binary(cells: Cells, name: str, marks: Collection[str] = ()) -> bool:
    """Whether all cells of a column say yes or no, are marked as unknown or blank, and not all are blank."""
    values = distinct(cells)
    if values is None:
        return False
    words = {word for value in values if (word := _word_of(value, name, marks))}
    return bool(words - UNKNOWN) and words <= FLAGS


def is_one_class(cells: Cells, name: str, marks: Collection[str] = ()) -> bool:
    """Whether a column has 1, and 0 or -1, and else only unknown or blank cells: no names, but one class."""
    values = distinct(cells)
    words = {_word_of(value, name, marks) for value in values or ()} - {"", *UNKNOWN}
    ones, zeros = {"1", "1.0"}, {"0", "0.0", *MINUS_ONE}
    return words <= ones | zeros and not words.isdisjoint(ones) and not words.isdisjoint(zeros)


def foreign(cells: Cells, name: str, marks: Collection[str] = ()) -> set[Any]:
    """The different cells that say neither yes nor no, are not marked as unknown, and are not blank."""
    values = set(cells.values if isinstance(cells, CodedCells) else cells)
    return {value for value in values if (word := _word_of(value, name, marks)) and word not in FLAGS}


def read_one_hot(columns: dict[str, Cells], uncertain: Uncertain, marks: Collection[str] = ()) -> OneHot:
    """The labels of columns that are binary.

    -1 is negative in a table without 0. With 0, it means uncertain, as in CheXpert, and is read as
    `uncertain` says: those rows are the caller's to leave out if they are "missing". `?` and the `marks` are
    unknown. Blank is negative, unless `BLANK` is among the marks.
    """
    words = {name: _words(cells, name, marks) for name, cells in columns.items()}
    has_zero = any(word in NEGATIVE for values, _ in words.values() for word in values)
    is_uncertain = has_zero and any(word in MINUS_ONE for values, _ in words.values() for word in values)
    counts_as = POSITIVE | MINUS_ONE if is_uncertain and uncertain == "positive" else POSITIVE
    marked = UNKNOWN | MINUS_ONE if is_uncertain and uncertain == "unknown" else UNKNOWN
    doubtful: set[int] = set()
    blanks = omitted = 0
    for values, codes in words.values():
        of_column = int(_are_in(values, codes, {""}).sum())
        blanks += of_column
        omitted += of_column if any(word in NEGATIVE for word in values) else 0
        if is_uncertain:
            doubtful.update(np.flatnonzero(_are_in(values, codes, MINUS_ONE)).tolist())
    n = len(next(iter(columns.values())))
    names = [name.strip() for name in columns]
    labels, unknown = (
        _names_of_rows(names, n, [_are_in(values, codes, flags) for values, codes in words.values()])
        for flags in (counts_as, marked)
    )
    minus_one = ""
    if any(word in MINUS_ONE for values, _ in words.values() for word in values):
        minus_one = uncertain if is_uncertain else "negative"
    return OneHot(labels, unknown if any(unknown) else [], blanks, omitted, sorted(doubtful), minus_one)


def _are_in(values: Sequence[str], codes: Any, words: Collection[str]) -> Any:
    """Which rows have one of these words, (n,)."""
    return np.array([word in words for word in values], np.bool_)[codes]


def _names_of_rows(names: Sequence[str], n: int, columns: Sequence[Any]) -> list[tuple[str, ...]]:
    """The names of the columns (n,) that are true in each of n rows."""
    at = np.concatenate([np.flatnonzero(column) for column in columns])
    number_of = np.repeat(np.arange(len(columns)), [int(column.sum()) for column in columns])
    order = np.argsort(at, kind="stable")
    ends = np.cumsum(np.bincount(at, minlength=n)).tolist()
    return _tuples([names[i] for i in number_of[order].tolist()], ends)


def _word_of(cell: object, name: str, marks: Collection[str]) -> str:
    """What a cell says: `?` if it is marked as unknown, "" for none."""
    if is_missing(cell) and BLANK in marks:
        return "?"
    if marks and str(cell).strip() in marks:
        return "?"
    return "" if is_missing(cell) else _word(cell, name)


def _words(cells: Cells, name: str, marks: Collection[str]) -> tuple[list[str], Any]:
    """The different words of a column, "" for none, and the number of each row's word, (n,)."""
    if isinstance(cells, CodedCells):
        values: Sequence[Any] = cells.values
        codes = np.frombuffer(cells.codes, np.uint8)
    else:
        of_value: dict[Any, int] = {}
        codes = np.array([of_value.setdefault(cell, len(of_value)) for cell in cells], np.intp)
        values = list(of_value)
    return [_word_of(value, name, marks) for value in values], codes


def _tuples(names: list[str], ends: list[int]) -> list[tuple[str, ...]]:
    """Consecutive names as a tuple for each row; equal tuples are one object."""
    equal: dict[tuple[str, ...], tuple[str, ...]] = {}
    labels, start = [], 0
    for end in ends:
        row = tuple(names[start:end])
        labels.append(equal.setdefault(row, row))
        start = end
    return labels
