"""Calibration: a rising function per class from scores to probabilities, fitted on scores and labels.

`sigmoid` is Platt's (1999): a logistic regression on the logit of the score. Intercept and slope are shrunk
toward 0 and 1, which change nothing, so that few positives do not distort a class: the prior's standard
deviation of ½ was chosen by `bench thresholds`. `temperature` has a slope per class and no intercept.
`isotonic` is a rising function of any shape, as fitted by scikit-learn; it needs hundreds of positives per
class. The parameters are plain numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from encode_once.cache.errors import unknown_name
from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import BoolArray, FloatArray, IntArray, PartialLabels, Probabilities, Scores
from encode_once.classify.decisions.ranking import parts
from encode_once.classify.partial import always, entry_weights, positives, unknown_entries
from encode_once.classify.platt import fit_lines

METHODS = ("sigmoid", "isotonic", "temperature")
COARSE = 1e-6  # calibrated scores are clipped to [COARSE, 1 - COARSE]
FINEST = 1e-12  # the same for scores that are only compared with thresholds
UNCHANGED = (0.0, 1.0)  # intercept and slope
PRECISION = 4.0  # 1 / prior variance of intercept and slope


def logits(scores: NDArray[Any], clip: float = COARSE) -> FloatArray:
    """The logits of scores clipped to [clip, 1 - clip]."""
    return np.asarray(logit(np.clip(scores.astype(np.float64), clip, 1 - clip)))


@dataclass(frozen=True)
class Calibration:
    """A rising function per class from scores to probabilities."""

    method: str  # one of METHODS
    # Per class: intercept and slope, (2,), or for isotonic the corners' logits and probabilities, (2, m).
    parameters: list[FloatArray]

    __repr__ = short_repr

    @classmethod
    def fitted(cls, method: str, scores: Scores, labels: PartialLabels) -> "Calibration":
        """Fit one of `METHODS` on scores and labels (n, c), each class on the rows whose label is known.

        Raises:
            UsageError: unknown method.
        """
        if method not in METHODS:
            raise unknown_name("calibration", method, METHODS)
        if method == "isotonic":
            classes = zip(logits(scores).T, positives(labels).T, ~unknown_entries(labels).T, strict=True)
            return cls(method, [_isotonic(z[rows], y[rows]) for z, y, rows in classes])
        return cls(method, [*_lines(logits(scores), labels, intercept=method == "sigmoid")])

    def of_classes(self, classes: IntArray) -> "Calibration":
        """The same with these classes, in this order."""
        return Calibration(self.method, [self.parameters[c] for c in classes])

    def __call__(self, scores: Scores) -> Probabilities:
        """The probabilities (n, c) for scores (n, c)."""
        probabilities = np.empty(scores.shape)
        for rows in parts(*scores.shape):
            z = logits(scores[rows])
            if self.method == "isotonic":
                columns = zip(z.T, self.parameters, strict=True)
                probabilities[rows] = np.stack(
                    [np.interp(of_class, *corners) for of_class, corners in columns], axis=1
                )
            else:
                intercepts, slopes = np.array(self.parameters).T
                probabilities[rows] = expit(intercepts + slopes * z)
        return probabilities


def _lines(z: FloatArray, labels: PartialLabels, intercept: bool) -> FloatArray:
    """Each class's intercept and slope (c, 2), for logits and labels (n, c).

    A class whose labels are all equal keeps its scores. The order of scores is never reversed: a slope that
    would be negative is 0.
    """
    prior = np.array(UNCHANGED)[:, None]
    start = np.tile(prior, z.shape[1])
    free = np.tile([[intercept], [True]], z.shape[1])
    weights, Y = entry_weights(labels), positives(labels)
    lines = fit_lines(z, Y, start, prior, PRECISION, free, weights)
    falling = lines[1] < 0
    if falling.any():
        lines[1, falling], free[1, falling] = 0, False
        lines[:, falling] = fit_lines(
            z[:, falling],
            Y[:, falling],
            lines[:, falling],
            prior,
            PRECISION,
            free[:, falling],
            None if weights is None else weights[:, falling],
        )
    constant = always(labels) | ~Y.any(axis=0)
    return np.where(constant, prior, lines).T


def _isotonic(z: FloatArray, y: BoolArray) -> FloatArray:
    """The corners (2, m) of a class's function."""
    if y.all() or not y.any():
        corners = logit(np.linspace(COARSE, 1 - COARSE, 1000))
        return np.stack([corners, expit(corners)])
    from sklearn.isotonic import IsotonicRegression  # takes a second to import

    model = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    return np.stack([model.X_thresholds_, model.y_thresholds_])
