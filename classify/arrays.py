"""Array types of `classify`, each with one dtype, for n rows, c classes and d columns; checks of values."""

from reprlib import repr as shortened
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from encode_once.cache.errors import DataError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Vectors = NDArray[np.float32]  # (n, d)
LabelMatrix = NDArray[np.bool_]  # (n, c)
PartialLabels = NDArray[np.bool_] | NDArray[np.int8]  # (n, c): bool, or 1, 0 and UNKNOWN, see `partial`
Scores = NDArray[np.float32]  # (n, c): what a head gives each class, not calibrated
Probabilities = NDArray[np.float64]  # (n, c): what a decision rule makes of scores, calibrated if it says so
RowIndex = NDArray[np.intp]  # (m,): positions of rows
Groups = NDArray[np.intp]  # (n,): rows with equal numbers belong together
RowWeights = NDArray[np.float32]  # (n, draws): the weight of each row in each bootstrap draw, 1 on average
UNKNOWN = -1  # an entry of partial labels of which nobody knows whether it is 1 or 0
State = dict[str, NDArray[Any]]  # what a head or a vectoriser learned, by name; any dtypes


def as_labels(labels: Any, rows: int | None = None, classes: int | None = None) -> Any:
    """Labels as a bool array (n, c): of NumPy, or a tensor if they are one. A bool array is not copied.

    Args:
        labels: bool, or 0 and 1 of any dtype, dense or scipy.sparse.
        rows, classes: the required n and c; None if any number above 0 will do.

    Raises:
        DataError: another value or shape, or an unknown entry.
    """
    labels = as_partial_labels(labels, rows, classes)
    xp = array_namespace(labels)
    if labels.dtype != xp.bool:
        unknown = int(xp.sum(xp.astype(labels == UNKNOWN, xp.int64)))
        raise DataError(
            f"labels must be 0 or 1: {unknown} of {labels.shape[0] * labels.shape[1]} values are not, such "
            f"as {UNKNOWN}, which marks unknown entries"
        )
    return labels


def as_partial_labels(labels: Any, rows: int | None = None, classes: int | None = None) -> Any:
    """The same for labels with unknown entries, which are -1 or NaN: int8 (n, c) if there are any, else bool.

    Raises:
        DataError: another value or shape.
    """
    if hasattr(labels, "tocsr"):
        labels = labels.tocsr(copy=True)
        labels.sum_duplicates()
        as_partial_labels(labels.data[:, None] if labels.nnz else [[False]])
        labels = labels.toarray()
    labels = _as_table(labels, "labels", "biufO", rows, classes)
    xp = array_namespace(labels)
    if labels.dtype == xp.bool:
        return labels
    unknown = xp.astype((labels == UNKNOWN) | (labels != labels), xp.bool)
    wrong = ~(xp.astype((labels == 0) | (labels == 1), xp.bool) | unknown)
    if wrong.any():
        raise DataError(
            f"labels must be 0 or 1: {int(wrong.sum())} of {wrong.shape[0] * wrong.shape[1]} values are not, "
            f"such as {shortened(labels[wrong].tolist()[0])}"
        )
    positive = xp.astype(labels == 1, xp.bool)
    return xp.where(unknown, UNKNOWN, xp.astype(positive, xp.int8)) if unknown.any() else positive


def as_scores(scores: Any, labels: PartialLabels) -> NDArray[np.floating[Any]]:
    """Scores of rows with these labels (n, c) as floating-point numbers of the same shape.

    Raises:
        DataError: another shape, or a score that is NaN, infinite or no number.
    """
    scores = _as_table(scores, "scores", "biuf", *labels.shape)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        wrong = int((~np.isfinite(scores)).sum())
        raise DataError(f"scores must be finite: {wrong} of {scores.size} values are NaN or infinite")
    return np.asarray(scores)


def _as_table(values: Any, what: str, kinds: str, rows: int | None, classes: int | None) -> Any:
    """Values as an array with that many rows and classes, and a dtype of these kinds."""
    expected = f"({rows or 'rows'}, {classes or 'classes'})"
    try:
        table = values if is_torch_array(values) else np.asarray(values)
    except ValueError:  # rows of different lengths
        raise DataError(f"{what} must be a table {expected}, with equally long rows") from None
    n, c = table.shape if table.ndim == 2 else (0, 0)
    if not n or not c or n != (rows or n) or c != (classes or c):
        raise DataError(f"{what} must be a table {expected}, not of the shape {tuple(table.shape)}")
    if getattr(table.dtype, "kind", "f") not in kinds:
        raise DataError(f"{what} must be numbers, not of the type {table.dtype}")
    return table
