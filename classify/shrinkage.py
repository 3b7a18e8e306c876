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

The bootstrap draws no rows. A class's ranking is parted into bins, narrow at the top where cuts lie; how many
of a bin's positives and negatives are drawn is Poisson about how many there are. So it costs the same for a
thousand rows as for a million.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from classify.calibration import logits
from classify.ranking import Ranking
from classify.thresholds import Objective, by_class, tune

BINS, DRAWS = 256, 100
OUTSIDE = (0.025, 0.975)
JITTER = 1e-3  # variance of a cut's logit that there is at the least

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Thresholds, and how far to trust them, where they are cuts that an F gives each class."""

    thresholds: Floats  # (c,)
    intervals: Floats | None = None  # (c, 2): of 95 % of the bootstrap's; NaN for fewer than 2 positives
    loss: float | None = None  # how much less F is on unseen rows, by the bootstrap's optimism (Efron, 1983)


def estimate(scores: NDArray[Any], labels: Bools, objective: Objective, shrink: bool = True) -> Estimate:
    """Thresholds for unseen rows or, with shrink=False, those that are optimal on these.

    scores and labels are (n, c). Only cuts a class that an F decides are shrunk; the same rows always give
    the same.
    Raises DataError: as `thresholds.tune`.
    """
    exact = np.asarray(tune(scores, labels, objective))
    if objective.one_cut or objective.measure not in CURVES:
        return Estimate(exact)
    bins = _Bins.of(scores, labels)
    curve = CURVES[objective.measure](bins, exact, objective)
    drawn = bins.drawn(curve)  # (draws, c, bins + 1)
    z = bins.logits_at(drawn.argmax(axis=2))  # (draws, c)
    if shrink:
        single = tune(scores, labels, replace(objective, one_cut=True))
        weights, centre = _weights(z, bins.support, float(logits(single)[0]))
        z = weights * z + (1 - weights) * centre
    places = bins.places(z)[..., None]
    here = np.take_along_axis(drawn, places, axis=2)  # what a draw's cuts reach on its own rows
    there = np.take_along_axis(curve(bins.positives, bins.negatives)[None], places, axis=2)  # and on all
    return Estimate(
        expit(z.mean(axis=0)) if shrink else exact,
        np.where(bins.support[:, None] > 1, expit(np.quantile(z, OUTSIDE, axis=0)).T, np.nan),
        float((here - there).sum(axis=1).mean()),
    )


def _weights(z: Floats, support: Floats, single: float) -> tuple[Floats, float]:
    """How far to trust each class's own cut (c,), and the centre μ, from the bootstrap's logits (draws, c).

    A variance of few rows comes out too small by (p - 1) / p, p being how many the rarer of positives and
    negatives are; of one row there is none.
    """
    known = support > 1
    weights = np.zeros(z.shape[1])
    own, p = z[:, known].mean(axis=0), support[known]
    variances = (z[:, known].var(axis=0) + JITTER) * p / (p - 1)
    spread = _spread(own, variances)
    if not spread:
        return weights, single
    precisions = 1 / (variances + spread)
    weights[known] = spread * precisions
    return weights, (single / spread + own @ precisions) / (1 / spread + precisions.sum())


def _spread(own: Floats, variances: Floats) -> float:
    """τ² of estimates and their variances (k,): with it, their weighted squared deviations come to k - 1."""

    def excess(spread: float) -> float:
        precisions = 1 / (variances + spread)
        return float(precisions @ (own - own @ precisions / precisions.sum()) ** 2) - (len(own) - 1)

    if len(own) < 2 or excess(0) <= 0:
        return 0.0
    return float(brentq(excess, 0, np.ptp(own) ** 2 * len(own)))


@dataclass(frozen=True)
class _Bins:
    """Each class's ranking in bins, from the highest score to the lowest, with a cut at every edge."""

    ranking: Ranking
    scores: Floats  # (c, n)
    labels: Bools  # (c, n)
    edges: NDArray[np.intp]  # (c, bins + 1): how many scores are above
    z: Floats  # (c, bins + 1): the logit of the cut there
    positives: Floats  # (c, bins)
    negatives: Floats  # (c, bins)
    support: Floats  # (c,): positives or negatives, whichever are fewer

    @classmethod
    def of(cls, scores: NDArray[Any], labels: Bools) -> "_Bins":
        """The bins of scores and labels (n, c): at the top of one score each, then ever wider."""
        by, truth = by_class(scores, np.float64), by_class(labels, np.bool_)
        ranking, n = Ranking.of(by), by.shape[1]
        wanted = np.unique(np.round(n * (np.arange(BINS + 1) / BINS) ** 3).astype(np.intp))
        # Equal scores are not parted: an edge among them moves behind them.
        free = np.where(ranking.tied, n, np.arange(n + 1))
        edges = np.minimum.accumulate(free[:, ::-1], axis=1)[:, ::-1][:, wanted]
        cuts = np.stack([ranking.cuts(k) for k in edges.T], axis=1)
        # To take none, or all, is to cut at the highest score, or the lowest: their logits are no outliers.
        z = logits(np.clip(cuts, ranking.scores[:, -1:], ranking.scores[:, :1]))
        positives = np.diff(np.take_along_axis(ranking.totals(truth), edges, axis=1))
        negatives = np.diff(edges) - positives
        support = np.minimum(positives.sum(axis=1), negatives.sum(axis=1))
        return cls(ranking, by, truth, edges, z, positives, negatives, support)

    def sums(self, values: NDArray[Any]) -> Floats:
        """What values (c, n) add up to in each bin, (c, bins)."""
        found: Floats = np.diff(np.take_along_axis(self.ranking.totals(values), self.edges, axis=1))
        return found

    def drawn(self, curve: "Curve") -> Floats:
        """The curve (draws, c, bins + 1) when each class's rows are drawn again."""
        rng = np.random.default_rng(0)
        shape = (DRAWS, *self.positives.shape)
        positives, negatives = rng.poisson(self.positives, shape), rng.poisson(self.negatives, shape)
        none = ~positives.any(axis=2, keepdims=True)  # of a rare class: the draw tells nothing
        return curve(np.where(none, self.positives, positives), negatives)

    def logits_at(self, edges: NDArray[np.intp]) -> Floats:
        """The logits (draws, c) of the cuts at edges (draws, c)."""
        return np.take_along_axis(self.z, edges.T, axis=1).T

    def places(self, z: Floats) -> NDArray[np.intp]:
        """The edges (draws, c) at which cuts of these logits (draws, c) lie."""
        found = np.stack([np.searchsorted(-mine, -cuts) for mine, cuts in zip(self.z, z.T, strict=True)])
        places: NDArray[np.intp] = np.minimum(found.T, self.z.shape[1] - 1)
        return places


Curve = Callable[
    [NDArray[Any], NDArray[Any]], Floats
]  # positives and negatives a bin → worth of a cut at each edge


def _totals(bins: NDArray[Any]) -> NDArray[Any]:
    return np.pad(bins, [(0, 0)] * (bins.ndim - 1) + [(1, 0)]).cumsum(axis=-1)


def _f_curve(shares: Floats, objective: Objective) -> Curve:
    """The share of each class's F in the whole, (c,)."""

    def curve(positives: NDArray[Any], negatives: NDArray[Any]) -> Floats:
        tp = _totals(positives)
        found: Floats = objective.f(tp, tp + _totals(negatives), tp[..., -1:]) * shares[:, None]
        return found

    return curve


def _macro(bins: _Bins, exact: Floats, objective: Objective) -> Curve:
    return _f_curve(np.full(len(exact), 1 / len(exact)), objective)


def _weighted(bins: _Bins, exact: Floats, objective: Objective) -> Curve:
    support = bins.labels.sum(axis=1)
    return _f_curve(support / max(support.sum(), 1), objective)


def _linear(positive: Floats, negative: Floats) -> Curve:
    """Every positive and negative of a bin has its worth, whatever else is taken."""
    return lambda positives, negatives: _totals(positive * positives + negative * negatives)


def _micro(bins: _Bins, exact: Floats, objective: Objective) -> Curve:
    """What Dinkelbach's method adds up at the optimum (see `thresholds`), in F."""
    on = bins.scores >= exact[:, None]
    tp, k, p = (on & bins.labels).sum(), on.sum(), bins.labels.sum()
    whole = max(objective.parts(tp, k, p)[1], 1)
    f = objective.f(tp, k, p)
    positive, negative = (
        (hits - f * size) / whole for hits, size in (objective.parts(1, 1, 0), objective.parts(0, 1, 0))
    )
    return _linear(positive, negative)


def _samples(bins: _Bins, exact: Floats, objective: Objective) -> Curve:
    """The mean gain of switching a class on, as coordinate ascent adds them up at the optimum, in F."""
    on, n = bins.scores >= exact[:, None], bins.labels.shape[1]
    tp, size, p = (on & bins.labels).sum(axis=0), on.sum(axis=0), bins.labels.sum(axis=0)
    gains = np.empty(on.shape)
    for c, (mine, truth) in enumerate(zip(on, bins.labels, strict=True)):
        others, rest = tp - (mine & truth), size - mine
        gains[c] = objective.f(others + truth, rest + 1, p) - objective.f(others, rest, p)
    return _linear(
        *(
            bins.sums(gains * which) / n / np.maximum(bins.sums(which), 1)
            for which in (bins.labels, ~bins.labels)
        )
    )


CURVES: dict[str, Callable[[_Bins, Floats, Objective], Curve]] = {
    "macro": _macro, "weighted": _weighted, "micro": _micro, "samples": _samples,
}  # fmt: skip
