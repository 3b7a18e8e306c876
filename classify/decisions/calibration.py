"""Scores as probabilities: each class's are mapped by a rising function, learned from scores and labels.

`sigmoid` is Platt's (1999): a logistic regression on the logit of the score. Intercept and slope are drawn
toward 0 and 1, which change nothing, so that a class of few positives is not bent by them: with a standard
deviation of ½, as measured in `bench thresholds`. `temperature` has the slope alone, one a class.
`isotonic` is a rising function of any shape, as scikit-learn fits it, which wants hundreds of positives a
class. What was learned are plain numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import BoolArray, FloatArray, LabelMatrix
from encode_once.classify.platt import fit_lines

METHODS = ("sigmoid", "isotonic", "temperature")
CLOSEST = 1e-6  # of a score to 0 or 1 where it is calibrated: surer ones count as no surer
FINEST = 1e-12  # the same where scores are only compared with cuts
UNCHANGED = (0.0, 1.0)  # intercept and slope
PRECISION = 4.0  # 1 / variance of either, before any row is seen


def logits(scores: NDArray[Any], closest: float = CLOSEST) -> FloatArray:
    """The logit of scores, none of which counts as closer to 0 or 1 than that."""
    found: FloatArray = logit(np.clip(scores.astype(np.float64), closest, 1 - closest))
    return found


@dataclass(frozen=True)
class Calibration:
    """A rising function a class, from scores to probabilities."""

    method: str  # one of METHODS
    # Of each class intercept and slope, (2,); of isotonic, logits and probabilities, (2, m).
    learned: list[FloatArray]

    @classmethod
    def fitted(cls, method: str, scores: NDArray[Any], labels: LabelMatrix) -> "Calibration":
        """Learn from scores and labels (n, c), by one of `METHODS`.

        Raises UsageError: there is no such method.
        """
        if method not in METHODS:
            raise unknown_name("calibration", method, METHODS)
        if method == "isotonic":
            return cls(method, [_isotonic(z, y) for z, y in zip(logits(scores).T, labels.T, strict=True)])
        return cls(method, [*_lines(logits(scores), labels, intercept=method == "sigmoid")])

    def __call__(self, scores: NDArray[Any]) -> FloatArray:
        """The probabilities (n, c) that scores (n, c) stand for."""
        z = logits(scores)
        if self.method == "isotonic":
            return np.stack([np.interp(of, *one) for of, one in zip(z.T, self.learned, strict=True)], axis=1)
        intercepts, slopes = np.array(self.learned).T
        found: FloatArray = expit(intercepts + slopes * z)
        return found


def _lines(z: FloatArray, labels: LabelMatrix, intercept: bool) -> FloatArray:
    """Each class's intercept and slope (c, 2), of logits and labels (n, c).

    A class whose labels are all equal keeps its scores. No score is turned round: where the slope would be
    negative, it is 0.
    """
    prior = np.array(UNCHANGED)[:, None]
    start = np.tile(prior, z.shape[1])
    free = np.tile([[intercept], [True]], z.shape[1])
    lines = fit_lines(z, labels, start, prior, PRECISION, free)
    turned = lines[1] < 0
    if turned.any():
        lines[1, turned], free[1, turned] = 0, False
        lines[:, turned] = fit_lines(
            z[:, turned], labels[:, turned], lines[:, turned], prior, PRECISION, free[:, turned]
        )
    constant = labels.all(axis=0) | ~labels.any(axis=0)
    return np.where(constant, prior, lines).T


def _isotonic(z: FloatArray, y: BoolArray) -> FloatArray:
    """The corners (2, m) of a class's function."""
    if y.all() or not y.any():
        corners = logit(np.linspace(CLOSEST, 1 - CLOSEST, 1000))
        return np.stack([corners, expit(corners)])
    from sklearn.isotonic import IsotonicRegression  # takes a second to import: only if it is asked for

    found = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    return np.stack([found.X_thresholds_, found.y_thresholds_])
