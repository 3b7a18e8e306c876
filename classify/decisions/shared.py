"""The best shared threshold of very many scores, without sorting them all.

The sum of F over groups is 0 if no score is selected, and every score that is passed on the way down adds a
step (`exact._shared`). Scores are counted in bins: the sum is exact at their edges, and inside a bin it is
higher than at its start by no more than the positive steps in it. So only bins in which the sum may exceed
the best edge are looked into. If these hold few scores, as a rule, they are sorted, and the threshold is the
best of all. Otherwise it is that of the best edge, and `gap` is how much more the best of all may reach.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import FloatArray, IntArray
from encode_once.classify.decisions.ranking import ALWAYS, NEVER

EXACT = 2**25  # scores up to which all are sorted, with up to 100 bytes for each
SORTED = 2**24  # scores of open bins that are sorted
EDGES = 2**16  # edges of bins, which hold about as many scores each
SAMPLE = 2**20  # scores that the edges are taken from
HALF = 31  # bits of steps that are summed apart, so that float64 holds the sums exactly

Steps = NDArray[np.int64]
Blocks = Callable[[], Iterable[tuple[FloatArray, Steps]]]  # scores and steps of all groups, a block at a time


class Shared(NamedTuple):
    """A threshold, and how much more than its sum another one may reach, in the units of the steps."""

    threshold: float
    gap: int


def best_shared(blocks: Blocks, sample: FloatArray, rounding: int = 0) -> Shared:
    """The highest threshold whose sum is the greatest, up to rounding.

    sample: some of the scores, from which the edges of bins are taken.
    """
    if not len(sample):
        return Shared(NEVER, 0)
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, EDGES), method="nearest"))
    bins = len(edges) + 1
    steps, rises, counts = np.zeros((3, bins), np.int64)
    lowest, highest = np.full(bins, np.inf), np.full(bins, -np.inf)
    for scores, step in blocks():
        bin_of = np.searchsorted(edges, scores, side="right")
        steps += _sums(bin_of, step, bins)
        rises += _sums(bin_of, step.clip(min=0), bins)
        counts += np.bincount(bin_of, minlength=bins)
        np.minimum.at(lowest, bin_of, scores)
        np.maximum.at(highest, bin_of, scores)
    above = steps[::-1].cumsum()[::-1] - steps  # the sum at the start of each bin, from the highest down
    at_edge = max(int((above + steps).max()), 0)
    open_bins = (above + rises >= at_edge - rounding) & (counts > 0)
    below = np.concatenate([[-np.inf], np.maximum.accumulate(np.where(counts > 0, highest, -np.inf))[:-1]])
    if counts[open_bins].sum() > SORTED:
        best = np.flatnonzero((above + steps >= at_edge - rounding) & (counts > 0))
        gap = int((above + rises).max()) - at_edge
        if at_edge <= rounding or not len(best):
            return Shared(NEVER, gap)
        return Shared(_between(lowest[best[-1]], below[best[-1]]), gap)
    return Shared(_sorted_best(blocks, edges, open_bins, above, below, rounding), 0)


def _sorted_best(
    blocks: Blocks, edges: FloatArray, open_bins: NDArray[np.bool_], above: IntArray, below: FloatArray,
    rounding: int,
) -> float:  # fmt: skip
    """The best threshold, of which it is known that it lies in one of the open bins, or above all scores."""
    parts = []
    for scores, step in blocks():
        inside = open_bins[np.searchsorted(edges, scores, side="right")]
        parts.append((scores[inside], step[inside]))
    scores, step = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(-scores)
    scores, step = scores[order], step[order]
    bin_of = np.searchsorted(edges, scores, side="right")
    starts = np.flatnonzero(np.r_[True, bin_of[1:] != bin_of[:-1]][: len(bin_of)])
    sums = step.cumsum()
    before = np.repeat(sums[starts] - step[starts], np.diff(np.r_[starts, len(scores)]))
    totals = above[bin_of] + sums - before
    ends = np.r_[scores[1:] != scores[:-1], True][: len(scores)]  # equal scores are selected together
    best = max(int(totals[ends].max(initial=0)), 0)
    if best <= rounding:
        return NEVER
    place = int(np.flatnonzero(ends & (totals >= best - rounding))[0])
    last_of_bin = place + 1 == len(scores) or bin_of[place + 1] != bin_of[place]
    return _between(scores[place], below[bin_of[place]] if last_of_bin else scores[place + 1])


def _between(score: float, next_score: float) -> float:
    """A threshold that selects a score and not the next one, as `Ranking.thresholds`."""
    if next_score == -np.inf:
        return ALWAYS
    halfway = (score + next_score) / 2
    return float(halfway if halfway > next_score else score)


def _sums(bin_of: IntArray, steps: Steps, bins: int) -> Steps:
    """The sum of the steps in each bin, without rounding."""
    low, high = steps & (2**HALF - 1), steps >> HALF
    of_low, of_high = (np.bincount(bin_of, part, bins).astype(np.int64) for part in (low, high))
    return np.asarray(of_low + (of_high << HALF))
