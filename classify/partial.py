"""Labels of which some entries (row, class) are unknown: they count neither as positive nor as negative.

Labels without such entries are bool. With some they are int8, with `UNKNOWN` in these: whatever takes bool
labels only then raises, rather than count an unknown entry as a negative. NumPy's arrays or torch's.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from encode_once.classify.arrays import UNKNOWN, BoolArray, FloatArray, IntArray, LabelMatrix, PartialLabels


def is_partial(labels: Any) -> bool:
    """Whether labels (n, c) have the dtype of those with unknown entries."""
    return bool(labels.dtype != array_namespace(labels).bool)


def positives(labels: Any) -> Any:
    """Which entries are positive, bool (n, c)."""
    return labels == 1 if is_partial(labels) else labels


def unknown_entries(labels: Any) -> Any:
    """Which entries are unknown, bool (n, c)."""
    return labels == UNKNOWN if is_partial(labels) else array_namespace(labels).zeros_like(labels)


def entry_weights(labels: PartialLabels) -> FloatArray | None:
    """1 for every entry but the unknown ones, 0 for these, (n, c); None if no entry is unknown."""
    return (labels != UNKNOWN).astype(np.float64) if is_partial(labels) else None


def without_unknown(labels: PartialLabels, predictions: LabelMatrix) -> tuple[LabelMatrix, LabelMatrix]:
    """Labels and predictions (n, c) with unknown entries as neither true nor predicted.

    Counts of true positives, predictions and positives are then those of the other entries.
    """
    if not is_partial(labels):
        return positives(labels), predictions
    return positives(labels), predictions & (labels != UNKNOWN)


def rows_by_class(labels: PartialLabels) -> IntArray:
    """The number of rows whose entry is known, of each class, (c,)."""
    return np.asarray((labels != UNKNOWN).sum(axis=0) if is_partial(labels) else _height(labels), np.intp)


def frequencies(labels: PartialLabels) -> FloatArray:
    """The share of positives among the known entries of each class, (c,); 0 for a class without any."""
    return np.asarray(positives(labels).sum(axis=0) / np.maximum(rows_by_class(labels), 1))


def always(labels: PartialLabels) -> BoolArray:
    """Which classes have positives and no negatives, (c,)."""
    return np.asarray(positives(labels).any(axis=0) & ~(labels == 0).any(axis=0))


def with_frequencies(labels: PartialLabels) -> Any:
    """Labels (n, c) with the class's frequency in place of unknown entries; bool if there are none."""
    if not is_partial(labels):
        return labels
    filled = np.where(labels == UNKNOWN, frequencies(labels), labels)
    return np.asarray(filled, np.float32)


def count(labels: PartialLabels) -> int:
    """The number of unknown entries."""
    return int((labels == UNKNOWN).sum()) if is_partial(labels) else 0


def _height(labels: PartialLabels) -> IntArray:
    return np.full(labels.shape[1], len(labels), np.intp)
