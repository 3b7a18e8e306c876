"""Standardised columns, in which every feature has the same share of the variance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encode_once.classify.arrays import FloatArray, RowIndex, Vectors
from encode_once.classify.data.matrix import MatrixLike, chunks


@dataclass(frozen=True)
class Standardised:
    """A matrix with columns of mean 0; a missing vector becomes 0, which is the mean vector."""

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


def standardisation(X: MatrixLike, shapes: Sequence[tuple[int, int]]) -> tuple[Vectors, Vectors]:
    """Mean and scale (d,) that give every column mean 0, and every feature the same share of the variance.

    If all columns had variance 1, a feature of 1,280 columns would drown one of 50: heads that shrink weights
    or drop inputs pay for each column. So the columns of a feature of width w get a variance in proportion to
    1/w, and 1 on average over all columns. All places of a sequence count as rows of the same w columns. NaN
    is ignored; a constant column keeps its scale. A column without numbers has mean 0 and an infinite scale:
    whatever it holds later becomes 0, as a missing vector does.

    Args:
        shapes: length and width of each feature's block of X's columns.
    """
    mean = _means(X, None, shapes)
    variance = _means(X, mean, shapes)
    widths = np.array([width for _, width in shapes])
    shares = np.sqrt(widths.sum() / (len(widths) * widths))  # (features,)
    share = np.repeat(shares, [length * width for length, width in shapes])
    scale = np.sqrt(np.where(variance > 0, variance, 1)) / share
    unseen = np.isnan(mean)
    mean, scale = np.where(unseen, 0, mean), np.where(unseen, np.inf, scale)
    return mean.astype(np.float32), scale.astype(np.float32)


def _means(X: MatrixLike, center: FloatArray | None, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Means (d,) of X's entries, or of their squared distances to a center (d,), ignoring NaN.

    The mean of a column without numbers is NaN. (StandardScaler.partial_fit returns NaN for a column that is
    all NaN in a single chunk.)
    """
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for part in chunks(*X.shape):
        values = X[part] if center is None else (X[part] - center) ** 2
        total += np.nansum(values, axis=0, dtype=np.float64)
        count += len(values) - np.isnan(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return _sum_places(total, shapes) / _sum_places(count, shapes)


def _sum_places(sums: FloatArray, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Column sums (d,) where all places of a sequence are added up, and each is given the total."""
    ends = np.cumsum([length * width for length, width in shapes])[:-1]
    blocks = zip(np.split(sums, ends), shapes, strict=True)
    return np.concatenate([np.tile(block.reshape(shape).sum(axis=0), shape[0]) for block, shape in blocks])
