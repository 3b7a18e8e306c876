"""Features of a table's other columns, such as `column:price` and `column:brand`: numbers or categories.

A column is one of numbers if every cell is a number or missing, else one of categories. `column:zip:category`
and `column:size:number` say which. Numbers become one column, categories one for each that occurs in a train
row; a category that does not is all 0. Missing cells are missing vectors.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encode_once.cache import DataError
from encode_once.classify.arrays import BoolArray, RowIndex, State, Vectors
from encode_once.classify.data.text.words import pack, unpack

PREFIX = "column:"
KINDS = ("number", "category")
MISSING = frozenset({"", "-", "?", "na", "n/a", "nan", "none", "null"})
MAX_CATEGORIES = 1000
LARGEST = float(np.finfo(np.float32).max)
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
MANY = 50  # different texts from which on they must repeat to be categories


def is_of_column(name: str) -> bool:
    """Whether the feature of that name is made of a column of the table, as `column:price`."""
    return name.startswith(PREFIX)


def column_of(name: str) -> tuple[str, str]:
    """The column that a feature's name names, and the kind that it says, or "" if it is to be found out."""
    column, _, kind = name.removeprefix(PREFIX).rpartition(":")
    return (column, kind) if column and kind in KINDS else (name.removeprefix(PREFIX), "")


@dataclass(frozen=True)
class CellVectors:
    """A vector for each of n cells; NaN where the cell is missing."""

    values: Vectors  # (n, width)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: RowIndex) -> Vectors:
        """The blocks of these rows, (m, 1, width)."""
        return self.values[rows][:, None]


class ColumnValues:
    """Turns the cells of a column into vectors, as it learned from the cells of train rows."""

    shape: tuple[int, int]

    def __init__(self, name: str) -> None:
        self.name = name
        self.categories_: list[str] | None = None  # None: of numbers

    def fit(self, cells: Sequence[str]) -> "ColumnValues":
        """Decide on the kind of the column, and learn its categories.

        Raises:
            DataError: no cell has a value, cells of a column of numbers are none, or nearly all texts differ.
        """
        kind = column_of(self.name)[1] or kind_of(cells)
        present = [cell.strip() for cell in cells if not is_missing(cell)]
        if not present:
            raise DataError(f"{self.name}: all cells of the {len(cells)} train rows are missing")
        if kind == "number":
            _refuse_thousands(self.name, present)
            wrong = [cell for cell in present if np.isnan(_number(cell))]
            if wrong:
                raise DataError(f"{self.name}: {len(wrong)} cells are no numbers, such as {wrong[0]!r}")
            self.categories_ = None
        else:
            self.categories_ = self._categories(present)
        self._set_shape()
        return self

    def _categories(self, cells: Sequence[str]) -> list[str]:
        counts = Counter(cells)
        if len(counts) > MANY and len(counts) > len(cells) / 2 and not column_of(self.name)[1]:
            raise DataError(
                f"{self.name} has {len(counts)} different texts in {len(cells)} train rows, which say little "
                f"about other rows; {self.name}:category takes them all the same"
            )
        frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MAX_CATEGORIES]
        return sorted(frequent)

    def transform(self, cells: Sequence[str]) -> CellVectors:
        """The vectors of cells, new ones included."""
        if self.categories_ is None:
            numbers = [_number(cell) for cell in cells]
            return CellVectors(np.array(numbers, np.float32).reshape(-1, 1))
        values = np.zeros((len(cells), len(self.categories_)), np.float32)
        place = {category: column for column, category in enumerate(self.categories_)}
        for row, cell in enumerate(cells):
            if is_missing(cell):
                values[row] = np.nan
            elif (column := place.get(cell.strip())) is not None:
                values[row, column] = 1
        return CellVectors(values)

    def missing(self, cells: Sequence[str]) -> BoolArray:
        """Which cells have no value, (n,); in a column of numbers also those that are none."""
        if self.categories_ is None:
            return np.isnan([_number(cell) for cell in cells])
        return np.array([is_missing(cell) for cell in cells], np.bool_)

    def unseen(self, cells: Sequence[str]) -> list[str]:
        """The cells with a category that was not learned, whose vectors are all 0."""
        if self.categories_ is None:
            return []
        learned = set(self.categories_)
        return [cell for cell in cells if not is_missing(cell) and cell.strip() not in learned]

    def state(self) -> State:
        """The categories, one a line in UTF-8; nothing for a column of numbers."""
        return {} if self.categories_ is None else {"categories": pack(list(map(_escaped, self.categories_)))}

    def load_state(self, state: State) -> None:
        """Restore what another column learned."""
        packed = state.get("categories")
        self.categories_ = None if packed is None else list(map(_unescaped, unpack(packed)))
        self._set_shape()

    def _set_shape(self) -> None:
        self.shape = 1, 1 if self.categories_ is None else len(self.categories_)


def kind_of(cells: Sequence[str]) -> str:
    """The kind of a column with these cells."""
    numbers = all(is_missing(cell) or not np.isnan(_number(cell)) for cell in cells)
    return "number" if numbers else "category"


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.strip().lower() in MISSING


def _refuse_thousands(name: str, cells: Sequence[str]) -> None:
    """Raise if commas may separate thousands, as no cell has one before other than three digits."""
    with_comma = [cell for cell in cells if "," in cell]
    if with_comma and all(THOUSANDS.fullmatch(cell) for cell in with_comma):
        raise DataError(
            f"{name}: {with_comma[0]!r} may be thousands or a decimal comma: write numbers without thousands "
            f"separators, or use {name}:category"
        )


def _number(cell: str) -> float:
    """The number in a cell, also with a decimal comma; NaN if it has none that is finite as float32."""
    text = cell.strip()
    if not NUMBER.fullmatch(text):
        return float("nan")
    number = float(text.replace(",", "."))
    return number if abs(number) <= LARGEST else float("nan")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
