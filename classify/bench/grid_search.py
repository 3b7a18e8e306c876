"""Thresholds as one would find them without this project: the best of 200 cuts, in loops or by counting.

All are peers of `classify.decisions.exact.tune`, to be timed and judged beside it. Scores and labels are
(n, c).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from encode_once.classify.arrays import BoolArray, IntArray, LabelMatrix
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.ranking import NEVER

CUTS = np.linspace(0, 1, 202, dtype=np.float32)[1:-1]  # evenly from 1/201 to 200/201


def looped(
    scores: NDArray[np.floating], labels: LabelMatrix, cuts: NDArray[np.floating] = CUTS
) -> NDArray[np.floating]:
    """The cuts (c,) of best F1 a class, by scikit-learn's `f1_score` at each cut of each class."""

    def best(mine: NDArray[np.floating], truth: BoolArray) -> float:
        return float(max(cuts, key=lambda cut: f1_score(truth, mine >= cut, zero_division=0)))

    return np.array([best(*one) for one in zip(scores.T, labels.T, strict=True)])


def looped_together(
    scores: NDArray[np.floating], labels: LabelMatrix, average: str, cuts: NDArray[np.floating] = CUTS
) -> float:
    """The one cut for all classes of best average F1, by scikit-learn's `f1_score` at each cut."""
    return float(max(cuts, key=lambda cut: f1_score(labels, scores >= cut, average=average, zero_division=0)))


def counted(
    scores: NDArray[np.floating], labels: LabelMatrix, objective: str, cuts: NDArray[np.floating] = CUTS
) -> NDArray[np.floating]:
    """The cuts (c,) of a grid, or never, that are best for an objective, by counting what each cut takes.

    How many cuts a score reaches is looked up once; the counts at all cuts are sums over these. `samples` is
    a local optimum, found as `tune` finds its own, all else the best of the grid. One cut for all classes is
    found for F alone.
    """
    asked, options = Objective.of(objective), np.append(cuts.astype(np.float64), NEVER)
    reached = np.searchsorted(cuts, scores, side="right")  # (n, c): a score is taken by the cuts before that
    chosen = (
        _one(reached, labels, asked, len(cuts)) if asked.one_cut else _own(reached, labels, asked, len(cuts))
    )
    found: NDArray[np.floating] = options[np.broadcast_to(chosen, scores.shape[1])]
    return found


def brute_force(scores: NDArray[np.floating], labels: LabelMatrix, objective: str) -> float:
    """The best average F that any cuts a class reach, all combinations tried: for a few rows and classes."""
    asked = Objective.of(objective)
    columns = [[mine >= cut for cut in (*np.unique(mine), NEVER)] for mine in scores.T]
    every = np.array([*itertools.product(*columns)]).transpose(0, 2, 1)  # (combinations, n, c)
    return max(worth(asked, labels, chosen) for chosen in every)


def worth(objective: Objective, labels: LabelMatrix, chosen: LabelMatrix) -> float:
    """What labels chosen (n, c) reach of what an objective maximises.

    Of `precision:P` that is the classes' mean recall, of `recall:R` their mean precision.
    """
    axis = {"micro": None, "samples": 1}.get(objective.measure, 0)
    tp, k, p = (np.asarray(table.sum(axis=axis)) for table in (labels & chosen, chosen, labels))
    if objective.measure in ("precision", "recall"):
        return float((tp / np.maximum(p if objective.measure == "precision" else k, 1)).mean())
    weights = p if objective.measure == "weighted" and p.any() else None
    return float(np.average(objective.f(tp, k, p), weights=weights))


def _totals(reached: IntArray, cuts: int, values: NDArray[Any] | None = None) -> NDArray[Any]:
    """How many scores of each group each cut takes, or what values of theirs add up to; the last takes none.

    reached and values are (g, m), the sums (g, cuts + 1).
    """
    groups, options = len(reached), cuts + 1
    flat = (reached + np.arange(groups)[:, None] * options).ravel()
    weights = None if values is None else values.ravel()
    steps = np.bincount(flat, weights, groups * options).reshape(groups, options)
    found: NDArray[Any] = steps.sum(axis=1, keepdims=True) - steps.cumsum(axis=1)
    return found


def _counts(
    reached: IntArray, labels: LabelMatrix, cuts: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of (g, m): true positives and number taken at each cut, (g, cuts + 1), and all positives, (g, 1)."""
    return _totals(reached, cuts, labels), _totals(reached, cuts), labels.sum(axis=1, keepdims=True)


def _one(reached: IntArray, labels: LabelMatrix, objective: Objective, cuts: int) -> Any:
    by_row = objective.measure == "samples"
    tp, k, p = _counts(reached if by_row else reached.T, labels if by_row else labels.T, cuts)
    if objective.measure == "micro":
        tp, k, p = (counts.sum(axis=0, keepdims=True) for counts in (tp, k, p))
    weights = p[:, 0] if objective.measure == "weighted" and p.any() else None
    return np.average(objective.f(tp, k, p), axis=0, weights=weights).argmax()


def _own(reached: IntArray, labels: LabelMatrix, objective: Objective, cuts: int) -> IntArray:
    tp, k, p = _counts(reached.T, labels.T, cuts)
    values = objective.f(tp, k, p)  # (c, cuts + 1)
    if objective.measure == "precision":
        values = np.where(tp >= float(objective.share) * k, tp, -1)
    if objective.measure == "recall":
        values = np.where(tp >= float(objective.share) * p, tp / np.maximum(k, 1), -1)
    by_class: IntArray = values.argmax(axis=1)
    if objective.measure not in ("micro", "samples"):
        return by_class
    together = _fractional(*objective.parts(tp, k, p))
    if objective.measure == "micro":
        return together
    single = np.full(len(tp), _one(reached, labels, objective, cuts))
    return _ascend(reached, labels, objective, cuts, (single, together, by_class))


def _fractional(hits: NDArray[Any], size: NDArray[Any]) -> IntArray:
    """The option a class (c,) of greatest Σ hits / Σ size, both (c, options): see `thresholds._micro`."""
    classes, reached = np.arange(len(hits)), 0.0
    while True:
        best: IntArray = (hits - reached * size).argmax(axis=1)
        now = hits[classes, best].sum() / max(size[classes, best].sum(), 1)
        if now <= reached:
            return best
        reached = now


def _ascend(
    reached: IntArray, labels: LabelMatrix, objective: Objective, cuts: int, starts: Sequence[IntArray]
) -> IntArray:
    """Samples F by coordinate ascent from each of the starts (c,); the best found."""
    p, highest, found = labels.sum(axis=1), -1.0, starts[0]
    for start in starts:
        best, improved = start.copy(), True
        on = reached > best
        while improved:
            improved = False
            for c, truth in enumerate(labels.T):
                others = on.copy()
                others[:, c] = False
                tp, k = (others & labels).sum(axis=1), others.sum(axis=1)
                gains = objective.f(tp + truth, k + 1, p) - objective.f(tp, k, p)
                totals = _totals(reached[None, :, c], cuts, gains[None])[0]
                if totals.max() > totals[best[c]] + 1e-9:
                    best[c], improved = totals.argmax(), True
                    on[:, c] = reached[:, c] > best[c]
        if (mean := worth(objective, labels, on)) > highest:
            highest, found = mean, best
    return found
