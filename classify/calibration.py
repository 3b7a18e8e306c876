"""Scores as probabilities: each class's are mapped by a rising function, learned from scores and labels.

`sigmoid` is Platt's: a logistic regression on the logit of the score; `temperature` has its slope alone;
`isotonic` a rising function of any shape, which wants hundreds of positives a class. The fitting is
scikit-learn's; what was learned are plain numbers, which a run keeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cache.errors import unknown_name

CLOSEST = 1e-6  # of a score to 0 or 1, where its logit is taken

Floats = NDArray[np.float64]


def logits(scores: NDArray[Any]) -> Floats:
    """The logit of scores, finite."""
    found: Floats = logit(np.clip(scores.astype(np.float64), CLOSEST, 1 - CLOSEST))
    return found


@dataclass(frozen=True)
class Calibration:
    """A rising function a class, from scores to probabilities."""

    method: str
    learned: list[Floats]  # a class: intercept and slope, (2,); of isotonic logits and probabilities, (2, m)

    @classmethod
    def fitted(cls, method: str, scores: NDArray[Any], labels: NDArray[np.bool_]) -> "Calibration":
        """Learn from scores and labels (n, c), by one of `METHODS`.

        A class that is true of no row, or of all, tells nothing, and keeps its scores.
        Raises UsageError: there is no such method.
        """
        if method not in METHODS:
            raise unknown_name("calibration", method, METHODS)
        learn, unchanged = METHODS[method]
        columns = zip(logits(scores).T, labels.T, strict=True)
        return cls(method, [learn(z, y) if 0 < y.sum() < len(y) else unchanged for z, y in columns])

    def __call__(self, scores: NDArray[Any]) -> Floats:
        """The probabilities (n, c) that scores (n, c) stand for."""
        columns = zip(logits(scores).T, self.learned, strict=True)
        if self.method == "isotonic":
            return np.stack([np.interp(z, *corners) for z, corners in columns], axis=1)
        return np.stack([expit(intercept + slope * z) for z, (intercept, slope) in columns], axis=1)


def _sigmoid(z: Floats, y: NDArray[np.bool_]) -> Floats:
    found = LogisticRegression().fit(z[:, None], y)
    return np.array([found.intercept_[0], found.coef_[0, 0]])


def _temperature(z: Floats, y: NDArray[np.bool_]) -> Floats:
    found = LogisticRegression(fit_intercept=False).fit(z[:, None], y)
    return np.array([0.0, found.coef_[0, 0]])


def _isotonic(z: Floats, y: NDArray[np.bool_]) -> Floats:
    found = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    return np.stack([found.X_thresholds_, found.y_thresholds_])


_LINE = np.array([0.0, 1.0])
_CORNERS = np.linspace(logit(CLOSEST), logit(1 - CLOSEST), 500)
METHODS: dict[
    str, tuple[Callable[[Floats, NDArray[np.bool_]], Floats], Floats]
] = {  # with what changes nothing
    "sigmoid": (_sigmoid, _LINE),
    "temperature": (_temperature, _LINE),
    "isotonic": (_isotonic, np.stack([_CORNERS, expit(_CORNERS)])),
}
