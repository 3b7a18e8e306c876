"""Thresholds for unseen rows: each class's own is shrunk toward a shared one, more so for rare classes.

A threshold tuned on a class with ten positives fits those ten. How far it would move on other rows is
estimated by the bootstrap: the class is redrawn and tuned again, many times. Let z_c be the mean logit of its
thresholds there and v_c their variance. Classes differ, too: let their true thresholds θ_c spread about a
centre μ with variance τ², and let the best shared threshold g be a first guess at μ:

    z_c ~ N(θ_c, v_c),   θ_c ~ N(μ, τ²),   μ ~ N(g, τ²).

τ² is the part of the spread of the z_c that the v_c do not explain (Paule and Mandel, 1982). Then

    μ = (g / τ² + Σ z_c / (v_c + τ²)) / (1 / τ² + Σ 1 / (v_c + τ²)),
    θ_c = w_c z_c + (1 - w_c) μ,   w_c = τ² / (τ² + v_c):

empirical Bayes (Efron and Morris, 1973). With many rows w_c is near 1, and the thresholds are the exact ones
except for their jitter; with few rows they approach the shared one, which a class with at most one positive
gets immediately.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import FloatArray, IntArray, PartialLabels, Probabilities
from encode_once.classify.decisions.bootstrap import CURVES, Bins
from encode_once.classify.decisions.calibration import FINEST, logits
from encode_once.classify.decisions.exact import ranked, solve
from encode_once.classify.decisions.guarantees import Guarantee, certified
from encode_once.classify.decisions.objectives import Objective

OUTSIDE = (0.025, 0.975)
JITTER = 1e-3  # the least variance of a threshold's logit


@dataclass(frozen=True)
class ThresholdEstimate:
    """Thresholds and, if an F decides each class's own, how far to trust them."""

    thresholds: FloatArray  # (c,)
    intervals: FloatArray | None = None  # (c, 2): 95 %, given the model; NaN for fewer than 2 positives
    loss: float | None = None  # how much lower F is on unseen rows, by the bootstrap's optimism (Efron, 1983)
    guarantee: Guarantee | None = None  # of thresholds that hold a precision or recall on unseen rows

    __repr__ = short_repr

    def of_classes(self, classes: IntArray) -> "ThresholdEstimate":
        """The same with these classes, in this order."""
        return ThresholdEstimate(
            self.thresholds[classes],
            None if self.intervals is None else self.intervals[classes],
            self.loss,
            None if self.guarantee is None else self.guarantee.of_classes(classes),
        )


def estimate(
    scores: Probabilities, labels: PartialLabels, objective: Objective, shrink: bool = True
) -> ThresholdEstimate:
    """Thresholds for unseen rows or, with shrink=False, the optimum on these rows.

    scores and labels are (n, c). Only thresholds per class that an F decides are shrunk; those for a
    precision or recall are `guarantees.certified`. Equal rows always give equal results.

    Raises:
        DataError: as `exact.tune`.
    """
    ranking = ranked(scores, labels)
    del scores  # the ranking has a copy
    if shrink and objective.measure in ("precision", "recall"):
        thresholds, guarantee = certified(ranking, objective)
        return ThresholdEstimate(thresholds, guarantee=guarantee)
    exact = solve(ranking, objective)
    if objective.shared or objective.measure not in CURVES:
        return ThresholdEstimate(exact)
    bins = Bins.of(ranking)
    curve = CURVES[objective.measure](bins, exact, objective)
    z, of_draws = bins.best(curve)  # (draws, c) and (draws,)
    deviations = np.zeros(z.shape[1])
    if shrink:
        shared = logits(solve(ranking, replace(objective, shared=True)), FINEST)[0]
        z, deviations = _shrunk(z, bins.support, shared + of_draws - of_draws.mean())
    spread = z + deviations * bins.deviates()
    return ThresholdEstimate(
        expit(z.mean(axis=0)) if shrink else exact,
        np.where(bins.support[:, None] > 1, expit(np.quantile(spread, OUTSIDE, axis=0)).T, np.nan),
        max(bins.optimism(curve, z), 0.0),
    )


def _shrunk(z: FloatArray, support: FloatArray, shared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The logits θ of each draw, (draws, c), from its own thresholds' z and its shared threshold g, (draws,).

    Also returns the extra standard deviation of the true thresholds, (c,): over the draws a threshold has the
    variance w² v, but given the rows θ has w v. The variance of p rows, the number of positives or of
    negatives, whichever is lower, is too small by (p - 1) / p; a single row has none, and its class gets the
    centre.
    """
    informative = support > 1
    p = support[informative]
    variances = (z[:, informative].var(axis=0) + JITTER) * p / (p - 1)
    spread = between_variance(z[:, informative].mean(axis=0), variances)
    weights, deviations, centre = np.zeros(z.shape[1]), np.zeros(z.shape[1]), shared[:, None]
    if spread:
        precisions = 1 / (variances + spread)
        weights[informative] = w = spread * precisions
        deviations[informative] = np.sqrt(w * (1 - w) * variances)
        weighted = shared / spread + z[:, informative] @ precisions
        centre = (weighted / (1 / spread + precisions.sum()))[:, None]
    return weights * z + (1 - weights) * centre, deviations


def between_variance(estimates: FloatArray, variances: FloatArray) -> float:
    """τ² of estimates and their variances (k,), for which their weighted squared deviations sum to k - 1.

    That sum falls with τ² and is convex, so Newton's method rises from 0 to the root.
    """
    spread, before = 0.0, -1.0
    while spread > before and len(estimates) > 1:
        before = spread
        precisions = 1 / (variances + spread)
        deviations = estimates - estimates @ precisions / precisions.sum()
        excess = precisions @ deviations**2 - (len(estimates) - 1)
        if excess > 0:
            spread += float(excess / ((precisions * deviations) @ (precisions * deviations)))
    return spread
