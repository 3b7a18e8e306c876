"""Scores in descending order, and the cuts there are between them: of NumPy arrays, or tensors on any device.

All that thresholds can do to a class is to take its k highest scores, k = 0 .. m, and of these k only those
at which the k-th score differs from the next, because equal scores are taken or left together.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

ALWAYS, NEVER = 0.0, 2.0  # scores are probabilities: all reach the one, none the other; JSON holds both

Array = Any  # of NumPy or torch; what is done with it is in the Python array API standard


@dataclass(frozen=True)
class Ranking:
    """Groups of scores (g, m), each from the highest to the lowest."""

    order: Array  # (g, m)
    scores: Array  # (g, m), in that order
    tied: Array  # (g, m + 1): taking the k highest would part equal scores

    @classmethod
    def of(cls, scores: Array) -> "Ranking":
        """The ranking of scores (g, m)."""
        xp = array_namespace(scores)
        order = xp.argsort(-scores, axis=1)
        ranked = xp.take_along_axis(scores, order, axis=1)
        ends = xp.zeros_like(ranked[:, :1], dtype=xp.bool)
        return cls(order, ranked, xp.concat([ends, ranked[:, :-1] == ranked[:, 1:], ends], axis=1))

    def __getitem__(self, group: int) -> "Ranking":
        """The ranking of one group alone."""
        one = slice(group, group + 1)
        return Ranking(self.order[one], self.scores[one], self.tied[one])

    def totals(self, values: Array) -> Array:
        """What the k highest scores of a group add up to, k = 0 .. m: values (g, m) -> (g, m + 1)."""
        xp = array_namespace(values)
        if values.dtype == xp.bool:
            values = xp.astype(values, xp.int64)
        ranked = xp.take_along_axis(values, self.order, axis=1)
        return xp.cumulative_sum(ranked, axis=1, include_initial=True)

    def best(self, totals: Array) -> Array:
        """The k of each group, (g,), where totals (g, m + 1) are greatest; of several the smallest."""
        xp = array_namespace(totals)
        return xp.argmax(xp.where(self.tied, xp.min(totals) - 1, totals), axis=1)

    def cuts(self, k: Array) -> Array:
        """The thresholds (g,) that take the k highest scores of each group: midway to the next score."""
        xp = array_namespace(self.scores)
        groups, m = xp.arange(k.shape[0], device=k.device), self.scores.shape[1]
        taken, left = self.scores[groups, k - 1], self.scores[groups, xp.where(k < m, k, m - 1)]
        middle = (taken + left) / 2
        # Halfway between neighbouring floats rounds to one of them, and must not be the one to leave out.
        middle = xp.where(middle > left, middle, taken)
        return xp.where(k == 0, NEVER, xp.where(k == m, ALWAYS, middle))
