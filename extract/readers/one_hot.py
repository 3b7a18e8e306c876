"""Labels in one column for each class: 1 or 0, yes or no, 1 or -1, the name of the class, or blank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from encode_once.extract.readers.missing import is_missing
from encode_once.extract.readers.raw import Cells, CodedCells

Uncertain = Literal["positive", "negative", "missing"]
POSITIVE = {*"1 1.0 true yes y t x positive pos present checked on ✓ ✔ ☑ ✅".split()}
NEGATIVE = {*"0 0.0 false no n f negative neg absent unchecked off ✗ ✘ ☐ ❌".split()}
MINUS_ONE = {"-1", "-1.0"}
FLAGS = POSITIVE | NEGATIVE | MINUS_ONE
MOST_VALUES = 12  # different cells in such a column


@dataclass(frozen=True)
class OneHot:
    """The labels of each row, and how its cells were read."""

    labels: list[tuple[str, ...]]
    blanks: int  # cells that are empty; they are negative
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


def is_binary(cells: Cells, name: str) -> bool:
    """Whether all cells of a column say yes or no, or are blank, and not all are blank."""
    values = distinct(cells)
    if values is None:
        return False
    words = {_word(value, name) for value in values if not is_missing(value)}
    return bool(words) and words <= FLAGS


def foreign(cells: Cells, name: str) -> set[Any]:
    """The different cells that say neither yes nor no, and are not blank."""
    values = set(cells.values if isinstance(cells, CodedCells) else cells)
    return {value for value in values if not is_missing(value) and _word(value, name) not in FLAGS}


def read_one_hot(columns: dict[str, Cells], uncertain: Uncertain) -> OneHot:
    """The labels of columns that are binary.

    -1 is negative in a table without 0. With 0, it means uncertain, as in CheXpert, and is read as
    `uncertain` says: those rows are the caller's to leave out if they are "missing". Blank is negative.
    """
    words = {name: _words(cells, name) for name, cells in columns.items()}
    has_zero = any(word in NEGATIVE for values, _ in words.values() for word in values)
    is_uncertain = has_zero and any(word in MINUS_ONE for values, _ in words.values() for word in values)
    counts_as = POSITIVE | MINUS_ONE if is_uncertain and uncertain == "positive" else POSITIVE
    rows, numbers = [], []
    doubtful: set[int] = set()
    blanks = 0
    for number, (values, codes) in enumerate(words.values()):
        positive = np.array([word in counts_as for word in values], np.bool_)[codes]
        at = np.flatnonzero(positive)
        rows.append(at)
        numbers.append(np.full(len(at), number))
        blanks += int(np.array([not word for word in values], np.bool_)[codes].sum())
        if is_uncertain:
            doubtful.update(
                np.flatnonzero(np.array([w in MINUS_ONE for w in values], np.bool_)[codes]).tolist()
            )
    n = len(next(iter(columns.values())))
    at, number_of = np.concatenate(rows), np.concatenate(numbers)
    order = np.argsort(at, kind="stable")
    ends = np.cumsum(np.bincount(at, minlength=n)).tolist()
    names = [name.strip() for name in columns]
    labels = _tuples([names[i] for i in number_of[order].tolist()], ends)
    minus_one = ""
    if any(word in MINUS_ONE for values, _ in words.values() for word in values):
        minus_one = uncertain if is_uncertain else "negative"
    return OneHot(labels, blanks, sorted(doubtful), minus_one)


def _words(cells: Cells, name: str) -> tuple[list[str], Any]:
    """The different words of a column, "" for none, and the number of each row's word, (n,)."""
    if isinstance(cells, CodedCells):
        values: Sequence[Any] = cells.values
        codes = np.frombuffer(cells.codes, np.uint8)
    else:
        of_value: dict[Any, int] = {}
        codes = np.array([of_value.setdefault(cell, len(of_value)) for cell in cells], np.intp)
        values = list(of_value)
    return ["" if is_missing(value) else _word(value, name) for value in values], codes


def _tuples(names: list[str], ends: list[int]) -> list[tuple[str, ...]]:
    """Consecutive names as a tuple for each row; equal tuples are one object."""
    equal: dict[tuple[str, ...], tuple[str, ...]] = {}
    labels, start = [], 0
    for end in ends:
        row = tuple(names[start:end])
        labels.append(equal.setdefault(row, row))
        start = end
    return labels
