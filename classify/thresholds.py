"""Cuts that maximise F1 exactly: a label is predicted where its score reaches its class's threshold.

Cuts are found by sorting, never on a grid. Taking the k highest scores of a class makes tp(k) true positives,
so with p positives in all

    F1(k) = 2 tp(k) / (k + p),    and 0 where k + p = 0, as scikit-learn has it with zero_division=0.

Only those k count at which the k-th score differs from the next, because equal scores are taken or left
together. The cut lies midway between the two.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import DataError, unknown_name

ALWAYS, NEVER = 0.0, 2.0  # scores are probabilities: all reach the one, none the other; JSON holds both

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def tune(scores: NDArray[np.floating], labels: Bools, objective: str) -> Floats:
    """Thresholds (c,) that maximise the objective, one of `OBJECTIVES`, on these rows; or `at:T`, those of T.

    scores (n, c) are probabilities, labels (n, c) the truth. `samples` comes to a local optimum, every other
    objective to a global one. Where each class has a cut of its own, a class without positives is never
    predicted and one without negatives always.
    Raises DataError: an unknown objective, shapes that do not fit, scores that are NaN or outside [0, 1].
    """
    cut = fixed_cut(objective)
    if scores.ndim != 2 or scores.shape != labels.shape or not scores.size:
        raise DataError(
            f"scores and labels must share one shape (rows, classes): {scores.shape}, {labels.shape}"
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError("scores must be probabilities: some are NaN or outside [0, 1]")
    if cut is not None:
        return np.full(scores.shape[1], cut)
    by_class = np.ascontiguousarray(scores.T, dtype=np.float64), np.ascontiguousarray(labels.T, dtype=bool)
    return np.full(scores.shape[1], OBJECTIVES[objective](*by_class))


def fixed_cut(objective: str) -> float | None:
    """The cut of every class that the objective names beforehand: 0.5 for `none`, T for `at:T`; else None.

    Raises UsageError: there is no such objective.
    """
    if objective in OBJECTIVES:
        return None
    rule, _, cut = objective.partition(":")
    if objective == "none":
        return 0.5
    try:
        if rule == "at" and 0 <= float(cut) <= 1:
            return float(cut)
    except ValueError:
        pass
    raise unknown_name("objective", objective, NAMES)


class _Ranking:
    """Groups of scores (g, m), each from the highest to the lowest, and the cuts there are between them."""

    def __init__(self, scores: Floats) -> None:
        self.order = np.argsort(-scores, axis=1)
        self.scores = np.take_along_axis(scores, self.order, axis=1)
        self.tied = np.zeros((len(scores), scores.shape[1] + 1), dtype=bool)  # k would part equal scores
        np.equal(self.scores[:, :-1], self.scores[:, 1:], out=self.tied[:, 1:-1])

    def totals(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the k highest scores of a group add up to, k = 0 .. m: values (g, m) -> (g, m + 1)."""
        ranked = np.take_along_axis(values, self.order, axis=1)
        return np.pad(ranked, ((0, 0), (1, 0))).cumsum(axis=1)

    def best(self, totals: NDArray[Any]) -> Ints:
        """The k of each group, (g,), where totals (g, m + 1) are greatest; of several the smallest."""
        k: Ints = np.where(self.tied, totals.min() - 1, totals).argmax(axis=1)
        return k

    def cuts(self, k: Ints) -> Floats:
        """The thresholds that take the k highest scores of each group, (g,)."""
        groups, m = np.arange(len(k)), self.scores.shape[1]
        taken, left = self.scores[groups, k - 1], self.scores[groups, np.minimum(k, m - 1)]
        middle = (taken + left) / 2
        # Halfway between neighbouring floats rounds to one of them, and must not be the one to leave out.
        return np.select([k == 0, k == m, middle > left], [NEVER, ALWAYS, middle], taken)


def _f1(tp: NDArray[Any], size: NDArray[Any]) -> Floats:
    """F1 from true positives and size, the number predicted plus the number true."""
    f1: Floats = 2 * tp / np.maximum(size, 1)
    return f1


def _f1_curve(ranking: _Ranking, labels: Bools) -> Floats:
    """F1 of each group when its k highest scores are taken, k = 0 .. m, (g, m + 1)."""
    tp = ranking.totals(labels)
    return _f1(tp, np.arange(tp.shape[1]) + tp[:, -1:])


# From here on scores and labels are (c, n): one contiguous row a class.


def _macro(scores: Floats, labels: Bools) -> Floats:
    """Macro and weighted F1 add up terms that hang on one class's cut each: every class has its own best."""
    ranking = _Ranking(scores)
    return ranking.cuts(ranking.best(_f1_curve(ranking, labels)))


def _micro(scores: Floats, labels: Bools) -> Floats:
    """A fractional programme, solved by Dinkelbach's method (Management Science 13, 1967).

    Micro F1 is 2 TP / (K + P), where TP = Σ tp_c(k_c), K = Σ k_c and P = Σ p_c over the classes. It exceeds a
    value F exactly where 2 TP - F (K + P) > 0: a sum over classes, greatest where each class's term is. So
    take the best cuts for the present F, let F be what they reach, and repeat until it no longer rises: then
    no cuts exceed it. F is kept as a fraction of integers, so that no rounding enters.
    """
    ranking = _Ranking(scores)
    tp = ranking.totals(labels)
    counts, positives = np.arange(tp.shape[1]), tp[:, -1].sum()
    numerator, denominator = 0, 1
    while True:
        k = ranking.best(2 * denominator * tp - numerator * counts)
        reached, size = 2 * np.take_along_axis(tp, k[:, None], axis=1).sum(), max(k.sum() + positives, 1)
        if reached * denominator <= numerator * size:
            return ranking.cuts(k)
        numerator, denominator = reached, size


def _samples(scores: Floats, labels: Bools) -> Floats:
    """Coordinate ascent from the best global cut: a local optimum that no change of one cut improves.

    With all other classes held, switching class c on changes each row's F1 by a known gain. A cut switches it
    on in the rows above: the best is the k for which the gains of the k highest scores add up highest.
    """
    positives = labels.sum(axis=1, keepdims=True)
    on = ((scores >= _global(scores.T, labels.T)) & (positives > 0)) | (positives == labels.shape[1])
    rankings = [_Ranking(row[None]) for row in scores]
    k = on.sum(axis=1)
    tp, size = (on & labels).sum(axis=0), on.sum(axis=0) + labels.sum(axis=0)  # (n,) each
    improved = True
    while improved:
        improved = False
        for c, ranking in enumerate(rankings):
            tp -= on[c] & labels[c]
            size -= on[c]
            gains = ranking.totals((_f1(tp + labels[c], size + 1) - _f1(tp, size))[None])
            best = ranking.best(gains)[0]
            if gains[0, best] > gains[0, k[c]] + 1e-9:  # more than rounding
                k[c], improved = best, True
                on[c] = False
                on[c, ranking.order[0, :best]] = True
            tp += on[c] & labels[c]
            size += on[c]
    return np.concatenate([ranking.cuts(k[c : c + 1]) for c, ranking in enumerate(rankings)])


def _global(scores: Floats, labels: Bools, weights: NDArray[Any] | float = 1.0) -> float:
    """The one cut that maximises the weighted sum of F1 over groups of scores and labels, both (g, m).

    Lowering the cut past one score moves the F1 of that score's group alone, by one step of its curve. The
    steps of all groups, added up in the order of their scores, give the sum at every cut.
    """
    ranking = _Ranking(scores)
    steps = np.diff(_f1_curve(ranking, labels), axis=1) * weights
    everything = _Ranking(ranking.scores.reshape(1, -1))
    return float(everything.cuts(everything.best(everything.totals(steps.reshape(1, -1))))[0])


OBJECTIVES: dict[str, Callable[[Floats, Bools], Floats | float]] = {
    "macro": _macro,
    "weighted": _macro,
    "micro": _micro,
    "samples": _samples,
    "global-macro": _global,
    "global-weighted": lambda scores, labels: _global(scores, labels, labels.sum(axis=1, keepdims=True)),
    "global-micro": lambda scores, labels: _global(scores.reshape(1, -1), labels.reshape(1, -1)),
    "global-samples": lambda scores, labels: _global(scores.T, labels.T),
}
NAMES = ("none", "at:0.4", *OBJECTIVES)  # the second as an example: any cut may stand there
