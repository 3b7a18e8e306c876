"""Cuts that hold on unseen rows: each class's own, drawn toward a common one by how little its rows tell.

A cut tuned on a class with ten positives fits those ten. How far it would move, had other rows been drawn, is
seen by the bootstrap: the class is drawn again and tuned again, many times. Let z_c be the mean logit of its
cuts there and v_c their variance. Classes differ, too: let their true cuts θ_c spread about a centre μ with
variance τ², and let the best single cut for all, g, be a first guess at μ:

    z_c ~ N(θ_c, v_c),   θ_c ~ N(μ, τ²),   μ ~ N(g, τ²).

τ² is what explains the spread of the z_c beyond the v_c (Paule and Mandel, 1982). Then

    μ = (g / τ² + Σ z_c / (v_c + τ²)) / (1 / τ² + Σ 1 / (v_c + τ²)),
    θ_c = w_c z_c + (1 - w_c) μ,   w_c = τ² / (τ² + v_c):

empirical Bayes (Efron and Morris, 1973). With many rows w_c is near 1, and the cuts are the exact ones but
for their jitter; with few, the single cut; a class with no positives, or one, has it at once.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from encode_once.classify.arrays import FloatArray, LabelMatrix
from encode_once.classify.decisions.bootstrap import CURVES, Bins
from encode_once.classify.decisions.calibration import FINEST, logits
from encode_once.classify.decisions.exact import Objective, ranked, solve
from encode_once.classify.decisions.guarantees import Guarantee, certified

OUTSIDE = (0.025, 0.975)
JITTER = 1e-3  # variance of a cut's logit that there is at the least


@dataclass(frozen=True)
class ThresholdEstimate:
    """Thresholds, and how far to trust them, where they are cuts that an F gives each class."""

    thresholds: FloatArray  # (c,)
    # (c, 2): 95 % likely, given the model; NaN for fewer than 2 positives
    intervals: FloatArray | None = None
    loss: float | None = None  # how much less F is on unseen rows, by the bootstrap's optimism (Efron, 1983)
    guarantee: Guarantee | None = None  # of thresholds that hold a precision or recall on unseen rows


def estimate(
    scores: NDArray[Any], labels: LabelMatrix, objective: Objective, shrink: bool = True
) -> ThresholdEstimate:
    """Thresholds for unseen rows or, with shrink=False, those that are optimal on these.

    scores and labels are (n, c). Only cuts a class that an F decides are shrunk; those for a precision or
    recall are `guarantees.certified`. The same rows always give the same.
    Raises DataError: as `thresholds.tune`.
    """
    ranking = ranked(scores, labels)
    if shrink and objective.measure in ("precision", "recall"):
        thresholds, guarantee = certified(ranking, objective)
        return ThresholdEstimate(thresholds, guarantee=guarantee)
    exact = solve(ranking, objective)
    if objective.one_cut or objective.measure not in CURVES:
        return ThresholdEstimate(exact)
    bins = Bins.of(ranking)
    curve = CURVES[objective.measure](bins, exact, objective)
    drawn = bins.drawn(curve)  # (draws, c, bins + 1)
    z = bins.logits_at(drawn.argmax(axis=2))  # (draws, c)
    rest = np.zeros(z.shape[1])
    if shrink:
        single = logits(solve(ranking, replace(objective, one_cut=True)), FINEST)[0]
        of_draws = bins.single_cuts(drawn)  # (draws,)
        z, rest = _shrunk(z, bins.support, single + of_draws - of_draws.mean())
    likely = z + rest * np.random.default_rng(0).standard_normal(z.shape)
    places = bins.places(z)[..., None]
    here = np.take_along_axis(drawn, places, axis=2)  # what a draw's cuts reach on its own rows
    there = np.take_along_axis(curve(bins.positives, bins.negatives)[None], places, axis=2)  # and on all
    return ThresholdEstimate(
        expit(z.mean(axis=0)) if shrink else exact,
        np.where(bins.support[:, None] > 1, expit(np.quantile(likely, OUTSIDE, axis=0)).T, np.nan),
        max(float((here - there).sum(axis=1).mean()), 0.0),
    )


def _shrunk(z: FloatArray, support: FloatArray, single: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The logits θ of each draw, (draws, c), from those of its own cuts z and of its single cut g, (draws,).

    Beside them, how far the true cuts may lie off beyond what draws tell, (c,): over the draws a cut varies
    by w² v, but given the rows θ does by w v. A variance of few rows comes out too small by (p - 1) / p, p
    being how many the rarer of positives and negatives are, (c,); of one row there is none, and its class has
    the centre.
    """
    known = support > 1
    p = support[known]
    variances = (z[:, known].var(axis=0) + JITTER) * p / (p - 1)
    spread = between_variance(z[:, known].mean(axis=0), variances)
    weights, rest, centre = np.zeros(z.shape[1]), np.zeros(z.shape[1]), single[:, None]
    if spread:
        precisions = 1 / (variances + spread)
        weights[known] = w = spread * precisions
        rest[known] = np.sqrt(w * (1 - w) * variances)
        found = (single / spread + z[:, known] @ precisions) / (1 / spread + precisions.sum())
        centre = found[:, None]
    return weights * z + (1 - weights) * centre, rest


def between_variance(own: FloatArray, variances: FloatArray) -> float:
    """τ² of estimates and their variances (k,): with it, their weighted squared deviations come to k - 1."""

    def excess(spread: float) -> float:
        precisions = 1 / (variances + spread)
        return float(precisions @ (own - own @ precisions / precisions.sum()) ** 2) - (len(own) - 1)

    if len(own) < 2 or excess(0) <= 0:
        return 0.0
    return float(brentq(excess, 0, np.ptp(own) ** 2 * len(own)))
