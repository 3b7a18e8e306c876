"""Columns for trees: the features, their principal components, and a ridge regression of each class.

A tree splits by one column at a time, but what indicates a class is spread over hundreds of columns. The
regressions gather it. Trees would trust regressions that were fitted on the same rows too much: in 300 rows
of medical such a column has a correlation of .96 with its label, in other rows one of .75. So the columns of
a train row are predicted by regressions on other train rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve

from encode_once.classify.arrays import FloatArray, IntArray, LabelMatrix, PartialLabels, RowIndex, Vectors
from encode_once.classify.data.matrix import (
    ColumnView,
    LazyMatrix,
    MatrixLike,
    chunks,
    column_order,
    is_large,
)
from encode_once.classify.heads.checks import require_finite, require_memory
from encode_once.classify.partial import with_frequencies

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # as shares of the columns' mean variance
MAX_PLAIN = 512  # columns that trees take as they are; of more, trees would be slow …
MAX_PLAIN_OF_FEW_ROWS = 2048  # … unless there are fewer rows than columns
# Of more columns, the rarest have no axes: an eigenproblem of 4,096 takes a minute on a core …
MAX_AXES = 4096
MAX_NUMBERS = 2**24  # … and so many numbers of few rows, as the basis of their principal axes, 128 MB
FREQUENT = 0.05  # share of rows that differ from a column's usual number, from which on it is never left out
USUAL_ROWS = 256  # rows that the usual number of a column is the median of
TINY = 1e-6  # the least divisor
MIN_FOLDS, MAX_FOLD = 5, 512  # folds, and rows of a fold: a system (rows, rows) is solved for each fold


def learn(
    X: MatrixLike, Y: PartialLabels, components: int, seed: int
) -> tuple[Vectors, Vectors, MatrixLike, list[str]]:
    """Center (d,) and axes (a, d), see `project`; the columns (n, a) of the train rows X (n, d); and notes.

    The columns are an array, unless they are too large for that. The notes are lines for the user.

    The axes are the d columns themselves, if they are few; at most `components` principal axes; and the
    weights of a ridge regression of each label of Y (n, c), if c is at most d: more would multiply the time
    of the trees, for little (on delicious). The train rows' columns of the regressions are cross-fitted. The
    axes do not depend on the order of the columns and labels. An unknown label counts as the class's
    frequency, so that it says nothing of the class. Of tf-idf of 50,000 words, the rarest are left out, see
    `MAX_AXES`: the weights of their columns are 0, and a note says so.

    Raises:
        InsufficientMemoryError: the eigenproblem of the columns would need more memory than is available.
    """
    order, width = _without_the_rarest(X, column_order(X)), X.shape[1]
    X = ColumnView(X, order)
    n, d = X.shape
    require_memory("with trees", _memory(n, d), "choose fewer --features, or --head linear or mlp")
    notes = []
    if d < width:
        notes.append(
            f"trees left out {width - d:,} of {width:,} columns, the rarest of those that are the same "
            f"in more than {1 - FREQUENT:.0%} of the rows"
        )
    targets = with_frequencies(Y)[:, column_order(Y)]
    center = sum(X[part].sum(axis=0, dtype=np.float64) for part in chunks(n, d)) / n
    variances, basis = _principal_axes(X, center)
    axes = [np.eye(d)] if d <= (MAX_PLAIN_OF_FEW_ROWS if n < d else MAX_PLAIN) else []
    axes.append(basis[:, ::-1][:, :components])
    crossed: Vectors = np.empty((n, 0), np.float32)
    if Y.shape[1] <= d:
        weights, ridge = _regressions(X, targets, center, variances, basis)
        axes.append(weights)
        whitening = basis / np.sqrt(n * (variances + ridge))
        crossed = _cross_fitted(X, targets, center, weights, whitening, seed)
    learned = np.hstack(axes).T.astype(np.float32)
    columns: MatrixLike = TrainColumns(Projected(X, center.astype(np.float32), learned), crossed)
    columns = columns if is_large(columns) else np.asarray(columns)
    center_of_all, axes_of_all = np.zeros(width, np.float32), np.zeros((len(learned), width), np.float32)
    center_of_all[order], axes_of_all[:, order] = center, learned
    return center_of_all, axes_of_all, columns, notes


def _without_the_rarest(X: MatrixLike, order: IntArray) -> IntArray:
    """The columns of X (n, d) in this order (d,), less the rarest if they are too many.

    A column is as frequent as the share of its rows that differ from its usual number, which is 0 before
    sparse columns are standardised. Unlike the variance, this does not depend on how columns are scaled.
    Dense columns, and words that are `FREQUENT`, all stay; of others, at least a quarter of what is allowed.
    """
    n, d = X.shape
    limit = max(MAX_AXES, MAX_NUMBERS // n)
    if d <= limit:
        return order
    usual, counts = _usual(X), np.zeros(d, np.intp)
    for part in chunks(n, d):
        rows = X[part]
        counts += ((rows != usual) & (rows != 0)).sum(axis=0)
    counts = counts[order]
    limit = max(limit, int((counts >= FREQUENT * n).sum()) + limit // 4)
    most_frequent: IntArray = order[np.sort(np.argsort(-counts, kind="stable")[:limit])]
    return most_frequent


def _usual(X: MatrixLike) -> Vectors:
    """The median of each column of X (n, d) in some rows, (d,).

    Where a column has negative numbers, it is standardised: 0 is then a missing vector, and is left out.
    """
    n = len(X)
    rows = X[np.unique(np.linspace(0, n - 1, min(n, USUAL_ROWS)).astype(np.intp))]
    is_missing = (rows == 0) & (rows.min(axis=0) < 0)
    middle = (len(rows) - is_missing.sum(axis=0) - 1) // 2
    ordered = np.sort(np.where(is_missing, np.float32(np.inf), rows), axis=0)
    usual: Vectors = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return usual


def _memory(n: int, d: int) -> float:
    """About how many bytes `_principal_axes` of rows (n, d) needs: matrices of its eigenproblem and basis."""
    size = min(n, d)
    return 8.0 * (4 * size**2 + (3 * n * d if n < d else 0))


@dataclass(frozen=True)
class Projected(LazyMatrix):
    """Rows X (n, d) along axes (a, d), (n, a); computed when rows are asked for."""

    X: MatrixLike
    center: Vectors | FloatArray  # (d,)
    axes: Vectors

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X), len(self.axes)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        return (self.X[rows] - self.center).astype(np.float32, copy=False) @ self.axes.T


@dataclass(frozen=True)
class TrainColumns(LazyMatrix):
    """Projected rows whose last columns are replaced by the cross-fitted ones (n, c)."""

    projected: Projected  # (n, a)
    crossed: Vectors

    @property
    def shape(self) -> tuple[int, int]:
        return self.projected.shape

    def __len__(self) -> int:
        return len(self.projected)

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        columns = self.projected[rows]
        columns[:, columns.shape[1] - self.crossed.shape[1] :] = self.crossed[rows]
        return columns


def project(X: MatrixLike, center: Vectors | FloatArray, axes: Vectors) -> Vectors:
    """Rows X (n, d) along the axes (a, d), as (n, a)."""
    columns = np.empty((len(X), len(axes)), np.float32)
    projected = Projected(X, center, axes)
    for part in chunks(*X.shape):
        columns[part] = projected[part]
    return columns


def _principal_axes(X: MatrixLike, center: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances (k,), ascending, along orthonormal axes (d, k) of the rows X (n, d), for k = min(n, d).

    If n < d, this is an eigenproblem of (n, n) in a basis of the rows: see `linear._Problem`.
    """
    n, d = X.shape
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        basis = np.linalg.qr((np.asarray(X) - center).T)[0] if n < d else None  # (d, n)
        covariance = np.zeros((min(n, d), min(n, d)))
        for part in chunks(n, d):
            Z = (X[part] - center).astype(np.float32)
            rows = Z if basis is None else Z @ basis
            covariance += rows.T @ rows / n
    require_finite(covariance, "covariances of the features")
    variances, axes = np.linalg.eigh(covariance)
    return variances.clip(min=0), axes if basis is None else basis @ axes


def _regressions(
    X: MatrixLike, Y: LabelMatrix | Vectors, center: FloatArray, variances: FloatArray, basis: FloatArray
) -> tuple[FloatArray, float]:
    """Weights (d, c) of ridge regressions, and their ridge: that of the least squared error, leave-one-out.

    The error of a row by the regression on all others is its error by that on all rows, divided by 1 - h,
    where h is the row's entry on the diagonal of the hat matrix.
    """
    (n, d), frequencies = X.shape, Y.mean(axis=0)
    # Of the rows, along the principal axes; of many rows they are computed twice, and not held.
    coordinates: MatrixLike = Projected(X, center, basis.astype(np.float32).T)
    coordinates = coordinates if is_large(X) else project(X, center, basis.astype(np.float32).T)
    with_labels = np.zeros((basis.shape[1], Y.shape[1]))
    for part in chunks(n, d):
        with_labels += coordinates[part].T @ (Y[part] - frequencies).astype(np.float32) / n
    ridges = variances.sum() / d * np.array(RIDGES) + np.finfo(np.float32).tiny
    errors = np.zeros(len(RIDGES))
    for part in chunks(n, d):
        Z, centred = coordinates[part], Y[part] - frequencies
        for number, ridge in enumerate(ridges):
            predicted = Z @ (with_labels / (variances + ridge)[:, None]).astype(np.float32)
            own = Z**2 @ (1 / (n * (variances + ridge))).astype(np.float32)
            errors[number] += (((predicted - centred) / (1 - own[:, None]).clip(min=TINY)) ** 2).sum()
    best = int(require_finite(errors, "leave-one-out errors of the ridge regressions").argmin())
    return basis @ (with_labels / (variances + ridges[best])[:, None]), float(ridges[best])


def _cross_fitted(
    X: MatrixLike,
    Y: LabelMatrix | Vectors,
    center: FloatArray,
    weights: FloatArray,
    whitening: FloatArray,
    seed: int,
) -> Vectors:
    """The regressions' predictions (n, c) of the train rows, each without the rows of its fold.

    A regression's predictions of its own rows are H y, with the hat matrix H = T Tᵀ of the rows T (n, k) in
    the coordinates `whitening` (d, k), in which the penalised covariance is the identity. Without the rows of
    a fold the errors of these are (I - H)⁻¹ (y - H y), where H and y are the fold's: no regression is fitted
    again. Means are those of all train rows: a mean of the other folds is lower the more positives the fold
    has, and would give their labels away.
    """
    n, frequencies = len(X), Y.mean(axis=0)
    predictions = np.empty(Y.shape, np.float32)
    folds = max(MIN_FOLDS, -(-n // MAX_FOLD))
    for rows in np.array_split(np.random.default_rng(seed).permutation(n), min(folds, n)):
        Z, y = (X[rows] - center).astype(np.float32), Y[rows] - frequencies
        T = Z @ whitening.astype(np.float32)
        errors = solve(np.eye(len(rows)) - T @ T.T, y - Z @ weights, assume_a="pos")
        predictions[rows] = y - errors
    return predictions
