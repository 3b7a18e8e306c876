"""Scores in descending order, and the cuts there are between them: of NumPy arrays, or tensors on any device.

All that thresholds can do to a class is to take its k highest scores, k = 0 .. m, and of these k only those
at which the k-th score differs from the next, because equal scores are taken or left together.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from array_api_compat import array_namespace

ALWAYS, NEVER = 0.0, 2.0  # scores are probabilities: all reach the one, none the other; JSON holds both

Array = Any  # of NumPy or torch; what is done with it is in the Python array API standard


@dataclass(frozen=True)
class Ranking:
    """Groups of scores (g, m), such as classes, each from the highest to the lowest, with the labels.

    `runs` says that the scores consist of sorted runs, which a stable sort is quicker to merge.
    """

    scores: Array  # (g, m) float64
    labels: Array  # (g, m) bool
    runs: bool = False

    @classmethod
    def of_classes(cls, scores: Array, labels: Array) -> "Ranking":
        """A group a class, of tables (n, c)."""
        xp = array_namespace(scores, labels)
        return cls(_turned(xp.astype(scores, xp.float64)), _turned(xp.astype(labels, xp.bool)))

    @cached_property
    def order(self) -> Array:
        """Where the highest, the second … score of each group is, (g, m)."""
        return array_namespace(self.scores).argsort(-self.scores, axis=1, stable=self.runs)

    @cached_property
    def sorted(self) -> Array:
        """The scores (g, m) in that order."""
        return array_namespace(self.scores).take_along_axis(self.scores, self.order, axis=1)

    @cached_property
    def tied(self) -> Array:
        """Whether to take the k highest would part equal scores, (g, m + 1)."""
        xp = array_namespace(self.scores)
        ends = xp.zeros_like(self.labels[:, :1])
        return xp.concat([ends, self.sorted[:, :-1] == self.sorted[:, 1:], ends], axis=1)

    @cached_property
    def tp(self) -> Array:
        """How many of the k highest scores are of positives, k = 0 .. m, (g, m + 1)."""
        return self.totals(self.labels)

    @property
    def p(self) -> Array:
        """How many positives there are, (g, 1)."""
        return self.tp[:, -1:]

    @property
    def k(self) -> Array:
        """0 .. m, (m + 1,)."""
        return array_namespace(self.tp).arange(self.tp.shape[1], device=self.tp.device)

    def totals(self, values: Array) -> Array:
        """What the k highest scores of a group add up to, k = 0 .. m: values (g, m) -> (g, m + 1)."""
        xp = array_namespace(values)
        ranked = xp.take_along_axis(values, self.order, axis=1)
        kind = xp.int64 if values.dtype == xp.bool else None
        return xp.cumulative_sum(ranked, axis=1, dtype=kind, include_initial=True)

    def best(self, totals: Array, rounding: float = 0) -> Array:
        """The k of each group, (g,), where totals (g, m + 1) are greatest; of several the smallest.

        Totals that differ by no more than `rounding` are equal.
        """
        xp = array_namespace(totals)
        allowed = xp.where(self.tied, xp.min(totals) - 1, totals)
        equal = ~self.tied & (totals >= xp.max(allowed, axis=1, keepdims=True) - rounding)
        return xp.argmax(xp.astype(equal, xp.int8), axis=1)

    def cuts(self, k: Array) -> Array:
        """The thresholds (g,) that take the k highest scores of each group: midway to the next score."""
        xp = array_namespace(self.scores)
        groups, m = xp.arange(k.shape[0], device=k.device), self.scores.shape[1]
        taken, left = self.sorted[groups, k - 1], self.sorted[groups, xp.where(k < m, k, m - 1)]
        middle = (taken + left) / 2
        # Halfway between neighbouring floats rounds to one of them, and must not be the one to leave out.
        middle = xp.where(middle > left, middle, taken)
        return xp.where(k == 0, NEVER, xp.where(k == m, ALWAYS, middle))

    def group(self, number: int) -> "Ranking":
        """One group alone."""
        one = slice(number, number + 1)
        alone = Ranking(self.scores[one, :], self.labels[one, :])
        vars(alone).update(order=self.order[one, :], sorted=self.sorted[one, :], tied=self.tied[one, :])
        return alone

    def together(self) -> "Ranking":
        """All groups as one, (1, g m), in the order of the groups and, within them, of their ranks."""
        xp = array_namespace(self.scores)
        ranked = xp.take_along_axis(self.labels, self.order, axis=1)
        return Ranking(xp.reshape(self.sorted, (1, -1)), xp.reshape(ranked, (1, -1)), runs=True)

    def turned(self) -> "Ranking":
        """What is at one place in all groups, as a group: (m, g)."""
        return Ranking(_turned(self.scores), _turned(self.labels))


def _turned(table: Array) -> Array:
    """A table (n, c) as (c, n), each row in one piece."""
    xp = array_namespace(table)
    flat = xp.reshape(xp.permute_dims(table, (1, 0)), (-1,))  # to flatten is to copy in that order
    return xp.reshape(flat, (table.shape[1], table.shape[0]))
