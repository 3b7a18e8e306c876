"""Thresholds whose precision or recall holds on unseen rows with confidence 1 - δ: `precision:P`, `recall:R`.

A threshold with precision P on the tuning rows has less than P on others about half of the time. Here each
class's threshold passes a test instead, so that it misses its target with probability δ at most: of many
classes, at most a share δ is expected to miss. Rows are assumed to be independent and identically
distributed.

**Precision.** Let π(t) be the precision at threshold t on the population. Of the k rows above the (k + 1)-th
highest score s, each is positive independently with probability π(s), given s. So their tp true positives are
Bin(k, π(s)), and π(s) < P is rejected at level δ if

    P(Bin(k, P) >= tp) <= δ,

that is, if the lower Clopper-Pearson bound (1934) of tp / k at confidence 1 - δ is P or more. Testing every k
and keeping the best that passes would pass by chance. Hence fixed-sequence testing (Learn then Test,
Angelopoulos et al., 2021): go down from the highest threshold, stop at the first test that fails, and keep
the last that passed. If π does not rise as thresholds fall, the first k with π < P has at most Bin(k, P) true
positives, and no test before it is wrong; only if that test passes, which has probability δ at most, does the
threshold miss. The sequence starts where passing is possible at all: P^k <= δ, k = 22 for P = .9 and δ = .1.
Its steps depend on the number of rows and on ties of scores, never on labels.

**Recall.** Recall does rise as thresholds fall. Given p positives, the number that score t or more is
Bin(p, recall(t)), so "recall < R" is rejected if P(Bin(p, R) >= tp) <= δ. All tests below the highest
threshold that passes pass, too; it is the j-th highest positive, for a j that depends only on p, and its
recall has the distribution Beta(j, p + 1 - j) (Wilks, 1941). With fewer positives than R^p <= δ needs, only
predicting the class in every row is certain: its threshold is `ALWAYS`.

**A shared threshold.** Classes of one row are not independent. So the test must also pass for the sum over
rows of each row's (true positives - P · predicted), or (true positives - R · positives), by the normal
approximation, with its variance from the rows' sums: level δ for many rows, only approximately for few.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtrc, ndtr

from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import BoolArray, FloatArray, IntArray, RowIndex
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.ranking import ALWAYS, NEVER, Ranking, next_untied

MISSES = 0.1  # δ: the greatest probability that a threshold misses its target on unseen rows
STEP = 1.01  # ratio of successive k in long sequences: finer steps gain no recall


@dataclass(frozen=True)
class Guarantee:
    """What certified thresholds reach on the tuning rows, the best guess for unseen ones; each (c,)."""

    precision: FloatArray  # NaN where nothing is predicted
    recall: FloatArray  # NaN for a class without positives

    __repr__ = short_repr

    def of_classes(self, classes: IntArray) -> "Guarantee":
        """The same with these classes, in this order."""
        return Guarantee(self.precision[classes], self.recall[classes])


def certified(ranking: Ranking, objective: Objective) -> tuple[FloatArray, Guarantee]:
    """Thresholds (c,) of classes (c, n) that miss the objective's precision or recall with `MISSES` at most.

    A class for which no threshold passes is never predicted, nor is a class without positives; if a class has
    too few positives to prove a recall, it is always predicted.
    """
    c, n = ranking.scores.shape
    if objective.shared:
        together = ranking.together()
        rows = (ranking.order.ravel() % n)[together.order[0]]  # the row of each score, from the highest down
        k = _certified_k(together, objective, rows)
        thresholds = np.repeat(together.thresholds(np.array([k])), c)
    else:
        thresholds = ranking.thresholds(
            np.array([_certified_k(ranking.group(j), objective) for j in range(c)])
        )
    predicted = ranking.scores >= thresholds[:, None]
    tp = (predicted & ranking.labels).sum(axis=1)
    precision, recall = (
        np.where(size > 0, tp / np.maximum(size, 1), np.nan)
        for size in (predicted.sum(axis=1), ranking.labels.sum(axis=1))
    )
    return thresholds, Guarantee(precision, recall)


def _certified_k(group: Ranking, objective: Objective, rows: RowIndex | None = None) -> int:
    """How many of the highest scores of a single group its threshold selects.

    rows: the row of each score, from the highest down, if a row may have several scores in the group.
    """
    tp, share = group.tp[0], float(objective.share)
    m, p = int(group.sizes[0]), int(tp[-1])
    recall = objective.measure == "recall"
    if p == 0:
        return 0
    tested = np.searchsorted(tp, np.arange(1, p + 1)) if recall else _sequence(m, share)
    tested = np.unique(next_untied(group.tied[0])[tested])  # equal scores go together
    passed = bdtrc(tp[tested] - 1, p if recall else tested, share) <= MISSES if share else tested > 0
    if rows is not None:
        hits = np.diff(tp)
        start = -share * np.bincount(rows, hits).astype(np.float64) if recall else np.zeros(rows.max() + 1)
        passed &= _pass_by_row(hits if recall else hits - share, rows, start)[tested]
    if recall:  # up from the lowest threshold, which includes all positives
        failed = np.flatnonzero(~passed)
        first = failed[-1] + 1 if len(failed) else 0
        return int(tested[first]) if first < len(tested) else m
    passing = int(np.argmin(np.r_[passed, False]))  # before the first that fails
    return int(tested[passing - 1]) if passing else 0


def _sequence(m: int, share: float) -> RowIndex:
    """The k to test, of m scores: all up to `dense`, then each `STEP` times the last."""
    if share in (0, 1):
        return np.arange(1, m + 1) if share == 0 else np.arange(0)
    first, dense = int(np.ceil(np.log(MISSES) / np.log(share))), round(1 / (STEP - 1))
    sparse = np.geomspace(dense, max(m, dense), int(np.log(max(m / dense, 1)) / np.log(STEP)) + 2)
    tested = np.unique(np.r_[np.arange(first, dense), sparse.round().astype(np.intp)])
    return tested[(tested >= first) & (tested <= m)]


def _pass_by_row(steps: FloatArray, rows: RowIndex, start: FloatArray) -> BoolArray:
    """Which k = 0 .. m pass by the normal approximation, (m + 1,).

    A row's sum begins at its `start` (rows,) and rises by the steps (m,) of its scores among the k highest. A
    step s of a row with sum S raises the sum of squares by 2 S s + s².
    """
    order = np.argsort(rows, kind="stable")
    ranked, totals = steps[order], steps[order].cumsum()
    begins = np.searchsorted(rows[order], np.arange(len(start)))[rows[order]]
    before = np.empty(len(steps))
    before[order] = totals - ranked - (totals - ranked)[begins] + start[rows[order]]
    sums = start.sum() + np.r_[0, steps.cumsum()]
    squares = (start**2).sum() + np.r_[0, (2 * before * steps + steps**2).cumsum()]
    return np.asarray(ndtr(-sums / np.sqrt(np.maximum(squares, 1e-12))) <= MISSES)


def as_json(
    objective: str, thresholds: FloatArray, reached: Guarantee, classes: Sequence[str]
) -> dict[str, Any]:
    """The guarantee in `thresholds.json`; None for figures that do not exist."""

    def by_class(values: FloatArray) -> dict[str, float | None]:
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(classes, values, strict=True)
        }

    target = Objective.of(objective)
    return {
        "measure": target.measure,
        "at_least": float(target.share),
        "confidence": 1 - MISSES,
        "never": [name for name, value in zip(classes, thresholds, strict=True) if value >= NEVER],
        "always": [name for name, value in zip(classes, thresholds, strict=True) if value <= ALWAYS],
        "expected_precision": by_class(reached.precision),
        "expected_recall": by_class(reached.recall),
    }


def of_json(content: Mapping[str, Any], classes: Sequence[str]) -> Guarantee:
    """The inverse of `as_json`."""
    precision, recall = (
        np.array([content[f"expected_{measure}"][name] for name in classes], dtype=np.float64)
        for measure in ("precision", "recall")
    )
    return Guarantee(precision, recall)
