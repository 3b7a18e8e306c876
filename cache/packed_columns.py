"""Columns of millions of texts or lists of labels: packed in arrays, and decoded when they are read.

A Python string takes 50 bytes more than its text, and a list of them 8 more. A packed column takes its bytes
and 8 for each row, and none of it in memory if the arrays are mapped from a file.
"""

import operator
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encode_once.cache.keys import RowIndex
from encode_once.cache.large_arrays import new_array, row_slices, rows_where

Item = TypeVar("Item")
Lengths = NDArray[np.intp]  # (rows,)
BLOCK_ROWS, BLOCK_VALUES = 4096, 1 << 24  # decoded at a time


class PackedColumn(Sequence[Item], Generic[Item]):
    """The items of n rows: row i has `values[offsets[i]:offsets[i + 1]]`.

    It equals every sequence of equal items. Slices and `taken` copy no values.

    Args:
        values: (total,).
        offsets: (n + 1,), ascending.
        rows: the rows that the column has, in this order; by default all.
    """

    def __init__(self, values: NDArray[Any], offsets: NDArray[Any], rows: RowIndex | None = None) -> None:
        self._values, self._offsets, self._rows = values, offsets, rows

    def __len__(self) -> int:
        return len(self._offsets) - 1 if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> Self: ...
    def __getitem__(self, row: int | slice) -> "Item | Self":
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if self._rows is not None:
                return self._rebuilt(self._offsets, self._rows[row])
            if step == 1:
                return self._rebuilt(self._offsets[start : max(start, stop) + 1])
            return self._rebuilt(self._offsets, np.arange(start, stop, step))
        row = range(len(self))[operator.index(row)]
        place = row if self._rows is None else int(self._rows[row])
        start, end = int(self._offsets[place]), int(self._offsets[place + 1])
        return self._decoded(self._values[start:end], [0, end - start])[0]

    def __iter__(self) -> Iterator[Item]:
        for values, lengths in self.blocks():
            yield from self._decoded(values, [0, *np.cumsum(lengths).tolist()])

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """The first row of an item that equals `value`; raises ValueError if there is none."""
        for row, item in enumerate(self[start:stop], slice(start, stop).indices(len(self))[0]):
            if item == value:
                return row
        raise ValueError(f"{value!r} is not in the column")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        more = ", …" if len(self) > 3 else ""
        return f"<{type(self).__name__} of {len(self):,} rows: {', '.join(map(repr, islice(self, 3)))}{more}>"

    def __getstate__(self) -> dict[str, Any]:  # without the values of other rows
        blocks = [*self.blocks()]
        values = np.concatenate([self._values[:0], *(values for values, _ in blocks)])
        offsets = np.zeros(len(self) + 1, np.uint64)
        np.cumsum(
            np.concatenate([np.empty(0, np.intp), *(of_block for _, of_block in blocks)]), out=offsets[1:]
        )
        return {**vars(self), "_values": values, "_offsets": offsets, "_rows": None}

    def at(self, rows: RowIndex) -> Self:
        """The column of rows that are the result of `row_numbers`, an array that the column keeps."""
        return self._rebuilt(self._offsets, rows if self._rows is None else self._rows[rows])

    def lengths(self) -> Lengths:
        """The number of values of each row, (n,)."""
        if self._rows is None:
            return np.asarray(np.diff(self._offsets), np.intp)
        return np.asarray(self._offsets[self._rows + 1] - self._offsets[self._rows], np.intp)

    def total(self) -> int:
        """The number of values of all rows."""
        return sum(int(self[rows].lengths().sum()) for rows in row_slices(len(self)))

    def blocks(self) -> Iterator[tuple[NDArray[Any], Lengths]]:
        """The values of a few thousand rows at a time, concatenated, and the number of each row's."""
        start, n = 0, len(self)
        while start < n:
            block = self[start : start + BLOCK_ROWS]
            lengths = block.lengths()
            ends = np.cumsum(lengths)
            count = max(1, int(np.searchsorted(ends, BLOCK_VALUES, "right")))
            lengths, total = lengths[:count], int(ends[:count][-1])
            if block._rows is None:
                first = int(block._offsets[0])
                yield self._values[first : first + total], lengths
            else:
                skipped = block._offsets[block._rows[:count]].astype(np.intp) - (ends[:count] - lengths)
                yield self._values[np.repeat(skipped, lengths) + np.arange(total)], lengths
            start += len(lengths)

    @classmethod
    @abstractmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Pack items, unless they are packed."""

    @abstractmethod
    def _rebuilt(self, offsets: NDArray[Any], rows: RowIndex | None = None) -> Self:
        """A column of the same values."""

    @abstractmethod
    def _decoded(self, values: NDArray[Any], ends: list[int]) -> list[Item]:
        """The items of rows, of which the first begins at ends[0] = 0 and ends at ends[1]."""


class Texts(PackedColumn[str]):
    """Texts, of which the values (total,) are UTF-8 bytes; paths may contain others."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Pack texts, unless they are packed."""
        if isinstance(texts, cls):
            return texts
        content, ends = bytearray(), array("Q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogateescape")
            ends.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.frombuffer(ends, np.uint64))

    def _rebuilt(self, offsets: NDArray[Any], rows: RowIndex | None = None) -> Self:
        return type(self)(self._values, offsets, rows)

    def _decoded(self, values: NDArray[Any], ends: list[int]) -> list[str]:
        content = values.tobytes()
        if content.isascii():  # a byte is a character: all can be decoded at once, which is faster
            text = content.decode("ascii")
            return [text[start:end] for start, end in pairwise(ends)]
        return [content[start:end].decode("utf-8", "surrogateescape") for start, end in pairwise(ends)]


class LabelLists(PackedColumn[tuple[str, ...]]):
    """The labels of rows, of which the values (total,) are numbers of `names`."""

    def __init__(
        self,
        names: Sequence[str],
        numbers: NDArray[Any],
        offsets: NDArray[Any],
        rows: RowIndex | None = None,
    ) -> None:
        super().__init__(numbers, offsets, rows)
        self.names = names

    @classmethod
    def of(cls, rows: Iterable[Sequence[str]]) -> Self:
        """Pack lists of labels, unless they are packed."""
        if isinstance(rows, cls):
            return rows
        names, numbers, ends = dict[str, int](), array("I"), array("Q", [0])
        for row in rows:
            numbers.extend(names.setdefault(label, len(names)) for label in row)
            ends.append(len(numbers))
        return cls([*names], np.frombuffer(numbers, np.uint32), np.frombuffer(ends, np.uint64))

    def distinct(self) -> set[str]:
        """The labels that occur in any row."""
        counts = np.zeros(len(self.names), np.intp)
        for numbers, _ in self.blocks():
            counts += np.bincount(numbers, minlength=len(self.names))
        return {self.names[number] for number in np.flatnonzero(counts).tolist()}

    def sorted_by_name(self) -> "LabelLists":
        """The same rows with the names that occur, sorted."""
        names = sorted(self.distinct())
        if names == [*self.names]:
            return self
        place = {name: number for number, name in enumerate(names)}
        number_of = np.array([place.get(name, 0) for name in self.names], np.uint32)
        blocks = [number_of[numbers] for numbers, _ in self.blocks()]
        offsets = np.concatenate([[0], np.cumsum(self.lengths())]).astype(np.uint64)
        return LabelLists(names, np.concatenate([np.empty(0, np.uint32), *blocks]), offsets)

    def _rebuilt(self, offsets: NDArray[Any], rows: RowIndex | None = None) -> Self:
        return type(self)(self.names, self._values, offsets, rows)

    def _decoded(self, values: NDArray[Any], ends: list[int]) -> list[tuple[str, ...]]:
        names = [self.names[number] for number in values.tolist()]
        return [tuple(names[start:end]) for start, end in pairwise(ends)]


def row_numbers(rows: ArrayLike, count: int) -> RowIndex:
    """The rows that NumPy would take from an array of `count` of them, as numbers in an array of their own.

    Args:
        rows: numbers (m,), of which negative ones count from the end, or a mask (count,).

    Raises:
        IndexError: they are neither, or there is no such row.
    """
    index = np.asarray(rows)
    if index.dtype == np.bool_ and index.shape == (count,):
        return rows_where(index)
    if index.ndim != 1 or (index.dtype.kind not in "iu" and index.size):
        raise IndexError(f"rows of {count:,} are numbers or a mask, not {index.dtype} of shape {index.shape}")
    numbers = new_array(len(index), np.intp)
    for block in row_slices(len(index)):
        part = index[block]
        if outside := part[(part < -count) | (part >= count)].tolist():
            raise IndexError(f"there is no row {outside[0]}: there are {count:,}")
        numbers[block] = part
        numbers[block][part < 0] += count
    return numbers


def items_at(column: Sequence[Item], rows: RowIndex) -> Sequence[Item]:
    """The same as `taken` for the result of `row_numbers`, which many columns then share."""
    return column.at(rows) if isinstance(column, PackedColumn) else [column[row] for row in rows.tolist()]


def taken(column: Sequence[Item], rows: ArrayLike) -> Sequence[Item]:
    """The items of these rows, as in `row_numbers`, in this order; packed if the column is."""
    return items_at(column, row_numbers(rows, len(column)))


def repeated(items: PackedColumn[Item], counts: Sequence[int]) -> Sequence[Item]:
    """Each item as often as its count says, in 8 bytes a row."""
    return items.at(np.repeat(np.arange(len(items)), counts))


def joined(columns: Sequence[Sequence[Item]]) -> Sequence[Item]:
    """The rows of several columns one after the other; packed if the first is."""
    first, items = columns[0], chain.from_iterable(columns)
    if len(columns) == 1:
        return first
    return first.of(items) if isinstance(first, PackedColumn) else [*items]
