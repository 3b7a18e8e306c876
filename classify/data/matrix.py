"""Features that are read when they are asked for, so that no step holds more rows than it works on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from encode_once.classify.arrays import IntArray, RowIndex, Vectors

CHUNK = 2048  # rows read at a time where all are needed
NUMBERS = 2**23  # read at a time at most, where rows are long


class MatrixLike(Protocol):
    """A matrix (n, d) whose rows come as float32 when they are asked for. Such an ndarray is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | RowIndex, /) -> Vectors: ...


@dataclass(frozen=True)
class RowView:
    """Some rows of a matrix, in any order, repeats allowed; nothing is copied."""

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
class ColumnView:
    """Some columns of a matrix; the others are read, too, and dropped."""

    X: MatrixLike  # (n, d)
    columns: IntArray  # (m,)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X), len(self.columns)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        return self.X[rows][:, self.columns]


@dataclass(frozen=True)
class Standardised:
    """A matrix as heads take it: columns of mean 0, where the average vector stands in for a missing one."""

    X: MatrixLike  # (n, d); NaN where a vector is missing
    mean: Vectors  # (d,)
    scale: Vectors  # (d,)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.X.shape

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        standard = self.X[rows] - self.mean
        standard /= self.scale
        standard[np.isnan(standard)] = 0
        return standard


def chunks(n: int, d: int = 1) -> Iterator[slice]:
    """Slices that part n rows of d numbers into chunks; there is one, if an empty one, even of no rows."""
    rows = min(CHUNK, max(NUMBERS // max(d, 1), 1))
    return (slice(start, start + rows) for start in range(0, max(n, 1), rows))
