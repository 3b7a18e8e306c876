"""Scores in descending order and the thresholds between them, for NumPy arrays and torch tensors.

A threshold selects the k highest scores of a class, k = 0 .. m. Only those k count at which the k-th score
differs from the next, because equal scores are selected together.

A class may have unknown entries. Their score is `HIDDEN`, so that they come last, and they are never
selected: every sum is over the other scores of the class, as if it had only these.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from encode_once.classify.arrays import BoolArray, IntArray
from encode_once.classify.partial import is_partial, positives, unknown_entries

ALWAYS, NEVER = 0.0, 2.0  # scores are probabilities: all reach the first, none the second; both fit in JSON
HIDDEN = -1.0  # the score of an unknown entry: below all others
BLOCK = 2**22  # scores worked on at a time, if there are more: each array of them takes 34 MB

Array = Any  # of NumPy or torch, used through the Python array API standard


@dataclass(frozen=True)
class Ranking:
    """Groups of scores, such as classes, with their labels and their order from the highest score down."""

    scores: Array  # (g, m) float64
    labels: Array  # (g, m) bool
    order: Array  # (g, m): positions of the highest, the second … score of each group

    @classmethod
    def of(cls, scores: Array, labels: Array, runs: bool = False) -> "Ranking":
        """Sort groups (g, m). runs: the scores consist of sorted runs, which a stable sort merges faster."""
        argsort = array_namespace(scores).argsort
        if not is_numpy_array(scores):
            return cls(scores, labels, argsort(-scores, axis=1, stable=runs))
        order = np.empty(scores.shape, np.int32 if scores.shape[1] < 2**31 else np.intp)
        for part in parts(*scores.shape):
            order[part] = argsort(-scores[part], axis=1, stable=runs)
        return cls(scores, labels, order)

    @classmethod
    def of_classes(cls, scores: Array, labels: Array) -> "Ranking":
        """Each class of tables (n, c) as a group."""
        xp = array_namespace(scores)
        scores = xp.astype(scores, xp.float64, copy=False)
        if is_partial(labels):
            scores = xp.where(unknown_entries(labels), HIDDEN, scores)
        return cls.of(_transposed(scores), _transposed(positives(labels)))

    @cached_property
    def sorted(self) -> Array:
        """The scores (g, m) in descending order."""
        return array_namespace(self.scores).take_along_axis(self.scores, self.order, axis=1)

    @cached_property
    def tied(self) -> Array:
        """Whether selecting the k highest would separate equal scores, (g, m + 1)."""
        xp = array_namespace(self.scores)
        ends = xp.zeros_like(self.labels[:, :1])
        last = self.sorted[:, -1:] == HIDDEN
        return xp.concat([ends, self.sorted[:, :-1] == self.sorted[:, 1:], last], axis=1)

    @cached_property
    def sizes(self) -> Array:
        """The number of scores that are not hidden, (g,)."""
        xp = array_namespace(self.scores)
        return xp.sum(self.scores != HIDDEN, axis=1, dtype=xp.int64)

    @cached_property
    def tp(self) -> Array:
        """The number of positives among the k highest scores, k = 0 .. m, (g, m + 1)."""
        return self.totals(self.labels)

    @property
    def p(self) -> Array:
        """The number of positives, (g, 1)."""
        xp = array_namespace(self.labels)
        return xp.sum(self.labels, axis=1, keepdims=True, dtype=xp.int64)

    @property
    def k(self) -> Array:
        """0 .. m, (m + 1,)."""
        scores = self.scores
        return array_namespace(scores).arange(scores.shape[1] + 1, device=scores.device)

    def totals(self, values: Array) -> Array:
        """Sums of values (g, m) over the k highest scores, k = 0 .. m, (g, m + 1)."""
        xp = array_namespace(values)
        ranked = xp.take_along_axis(values, self.order, axis=1)
        dtype = xp.int64 if values.dtype == xp.bool else None
        return xp.cumulative_sum(ranked, axis=1, dtype=dtype, include_initial=True)

    def best(self, totals: Array, rounding: float = 0) -> Array:
        """The smallest k of each group, (g,), at which totals (g, m + 1) are greatest.

        Totals that differ by no more than `rounding` are equal.
        """
        xp = array_namespace(totals)
        allowed = xp.where(self.tied, xp.min(totals) - 1, totals)
        equal = ~self.tied & (totals >= xp.max(allowed, axis=1, keepdims=True) - rounding)
        return xp.argmax(xp.astype(equal, xp.int8), axis=1)

    def thresholds(self, k: Array) -> Array:
        """The thresholds (g,) that select the k highest scores of each group: halfway to the next score."""
        xp = array_namespace(self.scores)
        groups, m = xp.arange(k.shape[0], device=k.device), self.scores.shape[1]
        lowest, next_score = (
            self.scores[groups, self.order[groups, place]] for place in (k - 1, xp.where(k < m, k, m - 1))
        )
        halfway = (lowest + next_score) / 2
        # Between neighbouring floats, halfway may round down to the score that must not be selected.
        halfway = xp.where(halfway > next_score, halfway, lowest)
        return xp.where(k == 0, NEVER, xp.where(k == self.sizes, ALWAYS, halfway))

    def group(self, number: int) -> "Ranking":
        """A single group."""
        return self.groups(slice(number, number + 1))

    def groups(self, which: slice) -> "Ranking":
        """Some of the groups."""
        return Ranking(self.scores[which, :], self.labels[which, :], self.order[which, :])

    def blocks(self) -> "Iterator[Ranking]":
        """All groups, a block at a time if they are many: what is computed of a block is dropped with it."""
        return (block for _, block in self.with_slices())

    def with_slices(self) -> "Iterator[tuple[slice, Ranking]]":
        """The blocks, and which groups each has."""
        g, m = self.scores.shape
        if g * m <= BLOCK:
            yield slice(0, g), self
        else:
            yield from ((part, self.groups(part)) for part in parts(g, m))

    def transposed_slices(self) -> "Iterator[tuple[slice, Ranking]]":
        """The i-th elements of all groups as group i, a block at a time, and which elements it has."""
        for part in parts(*self.scores.shape[::-1]):
            yield part, Ranking.of(_transposed(self.scores[:, part]), _transposed(self.labels[:, part]))

    def by_block(self, function: "Callable[[Ranking], Array]") -> Array:
        """What a function gives for all groups, (g, …)."""
        return array_namespace(self.scores).concat([function(block) for block in self.blocks()])

    def together(self) -> "Ranking":
        """All groups as one, (1, g m), in the order of the groups and, within them, of their ranks."""
        xp = array_namespace(self.scores)
        ranked = xp.take_along_axis(self.labels, self.order, axis=1)
        return Ranking.of(xp.reshape(self.sorted, (1, -1)), xp.reshape(ranked, (1, -1)), runs=True)

    def transposed(self) -> "Ranking":
        """The i-th elements of all groups as group i: (m, g)."""
        return Ranking.of(_transposed(self.scores), _transposed(self.labels))


def parts(g: int, m: int) -> Iterator[slice]:
    """Slices that divide g groups of m scores into parts of about `BLOCK` scores."""
    step = max(BLOCK // max(m, 1), 1)
    return (slice(start, min(start + step, g)) for start in range(0, g, step))


def _transposed(table: Array) -> Array:
    """A table (n, c) as (c, n), with each row contiguous."""
    xp = array_namespace(table)
    flat = xp.reshape(xp.permute_dims(table, (1, 0)), (-1,))  # flattening copies in that order
    return xp.reshape(flat, (table.shape[1], table.shape[0]))


def next_untied(tied: BoolArray) -> IntArray:
    """For each k = 0 .. m the next k at which equal scores are not separated; `tied` is (…, m + 1)."""
    m = tied.shape[-1] - 1
    untied = np.where(tied, m, np.arange(m + 1))
    return np.minimum.accumulate(untied[..., ::-1], axis=-1)[..., ::-1]
