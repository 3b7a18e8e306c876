"""Standardised columns, in which every feature has the same share of the variance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import FloatArray, RowIndex, Vectors
from encode_once.classify.data.matrix import LazyMatrix, MatrixLike, chunks

SCALES = ("auto", "column", "feature", "idf", "none")
DENSE = 0.5  # share of numbers that are not 0, below which a feature is sparse
LEAST = 1e-6  # lower bound of the share of rows in an inverse document frequency


@dataclass(frozen=True)
class Standardised(LazyMatrix):
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


def choose_scales(X: MatrixLike, shapes: Sequence[tuple[int, int]], scale: str = "auto") -> list[str]:
    """How the columns of each feature are scaled, as `--scale` has it.

    "auto" keeps the proportions of a feature of which most numbers are 0: if all columns had variance 1, a
    word that occurs in one row of 300 would count 17 there.

    Args:
        shapes: length and width of each feature's block of X's columns.
    """
    if scale != "auto":
        return [scale] * len(shapes)
    nonzero = _means(X, _is_nonzero, shapes)
    ends = np.cumsum([length * width for length, width in shapes])[:-1]
    shares = [np.nanmean(block) if not np.isnan(block).all() else 1.0 for block in np.split(nonzero, ends)]
    return ["feature" if share < DENSE else "column" for share in shares]


def standardisation(
    X: MatrixLike, shapes: Sequence[tuple[int, int]], scales: Sequence[str] | None = None
) -> tuple[Vectors, Vectors]:
    """Mean and scale (d,) that give every column mean 0, and every feature the same share of the variance.

    If all columns had variance 1, a feature of 1,280 columns would drown one of 50: heads that shrink weights
    or drop inputs pay for each column. So the columns of a feature of width w get a variance in proportion to
    1/w, and 1 on average over all columns. All places of a sequence count as rows of the same w columns. NaN
    is ignored; a constant column keeps its scale. A column without numbers has mean 0 and an infinite scale:
    whatever it holds later becomes 0, as a missing vector does.

    Args:
        shapes: length and width of each feature's block of X's columns.
        scales: of each feature; by default "column".
            "column" gives all columns of the feature the same variance, "feature" divides all by the same
            number, "idf" does that after each is multiplied by its inverse document frequency, 1 minus the
            logarithm of the share of rows in which it is not 0, and "none" leaves them as they are.
    """
    scales = scales or ["column"] * len(shapes)
    mean = _means(X, np.asarray, shapes)
    variance = _means(X, lambda values: (values - mean) ** 2, shapes)
    nonzero = _means(X, _is_nonzero, shapes) if "idf" in scales else np.ones(len(mean))
    total = sum(width for _, width in shapes)
    scale, start = np.empty(len(mean)), 0
    for (length, width), kind in zip(shapes, scales, strict=True):
        block = slice(start, start := start + length * width)
        share = np.sqrt(total / (len(shapes) * width))
        scale[block] = 1 if kind == "none" else _scales(kind, variance[block], nonzero[block]) / share
    unseen = np.isnan(mean)
    mean, scale = np.where(unseen, 0, mean), np.where(unseen, np.inf, scale)
    return mean.astype(np.float32), scale.astype(np.float32)


def _scales(kind: str, variance: FloatArray, nonzero: FloatArray) -> FloatArray:
    """What divides the columns of a feature (m,), so that their mean variance becomes 1.

    nonzero: the share of rows in which each column is not 0, (m,).
    """
    if kind == "column":
        return np.sqrt(np.where(variance > 0, variance, 1))
    weights = 1 - np.log(np.maximum(nonzero, LEAST)) if kind == "idf" else np.ones(len(variance))
    varying = variance > 0
    whole = np.sqrt((variance * weights**2)[varying].mean()) if varying.any() else 1.0
    return np.asarray(whole / weights)


def _is_nonzero(values: Vectors) -> Vectors:
    """1 or 0 for each number, and NaN for NaN."""
    return np.where(np.isnan(values), values, values != 0).astype(np.float32)


def _means(
    X: MatrixLike, function: Callable[[Vectors], NDArray[Any]], shapes: Sequence[tuple[int, int]]
) -> FloatArray:
    """Means (d,) of a function of X's entries, ignoring NaN.

    The mean of a column without numbers is NaN. (StandardScaler.partial_fit returns NaN for a column that is
    all NaN in a single chunk.)
    """
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for part in chunks(*X.shape):
        values = function(X[part])
        total += np.nansum(values, axis=0, dtype=np.float64)
        count += len(values) - np.isnan(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return _sum_places(total, shapes) / _sum_places(count, shapes)


def _sum_places(sums: FloatArray, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Column sums (d,) where all places of a sequence are added up, and each is given the total."""
    ends = np.cumsum([length * width for length, width in shapes])[:-1]
    blocks = zip(np.split(sums, ends), shapes, strict=True)
    return np.concatenate([np.tile(block.reshape(shape).sum(axis=0), shape[0]) for block, shape in blocks])
