"""A blend of heads: the sum of their logits, each times a weight, and an intercept, for all classes alike.

The weights are positive, and minimise the log loss of rows that the heads have not seen (Breiman, Stacked
regressions, 1996). On emotions, scene, medical and delicious that loss is lower on further rows than that of
the best mean of the logits. A mean is too cautious: heads that agree for different reasons are surer together
than each alone, and the mean of the logits of a rare class is below the logit of the mean probability.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from encode_once.classify.arrays import UNKNOWN, FloatArray, PartialLabels, Vectors
from encode_once.classify.data.matrix import chunks
from encode_once.classify.partial import is_partial, positives, unknown_entries

GAIN = 1e-3  # increase of the loss, as a share of it, for which a blend of fewer heads is taken
LEAST = 1e-3  # weight, so that a head remains where none is of use
PRECISION = 4.0  # 1 / prior variance of weights and intercept, so that few rows do not give extreme ones


def log_loss(logits: FloatArray | Vectors, Y: PartialLabels) -> float:
    """The log loss of all classes together, mean of the rows, of logits and labels Y (n, c).

    Unknown labels add nothing.
    """
    losses = np.logaddexp(0, np.where(positives(Y), -logits, logits))
    return float(np.where(unknown_entries(Y), 0, losses).sum(axis=1).mean())


def blended(logits: Sequence[Vectors], weights: FloatArray | Vectors, intercept: float) -> Vectors:
    """The logits (n, c) of the blend, from those of each head, (n, c) each, and the weights (heads,)."""
    total = np.full(logits[0].shape, intercept, np.float32)
    for values, weight in zip(logits, weights, strict=True):
        total += np.float32(weight) * values
    return total


def fit_blend(logits: Sequence[Vectors], Y: PartialLabels) -> tuple[FloatArray, float]:
    """The weights (heads,) and the intercept, from the logits of each head and the labels Y, (n, c) each.

    Heads are left out, that of the least weight first, as long as the loss stays within `GAIN` of the least.
    """
    chosen = [*range(len(logits))]
    weights, intercept = _of_least_loss(logits, Y)
    most = (1 + GAIN) * log_loss(blended(logits, weights, intercept), Y)
    while len(chosen) > 1:
        fewer = [head for head in chosen if head != chosen[weights.argmin()]]
        logits_of_fewer = [logits[head] for head in fewer]
        refitted = _of_least_loss(logits_of_fewer, Y)
        if log_loss(blended(logits_of_fewer, *refitted), Y) > most:
            break
        chosen, (weights, intercept) = fewer, refitted
    of_all = np.zeros(len(logits))
    of_all[chosen] = weights
    return of_all, intercept


def _of_least_loss(logits: Sequence[Vectors], Y: PartialLabels) -> tuple[FloatArray, float]:
    """The weights and the intercept of least log loss, with a normal prior around the mean of the logits."""
    heads = len(logits)
    prior = np.array([1 / heads] * heads + [0.0])

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        distance = parameters - prior
        loss, gradient = PRECISION / 2 * distance @ distance, PRECISION * distance
        for part in chunks(*Y.shape):
            z = np.stack([values[part].ravel() for values in logits]).astype(np.float64)
            y = Y[part].ravel()
            if is_partial(y):
                z, y = z[:, y != UNKNOWN], y[y != UNKNOWN]
            sums = parameters[:-1] @ z + parameters[-1]
            loss += np.logaddexp(0, np.where(y, -sums, sums)).sum()
            errors = expit(sums) - y
            gradient = gradient + np.append(z @ errors, errors.sum())
        return loss, gradient

    bounds = [(LEAST, None)] * heads + [(None, None)]
    *weights, intercept = minimize(loss_and_gradient, prior, jac=True, bounds=bounds, method="L-BFGS-B").x
    return np.array(weights), float(intercept)
