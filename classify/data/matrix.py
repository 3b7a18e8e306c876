"""Views of matrices that are read when rows are asked for, so that no step holds more rows than it uses."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from encode_once.classify.arrays import IntArray, PartialLabels, RowIndex, Vectors

# Numbers of a matrix, 1 GiB as float32. A larger one is not held: its rows are read in the order in which
# they are stored, again for each pass.
IN_MEMORY = 2**28
CHUNK = 2048  # rows read at a time when all are needed
CHUNK_NUMBERS = 2**23  # numbers read at a time, which limits chunks of long rows


class MatrixLike(Protocol):
    """A matrix (n, d) whose rows come as float32 when they are asked for. A float32 ndarray is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | RowIndex, /) -> Vectors: ...


class LazyMatrix:
    """A `MatrixLike` that NumPy can read: `np.asarray(X)` is the array (n, d) of all rows, float32."""

    def __array__(self: MatrixLike, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the rows are read from files: an array of them is always a copy")
        array = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for part in chunks(*self.shape):
            array[part] = self[part]
        return array


@dataclass(frozen=True)
class RowView(LazyMatrix):
    """Selected rows of a matrix, in any order, repeats allowed; nothing is copied."""

    X: MatrixLike  # (n, d)
    rows: RowIndex  # (m,)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.X.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        return self.X[self.rows[rows]]


@dataclass(frozen=True)
class ColumnView(LazyMatrix):
    """Selected columns of a matrix; the others are read as well, and dropped."""

    X: MatrixLike  # (n, d)
    columns: IntArray  # (m,)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X), len(self.columns)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        return self.X[rows][:, self.columns]


def is_large(X: MatrixLike | NDArray[Any]) -> bool:
    """Whether a matrix is read in passes rather than held in memory."""
    return math.prod(X.shape) > IN_MEMORY


def chunks(n: int, d: int = 1) -> Iterator[slice]:
    """Slices that divide n rows of d numbers into chunks; zero rows make one empty chunk."""
    rows = min(CHUNK, max(CHUNK_NUMBERS // max(d, 1), 1))
    return (slice(start, start + rows) for start in range(0, max(n, 1), rows))


def sample(n: int, most: int) -> RowIndex:
    """Rows of n drawn at random, the same each time, in order; all of them if they are at most `most`."""
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)) if n > most else np.arange(n)


def column_order(X: MatrixLike | PartialLabels, shapes: Sequence[tuple[int, int]] | None = None) -> IntArray:
    """An order of the columns (d,) of X (n, d) that depends on their numbers, not on where they stand.

    Random numbers that are dealt out to columns or classes in this order belong to the same ones however a
    matrix lists them. Only columns with equal numbers keep their places.

    shapes: length and width of blocks of columns, inside which they are ordered, all places of a block alike.
    """
    weights = np.random.default_rng(0).normal(size=len(X))
    sums = np.zeros(X.shape[1])
    for part in chunks(*X.shape):
        with np.errstate(invalid="ignore", over="ignore"):  # infinite numbers are reported by the heads
            sums += weights[part] @ X[part]
    orders, start = [], 0
    for length, width in shapes or [(1, X.shape[1])]:
        of_places = sums[start : start + length * width].reshape(length, width)
        order = np.argsort(of_places.sum(axis=0), kind="stable")
        orders.append(np.add.outer(start + width * np.arange(length), order).ravel())
        start += length * width
    return np.concatenate(orders)
