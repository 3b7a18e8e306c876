"""Validation rows for a head that is fitted without any."""

import numpy as np

from encode_once.classify.arrays import PartialLabels, as_partial_labels
from encode_once.classify.data.matrix import MatrixLike, RowView
from encode_once.classify.data.splits import VALIDATION_FRACTION, position_draws, validation_split


def with_validation(
    X: MatrixLike, Y: PartialLabels, X_val: MatrixLike | None, Y_val: PartialLabels | None, seed: int
) -> tuple[MatrixLike, PartialLabels, MatrixLike, PartialLabels]:
    """Train rows and validation rows; a tenth of the rows is set aside if X_val or Y_val is None.

    Raises:
        DataError: labels that are not 0, 1 or unknown, or other numbers of rows or classes than X and Y have.
    """
    Y = as_partial_labels(Y, len(X))
    if X_val is not None and Y_val is not None:
        return X, Y, X_val, as_partial_labels(Y_val, len(X_val), Y.shape[1])
    draws = position_draws(len(Y), seed)
    rows, validation = validation_split(Y, np.arange(len(Y)), VALIDATION_FRACTION, draws)
    return RowView(X, rows), Y[rows], RowView(X, validation), Y[validation]
