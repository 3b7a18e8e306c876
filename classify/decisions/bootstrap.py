"""How far a class's best threshold would move on other rows: the bootstrap of thresholds.

No rows are drawn. A class's ranking is divided into bins, narrow at the top where thresholds lie; the number
of positives and negatives drawn from a bin is Poisson with its count as the mean. So a million rows cost no
more than a thousand. The worth of a threshold, given these counts, depends on the objective: a `Curve`.

Each class has random streams of its own, which depend on its bins: the order of classes changes nothing. They
give the same numbers each time, so that draws are made again where they are needed rather than stored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from encode_once.classify.arrays import FloatArray, IntArray
from encode_once.classify.decisions.calibration import FINEST, logits
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.ranking import Ranking, next_untied

BINS, DRAWS = 256, 100
CELLS = 2**22  # (draws, classes, bins) at a time: 34 MB for each float64 array
ALL = slice(None)


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
        sizes, shares = ranking.sizes[:, None], (np.arange(BINS + 1) / BINS) ** 3
        edges = np.round(sizes * shares).astype(np.intp)
        if (sizes == sizes[0]).all():  # of few rows, several edges are one
            edges = np.tile(np.unique(edges[0]), (len(sizes), 1))
        z, tp = np.empty(edges.shape), np.empty(edges.shape, np.intp)
        for part, block in ranking.with_slices():
            edges[part] = np.take_along_axis(next_untied(block.tied), edges[part], axis=1)
            thresholds = np.stack([block.thresholds(k) for k in edges[part].T], axis=1)
            # `NEVER` and `ALWAYS` count as the highest and lowest score: their logits are no outliers.
            lowest = np.take_along_axis(block.sorted, np.maximum(sizes[part] - 1, 0), axis=1)
            z[part] = logits(np.clip(thresholds, lowest, block.sorted[:, :1]), FINEST)
            tp[part] = np.take_along_axis(block.tp, edges[part], axis=1)
        z = np.where(sizes > 0, z, 0.0)  # of a class without known entries
        positives = np.diff(tp)
        negatives = np.diff(edges) - positives
        support = np.minimum(positives.sum(axis=1), negatives.sum(axis=1))
        return cls(ranking, edges, z, positives, negatives, support)

    def sums(self, c: int, values: NDArray[Any]) -> FloatArray:
        """The sums in each bin, (bins,), of a value for each row of class c, (n,)."""
        totals = np.r_[0, values[self.ranking.order[c]].cumsum()]
        return np.asarray(np.diff(totals[self.edges[c]]), np.float64)

    def streams(self, c: int) -> list[np.random.Generator]:
        """Two independent streams of random numbers for class c: for its rows, and for its true threshold."""
        content = b"".join(values[c].tobytes() for values in (self.z, self.positives, self.negatives))
        seeds = np.random.SeedSequence(xxhash.xxh3_64_intdigest(content)).spawn(2)
        return [np.random.default_rng(seed) for seed in seeds]

    def drawn(self, curve: "Curve") -> Iterator[tuple[slice, FloatArray]]:
        """The curve (draws, block, bins + 1) for redrawn rows of each class, by blocks of classes."""
        c, bins = self.positives.shape
        step = max(CELLS // (DRAWS * bins), 1)
        for start in range(0, c, step):
            classes = slice(start, min(start + step, c))
            numbers = range(c)[classes]
            positives, negatives = np.empty((2, DRAWS, len(numbers), bins))
            for place, number in enumerate(numbers):
                rng, _ = self.streams(number)
                positives[:, place] = rng.poisson(self.positives[number], (DRAWS, bins))
                negatives[:, place] = rng.poisson(self.negatives[number], (DRAWS, bins))
            empty = ~positives.any(
                axis=2, keepdims=True
            )  # such a draw of a rare class carries no information
            positives = np.where(empty, self.positives[classes], positives)
            yield classes, curve(positives, negatives, classes)

    def deviates(self) -> FloatArray:
        """Standard normal numbers, (draws, c)."""
        c = len(self.z)
        return np.stack([self.streams(number)[1].standard_normal(DRAWS) for number in range(c)], axis=1)

    def logits_at(self, edges: IntArray, classes: slice = ALL) -> FloatArray:
        """The logits (draws, block) of the thresholds at edges (draws, block) of these classes."""
        return np.take_along_axis(self.z[classes], edges.T, axis=1).T

    def best(self, curve: "Curve") -> tuple[FloatArray, FloatArray]:
        """The logits of each draw's best thresholds, (draws, c), and of its best shared one, (draws,)."""
        candidates = np.quantile(self.z, np.linspace(0, 1, BINS))
        edges = self.edges_at(np.repeat(candidates[:, None], len(self.z), axis=1))  # (candidates, c)
        z, totals = [], np.zeros((DRAWS, BINS))
        for classes, drawn in self.drawn(curve):
            z.append(self.logits_at(drawn.argmax(axis=2), classes))
            totals += np.take_along_axis(drawn, edges.T[None, classes], axis=2).sum(axis=1)
        return np.concatenate(z, axis=1), np.asarray(candidates[totals.argmax(axis=1)])

    def optimism(self, curve: "Curve", z: FloatArray) -> float:
        """How much more thresholds of these logits, (draws, c), reach on a draw's rows than on all rows."""
        edges, losses = self.edges_at(z)[..., None], np.zeros(DRAWS)
        for classes, drawn in self.drawn(curve):
            on_all_rows = curve(self.positives[classes], self.negatives[classes], classes)[None]
            own, other = (
                np.take_along_axis(values, edges[:, classes], axis=2) for values in (drawn, on_all_rows)
            )
            losses += (own - other).sum(axis=(1, 2))
        return float(losses.mean())

    def edges_at(self, z: FloatArray) -> IntArray:
        """The edges (draws, c) where thresholds with logits (draws, c) lie."""
        columns = zip(self.z, z.T, strict=True)
        edges = np.stack([np.searchsorted(-of_class, -column) for of_class, column in columns])
        return np.asarray(np.minimum(edges.T, self.z.shape[1] - 1))


class Curve(Protocol):
    """The worth in F of a threshold at each edge."""

    def __call__(self, positives: NDArray[Any], negatives: NDArray[Any], classes: slice = ALL) -> FloatArray:
        """Positives and negatives per bin, (…, block, bins), of these classes → (…, block, bins + 1)."""


def _totals(bins: NDArray[Any]) -> NDArray[Any]:
    return np.pad(bins, [(0, 0)] * (bins.ndim - 1) + [(1, 0)]).cumsum(axis=-1)


def _f_curve(weights: FloatArray, objective: Objective) -> Curve:
    """weights: of each class's F in the objective, (c,)."""

    def curve(positives: NDArray[Any], negatives: NDArray[Any], classes: slice = ALL) -> FloatArray:
        tp = _totals(positives)
        return np.asarray(objective.f(tp, tp + _totals(negatives), tp[..., -1:]) * weights[classes, None])

    return curve


def _macro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    return _f_curve(np.full(len(exact), 1 / len(exact)), objective)


def _weighted(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    support = bins.positives.sum(axis=1)
    return _f_curve(support / max(support.sum(), 1), objective)


def _linear(positive: FloatArray, negative: FloatArray) -> Curve:
    """The sum of the worths (c, bins) of the selected positives and negatives, whatever else is selected."""

    def curve(positives: NDArray[Any], negatives: NDArray[Any], classes: slice = ALL) -> FloatArray:
        return np.asarray(_totals(positive[classes] * positives + negative[classes] * negatives))

    return curve


def _micro(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """The terms of Dinkelbach's method at the optimum (see `exact`), in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, k, p = (on & labels).sum(), on.sum(), labels.sum()
    whole = max(objective.parts(tp, k, p)[1], 1)
    f = objective.f(tp, k, p)
    positive, negative = (
        np.full((len(exact), 1), (hits - f * size) / whole)
        for hits, size in (objective.parts(1, 1, 0), objective.parts(0, 1, 0))
    )
    return _linear(positive, negative)


def _samples(bins: Bins, exact: FloatArray, objective: Objective) -> Curve:
    """The mean gains of predicting a class, as coordinate ascent adds them up at the optimum, in F."""
    on, labels = bins.ranking.scores >= exact[:, None], bins.ranking.labels
    tp, size, p = (on & labels).sum(axis=0), on.sum(axis=0), labels.sum(axis=0)
    positive, negative = np.empty((2, *bins.positives.shape))
    for c, (predicted, truth) in enumerate(zip(on, labels, strict=True)):
        other_tp, other_size = tp - (predicted & truth), size - predicted
        gains = objective.f(other_tp + truth, other_size + 1, p) - objective.f(other_tp, other_size, p)
        positive[c], negative[c] = bins.sums(c, gains * truth), bins.sums(c, gains * ~truth)
    return _linear(
        *(
            gains / labels.shape[1] / np.maximum(counts, 1)
            for gains, counts in ((positive, bins.positives), (negative, bins.negatives))
        )
    )


CURVES: dict[str, Callable[[Bins, FloatArray, Objective], Curve]] = {
    "macro": _macro, "weighted": _weighted, "micro": _micro, "samples": _samples,
}  # fmt: skip
