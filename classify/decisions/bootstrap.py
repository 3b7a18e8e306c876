"""How far a class's best threshold would move on other rows: the bootstrap of thresholds.

No rows are drawn. A class's ranking is divided into bins, narrow at the top where thresholds lie; the number
of positives and negatives drawn from a bin is Poisson with its count as the mean. So a million rows cost no
more than a thousand. The worth of a threshold, given these counts, depends on the objective: a `Curve`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import BoolArray, FloatArray, IntArray
from encode_once.classify.decisions.calibration import FINEST, logits
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.ranking import Ranking

BINS, DRAWS = 256, 100


@dataclass(frozen=True)
class Bins:
    """Each class's ranking in bins, from the highest score to the lowest, with a threshold at every edge."""

    ranking: Ranking  # (c, n)
    edges: IntArray  # (c, bins + 1): how many scores are above
    z: FloatArray  # (c, bins + 1): the logit of the threshold there
    positives: FloatArray  # (c, bins)
    negatives: FloatArray  # (c, bins)
    support: FloatArray  # (c,): the number of positives or of negatives, whichever is lower

    @classmethod
    def of(cls, ranking: Ranking) -> "Bins":
        """The bins of classes (c, n): of one score each at the top, then wider and wider."""
        n = ranking.scores.shape[1]
        edges = np.unique(np.round(n * (np.arange(BINS + 1) / BINS) ** 3).astype(np.intp))
        edges = _next_untied(ranking.tied)[:, edges]
        thresholds = np.stack([ranking.thresholds(k) for k in edges.T], axis=1)
        # `NEVER` and `ALWAYS` count as the highest and lowest score, so that their logits are no outliers.
        z = logits(np.clip(thresholds, ranking.sorted[:, -1:], ranking.sorted[:, :1]), FINEST)
        positives = np.diff(np.take_along_axis(ranking.tp, edges, axis=1))
        negatives = np.diff(edges) - positives
        support = np.minimum(positives.sum(axis=1), negatives.sum(axis=1))
        return cls(ranking, edges, z, positives, negatives, support)

    def sums(self, values: NDArray[Any]) -> FloatArray:
        """The sums of values (c, n) in each bin, (c, bins)."""
        return np.diff(np.take_along_axis(self.ranking.totals(values), self.edges, axis=1))

    def drawn(self, curve: "Curve") -> FloatArray:
        """The curve (draws, c, bins + 1) for redrawn rows of each class."""
        rng = np.random.default_rng(0)
        shape = (DRAWS, *self.positives.shape)
        positives, negatives = rng.poisson(self.positives, shape), rng.poisson(self.negatives, shape)
        empty = ~positives.any(axis=2, keepdims=True)  # such a draw of a rare class carries no information
        return curve(np.where(empty, self.positives, positives), negatives)

    def logits_at(self, edges: IntArray) -> FloatArray:
        """The logits (draws, c) of the thresholds at edges (draws, c)."""
        return np.take_along_axis(self.z, edges.T, axis=1).T

    def shared_thresholds(self, drawn: FloatArray) -> FloatArray:
        """The logit of each draw's best shared threshold, (draws,), of curves (draws, c, bins + 1)."""
        candidates = np.quantile(self.z, np.linspace(0, 1, BINS))
        edges = self.edges_at(np.repeat(candidates[:, None], len(self.z), axis=1))  # (candidates, c)
        total = np.take_along_axis(drawn, edges.T[None], axis=2).sum(axis=1)  # (draws, candidates)
        return np.asarray(candidates[total.argmax(axis=1)])

    def edges_at(self, z: FloatArray) -> IntArray:
        """The edges (draws, c) where thresholds with logits (draws, c) lie."""
        columns = zip(self.z, z.T, strict=True)
        edges = np.stack([np.searchsorted(-of_class, -column) for of_class, column in columns])
        return np.asarray(np.minimum(edges.T, self.z.shape[1] - 1))


# Positives and negatives per bin, (…, c, bins) → worth in F of a threshold at each edge, (…, c, bins + 1).
Curve = Callable[[NDArray[Any], NDArray[Any]], FloatArray]


def _next_untied(tied: BoolArray) -> IntArray:
    """For each k = 0 .. n the next k at which equal scores are not separated, (c, n + 1)."""
    n = tied.shape[1] - 1
    untied = np.where(tied, n, np.arange(n + 1))
    return np.minimum.accumulate(untied[:, ::-1], axis=1)[:, ::-1]


def _totals(bins: NDArray[Any]) -> NDArray[Any]:
    return np.pad(bins, [(0, 0)] * (bins.ndim - 1) + [(1, 0)]).cumsum(axis=-1)


def _f_curve(weights: FloatArray, objective: Objective) -> Curve:
    """weights: of each class's F in the objective, (c,)."""

    def curve(positives: NDArray[Any], negatives: NDArray[Any]) -> FloatArray:
        tp = _totals(positives)
        return np.asarray(objective.f(tp, tp + _totals(negatives), tp[..., -1:]) * weights[:, None])

    return curve


def _macro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    return _f_curve(np.full(len(exact), 1 / len(exact)), objective)


def _weighted(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    support = bins.positives.sum(axis=1)
    return _f_curve(support / max(support.sum(), 1), objective)


def _linear(positive: FloatArray, negative: FloatArray) -> Curve:
    """The sum of the worths (c, bins) of the selected positives and negatives, whatever else is selected."""
    return lambda positives, negatives: _totals(positive * positives + negative * negatives)


def _micro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """The terms of Dinkelbach's method at the optimum (see `exact`), in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, k, p = (on & labels).sum(), on.sum(), labels.sum()
    whole = max(objective.parts(tp, k, p)[1], 1)
    f = objective.f(tp, k, p)
    positive, negative = (
        (hits - f * size) / whole for hits, size in (objective.parts(1, 1, 0), objective.parts(0, 1, 0))
    )
    return _linear(positive, negative)


def _samples(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """The mean gains of predicting a class, as coordinate ascent adds them up at the optimum, in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, size, p = (on & labels).sum(axis=0), on.sum(axis=0), labels.sum(axis=0)
    gains = np.empty(on.shape)
    for c, (predicted, truth) in enumerate(zip(on, labels, strict=True)):
        other_tp, other_size = tp - (predicted & truth), size - predicted
        gains[c] = objective.f(other_tp + truth, other_size + 1, p) - objective.f(other_tp, other_size, p)
    positive, negative = (
        bins.sums(gains * rows) / labels.shape[1] / np.maximum(counts, 1)
        for rows, counts in ((labels, bins.positives), (~labels, bins.negatives))
    )
    return _linear(positive, negative)


CURVES: dict[str, Callable[[Bins, FloatArray, Objective], Curve]] = {
    "macro": _macro, "weighted": _weighted, "micro": _micro, "samples": _samples,
}  # fmt: skip
