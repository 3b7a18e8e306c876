"""How far a class's best cut would move had other rows been drawn: the bootstrap of cuts.

No rows are drawn. A class's ranking is parted into bins, narrow at the top where cuts lie; how many of one's
positives and negatives are drawn is Poisson about how many there are. So it costs the same for a thousand
rows as for a million. What a cut is worth, given those counts, hangs on the objective: a `Curve`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import FloatArray
from encode_once.classify.decisions.calibration import FINEST, logits
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.ranking import Ranking

BINS, DRAWS = 256, 100


@dataclass(frozen=True)
class Bins:
    """Each class's ranking in bins, from the highest score to the lowest, with a cut at every edge."""

    ranking: Ranking  # (c, n)
    edges: NDArray[np.intp]  # (c, bins + 1): how many scores are above
    z: FloatArray  # (c, bins + 1): the logit of the cut there
    positives: FloatArray  # (c, bins)
    negatives: FloatArray  # (c, bins)
    support: FloatArray  # (c,): positives or negatives, whichever are fewer

    @classmethod
    def of(cls, ranking: Ranking) -> "Bins":
        """The bins of classes, (c, n): at the top of one score each, then ever wider."""
        n = ranking.scores.shape[1]
        wanted = np.unique(np.round(n * (np.arange(BINS + 1) / BINS) ** 3).astype(np.intp))
        # Equal scores are not parted: an edge among them moves behind them.
        free = np.where(ranking.tied, n, np.arange(n + 1))
        edges = np.minimum.accumulate(free[:, ::-1], axis=1)[:, ::-1][:, wanted]
        cuts = np.stack([ranking.cuts(k) for k in edges.T], axis=1)
        # To take none, or all, is to cut at the highest score, or the lowest: their logits are no outliers.
        z = logits(np.clip(cuts, ranking.sorted[:, -1:], ranking.sorted[:, :1]), FINEST)
        positives = np.diff(np.take_along_axis(ranking.tp, edges, axis=1))
        negatives = np.diff(edges) - positives
        support = np.minimum(positives.sum(axis=1), negatives.sum(axis=1))
        return cls(ranking, edges, z, positives, negatives, support)

    def sums(self, values: NDArray[Any]) -> FloatArray:
        """What values (c, n) add up to in each bin, (c, bins)."""
        found: FloatArray = np.diff(np.take_along_axis(self.ranking.totals(values), self.edges, axis=1))
        return found

    def drawn(self, curve: "Curve") -> FloatArray:
        """The curve (draws, c, bins + 1) when each class's rows are drawn again."""
        rng = np.random.default_rng(0)
        shape = (DRAWS, *self.positives.shape)
        positives, negatives = rng.poisson(self.positives, shape), rng.poisson(self.negatives, shape)
        none = ~positives.any(axis=2, keepdims=True)  # of a rare class: the draw tells nothing
        return curve(np.where(none, self.positives, positives), negatives)

    def logits_at(self, edges: NDArray[np.intp]) -> FloatArray:
        """The logits (draws, c) of the cuts at edges (draws, c)."""
        return np.take_along_axis(self.z, edges.T, axis=1).T

    def single_cuts(self, drawn: FloatArray) -> FloatArray:
        """The logit of each draw's best cut for all classes, (draws,), of curves (draws, c, bins + 1)."""
        shared = np.quantile(self.z, np.linspace(0, 1, BINS))
        places = self.places(np.repeat(shared[:, None], len(self.z), axis=1))  # (cuts, c)
        total = np.take_along_axis(drawn, places.T[None], axis=2).sum(axis=1)  # (draws, cuts)
        found: FloatArray = shared[total.argmax(axis=1)]
        return found

    def places(self, z: FloatArray) -> NDArray[np.intp]:
        """The edges (draws, c) at which cuts of these logits (draws, c) lie."""
        found = np.stack([np.searchsorted(-mine, -cuts) for mine, cuts in zip(self.z, z.T, strict=True)])
        places: NDArray[np.intp] = np.minimum(found.T, self.z.shape[1] - 1)
        return places


# Positives and negatives a bin, (…, c, bins) → what a cut at each edge is worth, (…, c, bins + 1), in F.
Curve = Callable[[NDArray[Any], NDArray[Any]], FloatArray]


def _totals(bins: NDArray[Any]) -> NDArray[Any]:
    return np.pad(bins, [(0, 0)] * (bins.ndim - 1) + [(1, 0)]).cumsum(axis=-1)


def _f_curve(shares: FloatArray, objective: Objective) -> Curve:
    """The share of each class's F in the whole, (c,)."""

    def curve(positives: NDArray[Any], negatives: NDArray[Any]) -> FloatArray:
        tp = _totals(positives)
        found: FloatArray = objective.f(tp, tp + _totals(negatives), tp[..., -1:]) * shares[:, None]
        return found

    return curve


def _macro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    return _f_curve(np.full(len(exact), 1 / len(exact)), objective)


def _weighted(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    support = bins.positives.sum(axis=1)
    return _f_curve(support / max(support.sum(), 1), objective)


def _linear(positive: FloatArray, negative: FloatArray) -> Curve:
    """Every positive and negative of a bin has its worth, whatever else is taken."""
    return lambda positives, negatives: _totals(positive * positives + negative * negatives)


def _micro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """What Dinkelbach's method adds up at the optimum (see `thresholds`), in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, k, p = (on & labels).sum(), on.sum(), labels.sum()
    whole = max(objective.parts(tp, k, p)[1], 1)
    f = objective.f(tp, k, p)
    positive, negative = (
        (hits - f * size) / whole for hits, size in (objective.parts(1, 1, 0), objective.parts(0, 1, 0))
    )
    return _linear(positive, negative)


def _samples(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """The mean gain of switching a class on, as coordinate ascent adds them up at the optimum, in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, size, p = (on & labels).sum(axis=0), on.sum(axis=0), labels.sum(axis=0)
    gains = np.empty(on.shape)
    for c, (mine, truth) in enumerate(zip(on, labels, strict=True)):
        others, rest = tp - (mine & truth), size - mine
        gains[c] = objective.f(others + truth, rest + 1, p) - objective.f(others, rest, p)
    positive, negative = (
        bins.sums(gains * which) / labels.shape[1] / np.maximum(many, 1)
        for which, many in ((labels, bins.positives), (~labels, bins.negatives))
    )
    return _linear(positive, negative)


CURVES: dict[str, Callable[[Bins, FloatArray, Objective], Curve]] = {
    "macro": _macro, "weighted": _weighted, "micro": _micro, "samples": _samples,
}  # fmt: skip
