"""Array types of `classify`, each with one dtype, for n rows, c classes and d columns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Vectors = NDArray[np.float32]  # (n, d)
LabelMatrix = NDArray[np.bool_]  # (n, c)
Scores = NDArray[np.float32]  # (n, c): what a head gives each class, not calibrated
Probabilities = NDArray[np.float64]  # (n, c): what a decision rule makes of scores, calibrated if it says so
RowIndex = NDArray[np.intp]  # (m,): positions of rows
Groups = NDArray[np.intp]  # (n,): rows with equal numbers belong together
RowWeights = NDArray[np.float32]  # (n, draws): the weight of each row in each bootstrap draw, 1 on average
State = dict[str, NDArray[Any]]  # what a head or a vectoriser learned, by name; any dtypes
