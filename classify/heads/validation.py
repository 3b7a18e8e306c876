"""Validation rows for a head that is fitted without any."""

import numpy as np

from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.data.matrix import MatrixLike, RowView
from encode_once.classify.data.splits import VALIDATION_FRACTION, position_draws, validation_split


def with_validation(
    X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike | None, Y_val: LabelMatrix | None, seed: int
) -> tuple[MatrixLike, LabelMatrix, MatrixLike, LabelMatrix]:
    """Train rows and validation rows; a tenth of the rows is set aside if X_val or Y_val is None."""
    if X_val is not None and Y_val is not None:
        return X, Y, X_val, Y_val
    draws = position_draws(len(Y), seed)
    rows, validation = validation_split(Y, np.arange(len(Y)), VALIDATION_FRACTION, draws)
    return RowView(X, rows), Y[rows], RowView(X, validation), Y[validation]
