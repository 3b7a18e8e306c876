"""Standardised columns, in which every feature has the same share of the variance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import BoolArray, FloatArray, RowIndex, Vectors
from encode_once.classify.data.matrix import LazyMatrix, MatrixLike, RowView, chunks

SCALES = ("auto", "column", "feature", "idf", "none")
DENSE = 0.5  # share of numbers that are not 0, below which a feature is sparse
LEAST = 1e-6  # lower bound of the share of rows in an inverse document frequency


@dataclass(frozen=True)
class Standardised(LazyMatrix):
    """A matrix with columns of mean 0; a missing vector becomes 0, which is the mean vector.

    Rows with infinite numbers raise a DataError that names the feature, as the train rows' statistics do.
    """

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
        is_finite = np.isfinite(standard)
        if not is_finite.all():
            matrix = self.X.X if isinstance(self.X, RowView) else self.X
            shapes = getattr(matrix, "shapes", {"a feature": (1, self.shape[1])})
            _refuse_infinite(np.isinf(standard).any(axis=0), shapes)
            standard[~is_finite] = 0
        return standard


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of the columns of a matrix, (d,) each, from one pass; NaN is left out.

    All places of a sequence count as rows of the same columns. A column without numbers has NaN.
    (StandardScaler.partial_fit returns NaN for a column that is all NaN in a single chunk.)
    """

    mean: FloatArray
    variance: FloatArray
    nonzero: FloatArray  # the share of numbers that are not 0

    def check_finite(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Raise for columns with an infinite number: all their numbers would count as missing.

        shapes: the length and width of each feature's block of columns.

        Raises:
            DataError: a column has one; the message names its feature.
        """
        _refuse_infinite(~np.isfinite(self.mean) & ~np.isnan(self.nonzero), shapes)

    @classmethod
    def of(cls, X: MatrixLike, shapes: Sequence[tuple[int, int]]) -> "ColumnStatistics":
        """The statistics of X (n, d), whose blocks of columns have these lengths and widths."""
        total = np.zeros((4, X.shape[1]))
        ends = np.cumsum([length * width for length, width in shapes])[:-1]
        with np.errstate(invalid="ignore", over="ignore"):  # see `check_finite`
            for part in chunks(*X.shape):
                total = _merged(np.stack([total, _of_chunk(X[part])], axis=1))
            blocks = [
                np.tile(_merged(block.reshape(4, *shape)), shape[0])
                for block, shape in zip(np.split(total, ends, axis=1), shapes, strict=True)
            ]
            count, mean, squares, nonzero = np.concatenate(blocks, axis=1)
            mean[count == 0], squares[np.isinf(mean)] = np.nan, np.inf
            return cls(mean, squares / count, nonzero / count)


def _refuse_infinite(infinite: BoolArray, shapes: Mapping[str, tuple[int, int]]) -> None:
    """Raise a DataError if a column is infinite (d,); shapes: length and width of the features' blocks."""
    ends = np.cumsum([length * width for length, width in shapes.values()])[:-1]
    for feature, block in zip(shapes, np.split(infinite, ends), strict=True):
        if block.any():
            raise DataError(
                f"{feature} has infinite numbers in {block.sum()} of {len(block)} columns: look for "
                "them in what made its vectors, or choose other --features"
            )


def choose_scales(
    X: MatrixLike,
    shapes: Sequence[tuple[int, int]],
    scale: str = "auto",
    statistics: ColumnStatistics | None = None,
) -> list[str]:
    """How the columns of each feature are scaled, as `--scale` has it.

    "auto" keeps the proportions of a feature of which most numbers are 0: if all columns had variance 1, a
    word that occurs in one row of 300 would count 17 there.

    Args:
        shapes: length and width of each feature's block of X's columns.
        statistics: of X, if they are known.
    """
    if scale != "auto":
        return [scale] * len(shapes)
    nonzero = (statistics or ColumnStatistics.of(X, shapes)).nonzero
    ends = np.cumsum([length * width for length, width in shapes])[:-1]
    shares = [np.nanmean(block) if not np.isnan(block).all() else 1.0 for block in np.split(nonzero, ends)]
    return ["feature" if share < DENSE else "column" for share in shares]


def standardisation(
    X: MatrixLike,
    shapes: Sequence[tuple[int, int]],
    scales: Sequence[str] | None = None,
    statistics: ColumnStatistics | None = None,
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
        statistics: of X, if they are known.
    """
    scales = scales or ["column"] * len(shapes)
    statistics = statistics or ColumnStatistics.of(X, shapes)
    mean, variance, nonzero = statistics.mean, statistics.variance, statistics.nonzero
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


def _of_chunk(values: Vectors) -> FloatArray:
    """The count, mean, squared deviations from it and numbers that are not 0 of columns, (4, d)."""
    is_missing = np.isnan(values)
    has_missing = is_missing.any()
    if has_missing:
        values = np.where(is_missing, 0, values)
    count = len(values) - is_missing.sum(axis=0, dtype=np.float64)
    mean = values.sum(axis=0, dtype=np.float64) / np.maximum(count, 1)
    deviations = values - mean
    if has_missing:
        deviations[is_missing] = 0
    squares = np.einsum("ij,ij->j", deviations, deviations)
    return np.stack([count, mean, squares, np.count_nonzero(values, axis=0)])


def _merged(parts: FloatArray) -> FloatArray:
    """What `_of_chunk` is for k sets of rows together, (4, d), from that of each, (4, k, d)."""
    counts, means, squares, nonzero = parts
    count = counts.sum(axis=0)
    mean = (counts * means).sum(axis=0) / np.maximum(count, 1)
    between = np.where(counts > 0, counts * (means - mean) ** 2, 0).sum(axis=0)
    return np.stack([count, mean, squares.sum(axis=0) + between, nonzero.sum(axis=0)])
