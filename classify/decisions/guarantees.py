"""Thresholds whose precision or recall holds on unseen rows with confidence 1 - δ: `precision:P`, `recall:R`.

A threshold with precision P on the tuning rows has less than P on others about half of the time. Here each
class's threshold passes a test instead, so that it misses its target with probability δ at most: of many
classes, an expected share of δ at most misses. Rows are assumed to be independent and alike.

**Precision.** Let π(t) be the precision at threshold t on the population. Of the k rows above the (k + 1)-th
highest score s, each is positive independently with probability π(s), given s. So their tp true positives are
Bin(k, π(s)), and π(s) < P is rejected at level δ where

    P(Bin(k, P) >= tp) <= δ,

which is to say that the lower Clopper-Pearson bound (1934) of tp / k at confidence 1 - δ is P or more. Trying
all k and keeping the best of those that pass would pass by luck. Hence fixed-sequence testing (Learn then
Test, Angelopoulos et al., 2021): go down from the highest threshold, stop at the first that fails, and take
the last that passed. Where π does not rise as thresholds fall, the first k with π < P has at most Bin(k, P)
true positives, and nothing is wrong before it; only if that test passes, which has probability δ at most,
does the threshold miss. The sequence starts where passing is possible at all: P^k <= δ, k = 22 for P = .9 and
δ = .1. Its places depend on the number of rows and on ties of scores, never on labels.

**Recall.** Recall does rise as thresholds fall. Given p positives, those that score t or more are
Bin(p, recall(t)), so "recall < R" is rejected where P(Bin(p, R) >= tp) <= δ. The tests pass from the first
threshold down that passes, the highest valid one; it is the j-th highest positive, for one j that depends on
p alone, and its recall is Beta(j, p + 1 - j) distributed (Wilks, 1941). With fewer positives than R^p <= δ
takes, only predicting the class in every row is sure: its threshold is `ALWAYS`.

**One threshold for all classes.** Classes of one row are not independent. There the test must also pass for
the sum over rows of each row's (true positives - P · predicted), or (true positives - R · positives), by the
normal approximation, with its variance from the rows' sums: level δ for many rows, not exactly for few.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom

from encode_once.classify.arrays import FloatArray, RowIndex
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.ranking import NEVER, Ranking

MISSES = 0.1  # δ: the greatest probability that a threshold misses its target on unseen rows
STEP = 1.01  # ratio of successive numbers of rows taken, where they are many: finer steps gain no recall


@dataclass(frozen=True)
class Guarantee:
    """What certified thresholds reach on the tuning rows, the best guess at unseen ones; each (c,)."""

    precision: FloatArray  # NaN where nothing is predicted
    recall: FloatArray  # NaN for a class without positives


def certified(ranking: Ranking, objective: Objective) -> tuple[FloatArray, Guarantee]:
    """Thresholds (c,) of classes (c, n) that miss the objective's precision or recall with `MISSES` at most.

    A class of which no threshold passes is never predicted, nor is one without positives; for a recall that
    too few positives can prove, the class is always predicted.
    """
    c, n = ranking.scores.shape
    if objective.one_cut:
        together = ranking.together()
        rows = (ranking.order.ravel() % n)[together.order[0]]  # the row of each score, from the highest down
        k = _certified_place(together, 0, objective, rows)
        thresholds = np.repeat(together.cuts(np.array([k])), c)
    else:
        thresholds = ranking.cuts(np.array([_certified_place(ranking, j, objective) for j in range(c)]))
    predicted = ranking.scores >= thresholds[:, None]
    tp = (predicted & ranking.labels).sum(axis=1)
    reached = [
        np.where(size > 0, tp / np.maximum(size, 1), np.nan)
        for size in (predicted.sum(axis=1), ranking.labels.sum(axis=1))
    ]
    return thresholds, Guarantee(*reached)


def _certified_place(ranking: Ranking, group: int, objective: Objective, rows: RowIndex | None = None) -> int:
    """How many of a group's highest scores its threshold takes.

    rows: the row of each score, from the highest down, where a row may have several.
    """
    tp, share = ranking.tp[group], float(objective.share)
    m, p = len(tp) - 1, int(tp[-1])
    recall = objective.measure == "recall"
    if p == 0:
        return 0
    places = np.searchsorted(tp, np.arange(1, p + 1)) if recall else _sequence(m, share)
    untied = np.where(ranking.tied[group], m, np.arange(m + 1))
    places = np.unique(np.minimum.accumulate(untied[::-1])[::-1][places])  # equal scores are taken together
    passed = binom.sf(tp[places] - 1, p if recall else places, share) <= MISSES if share else places > 0
    if rows is not None:
        hits = np.diff(tp)
        start: FloatArray | None
        steps, start = (
            (hits, -share * np.bincount(rows, hits).astype(np.float64)) if recall else (hits - share, None)
        )
        passed &= _pass_by_row(steps, rows, start)[places]
    if recall:  # up from the lowest threshold, which finds all
        failed = np.flatnonzero(~passed)
        first = failed[-1] + 1 if len(failed) else 0
        return int(places[first]) if first < len(places) else m
    passing = int(np.argmin(np.r_[passed, False]))  # before the first that fails
    return int(places[passing - 1]) if passing else 0


def _sequence(m: int, share: float) -> RowIndex:
    """How many of m scores to take, test after test; each from `dense` on is `STEP` times the last."""
    if share in (0, 1):
        return np.arange(1, m + 1) if share == 0 else np.arange(0)
    first, dense = int(np.ceil(np.log(MISSES) / np.log(share))), round(1 / (STEP - 1))
    sparse = np.geomspace(dense, max(m, dense), int(np.log(max(m / dense, 1)) / np.log(STEP)) + 2)
    places = np.unique(np.r_[np.arange(first, dense), sparse.round().astype(np.intp)])
    return places[(places >= first) & (places <= m)]


def _pass_by_row(steps: FloatArray, rows: RowIndex, start: FloatArray | None) -> NDArray[np.bool_]:
    """Which numbers k = 0 .. m of scores taken pass by the normal approximation, (m + 1,).

    A row's sum begins at `start` (by default 0) and rises by the steps (m,) of its scores among the k. One
    step s of a row with sum S raises the sum of squares by 2 S s + s².
    """
    start = np.zeros(rows.max() + 1) if start is None else start
    order = np.argsort(rows, kind="stable")
    ranked, totals = steps[order], steps[order].cumsum()
    begins = np.searchsorted(rows[order], np.arange(len(start)))[rows[order]]
    before = np.empty(len(steps))
    before[order] = totals - ranked - (totals - ranked)[begins] + start[rows[order]]
    sums = start.sum() + np.r_[0, steps.cumsum()]
    squares = (start**2).sum() + np.r_[0, (2 * before * steps + steps**2).cumsum()]
    return np.asarray(ndtr(-sums / np.sqrt(np.maximum(squares, 1e-12))) <= MISSES)


def as_json(
    objective: Objective, thresholds: FloatArray, reached: Guarantee, classes: list[str]
) -> dict[str, Any]:
    """The guarantee as `thresholds.json` has it; numbers that do not exist are None."""

    def by_class(values: FloatArray) -> dict[str, float | None]:
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(classes, values, strict=True)
        }

    return {
        "measure": objective.measure,
        "at_least": float(objective.share),
        "confidence": 1 - MISSES,
        "never": [classes[j] for j in np.flatnonzero(thresholds >= NEVER)],
        "always": [classes[j] for j in np.flatnonzero(thresholds <= 0)],
        "expected_precision": by_class(reached.precision),
        "expected_recall": by_class(reached.recall),
    }
