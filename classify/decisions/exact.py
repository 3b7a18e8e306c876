"""Thresholds that are optimal on the given rows: a class is predicted if its score reaches its threshold.

Thresholds are found by sorting, never on a grid. Selecting the k highest scores of a class makes tp(k) true
positives, so with p positives in all and beta² = a/b

    F(k) = (a + b) tp(k) / (a p + b k),    and 0 if k + p = 0, as with scikit-learn's zero_division=0.

Arrays may be NumPy's or torch's, on any device: the same lines serve both, in float64 and whole numbers.

Of thresholds with equal results, the one that predicts the fewest labels is taken. Results are compared so
that equal values are equal on every processor: counts as whole numbers; one F as the quotient of two whole
numbers, which IEEE 754 rounds correctly; sums of F, whose rounding depends on the order of addition, in whole
units of 2^-50 or more (`Units`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import as_partial_labels
from encode_once.classify.decisions import shared
from encode_once.classify.decisions.canonical import canonical_order
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.ranking import ALWAYS, BLOCK, HIDDEN, NEVER, Array, Ranking


@dataclass(frozen=True)
class Units:
    """F in whole units, as small as int64 allows for a sum of `terms` values, so that such sums are exact."""

    terms: int

    @property
    def rounding(self) -> int:
        """How far two sums that are equal as fractions may differ: each value is off by less than a unit."""
        return 2 * self.terms

    def of(self, f: Array) -> Array:
        """F as int64."""
        xp = array_namespace(f)
        return xp.astype(xp.round(f * 2.0 ** min(50, 62 - self.terms.bit_length())), xp.int64)


def tune(scores: Array, labels: Array, objective: str | Objective) -> Array:
    """Thresholds (c,) that maximise an objective on these rows.

    scores (n, c) are probabilities, labels (n, c) the truth. Unknown entries count as if they were not there.
    `samples` reaches a local optimum, every other
    objective a global one. `precision:P` gives each class the most recall possible at that precision,
    `recall:R` the most precision; a class that never reaches P is never predicted. With an F per class, a
    class without positives is never predicted, and a class without negatives always.

    Raises:
        DataError: unknown objective, shapes that do not match, scores that are NaN or outside [0, 1], labels
            that are not 0 or 1.
    """
    objective = Objective.of(objective) if isinstance(objective, str) else objective
    return solve(ranked(scores, labels), objective)


def ranked(scores: Array, labels: Array) -> Ranking:
    """Scores and labels (n, c) for `solve`. Raises DataError as `tune` does."""
    labels = as_partial_labels(labels)
    if scores.shape != labels.shape:
        shapes = ", ".join(str(tuple(table.shape)) for table in (scores, labels))
        raise DataError(f"scores and labels must share one shape (rows, classes): {shapes}")
    if not array_namespace(scores, labels).all((scores >= 0) & (scores <= 1)):
        raise DataError("scores must be probabilities: some are NaN or outside [0, 1]")
    return Ranking.of_classes(scores, labels)


def solve(ranking: Ranking, objective: Objective) -> Array:
    """`tune` on scores that are sorted already, so that several objectives sort only once."""
    ones = array_namespace(ranking.scores).ones_like(ranking.scores[:, 0])
    if objective.fixed is not None:
        return ones * objective.fixed
    solvers = SHARED if objective.shared else PER_CLASS
    return ones * solvers[objective.measure](ranking, objective)


def _macro(ranking: Ranking, objective: Objective) -> Array:
    """Macro and weighted F are sums with one term per class: each class has its own best threshold."""
    return ranking.thresholds(ranking.by_block(lambda block: block.best(_curve(block, objective))))


def _curve(ranking: Ranking, objective: Objective) -> Array:
    """F of each group when its k highest scores are selected, k = 0 .. m, (g, m + 1)."""
    return objective.f(ranking.tp, ranking.k, ranking.p)


def _micro(ranking: Ranking, objective: Objective) -> Array:
    """A fractional programme, solved by Dinkelbach's method (Management Science 13, 1967).

    Micro F is N / D, with N = (a + b) Σ tp_c(k_c) and D = Σ a p_c + b k_c over the classes. It exceeds a
    value F exactly where N - F D > 0: a sum over classes, greatest where each class's term is. So take the
    best thresholds for the present F, let F be what they reach, and repeat until it no longer rises: then no
    thresholds exceed it. F is kept as a fraction of whole numbers, so that nothing is rounded.
    """
    xp = array_namespace(ranking.scores)
    _, whole_size = objective.parts(0, ranking.scores.shape[1], ranking.p)
    largest = int(xp.sum(whole_size))  # no fraction below has a larger part
    rounding = 0.0
    if largest**2 >= 2**62:  # products are rounded, and differ where F does by 1e-15
        rounding = largest**2 * 2.0**-51

    def best(block: Ranking) -> Array:
        """k, and hits and size there, (g, 3)."""
        hits, size = objective.parts(block.tp, block.k, block.p)
        exact = (
            denominator * hits - numerator * size
            if not rounding
            else (denominator * xp.astype(hits, xp.float64) - numerator * xp.astype(size, xp.float64))
        )
        k = block.best(exact, rounding)[:, None]
        return xp.concat([k, *(xp.take_along_axis(part, k, axis=1) for part in (hits, size))], axis=1)

    numerator, denominator = 0, 1
    while True:
        chosen = ranking.by_block(best)
        k = chosen[:, 0]
        reached, whole = (int(xp.sum(chosen[:, column])) for column in (1, 2))
        if reached * denominator <= numerator * whole:
            return ranking.thresholds(k)
        numerator, denominator = reached, whole


def _samples(ranking: Ranking, objective: Objective) -> Array:
    """The best of coordinate ascent from a shared threshold, from micro's thresholds, and from macro's."""
    xp = array_namespace(ranking.scores)
    p, n = ranking.p[:, 0], ranking.scores.shape[1]
    units, reached = Units(n), -1
    classes, _ = canonical_order(ranking.scores, ranking.labels)
    for start in (_shared_samples, _micro, _macro):
        thresholds = xp.where(p == 0, NEVER, xp.where(p == ranking.sizes, ALWAYS, start(ranking, objective)))
        on = ranking.scores >= thresholds[:, None]
        k, total = _ascend(ranking, on, objective, units, classes.tolist())
        if reached < 0 or total > reached + units.rounding:
            reached, best = total, k
    return ranking.thresholds(best)


def _ascend(
    ranking: Ranking, on: Array, objective: Objective, units: Units, classes: Sequence[int]
) -> tuple[Array, int]:
    """Change one class's threshold after another, in the order given, until none improves samples F.

    Returns how many scores each class selects (c,), and the sum of the rows' F in units.

    With all other classes fixed, predicting class c changes each row's F by a known gain. A threshold
    predicts it in the rows above: the best k is the one for which the gains of the k highest scores have the
    greatest sum.
    """
    xp = array_namespace(on)
    labels = ranking.labels
    k, p = xp.sum(on, axis=1), xp.sum(labels, axis=0)
    tp, size = xp.sum(on & labels, axis=0), xp.sum(on, axis=0)  # (n,) each
    few = ranking.scores.shape[0] * ranking.scores.shape[1] <= BLOCK
    kept = {c: ranking.group(c) for c in classes} if few else {}
    improved = True
    while improved:
        improved = False
        for c in classes:
            group = kept.get(c) or ranking.group(c)
            truth = xp.astype(labels[c, :], tp.dtype)
            tp, size = tp - truth * on[c, :], size - xp.astype(on[c, :], size.dtype)
            gains = units.of(objective.f(tp + truth, size + 1, p)) - units.of(objective.f(tp, size, p))
            totals = group.totals(gains[None, :])
            best = group.best(totals, units.rounding)[0]
            if totals[0, best] > totals[0, k[c]] + units.rounding:
                k[c], improved = best, True
                on[c, :] = False
                on[c, group.order[0, :best]] = True
            tp, size = tp + truth * on[c, :], size + xp.astype(on[c, :], size.dtype)
    return k, int(xp.sum(units.of(objective.f(tp, size, p))))


def _precision(ranking: Ranking, objective: Objective) -> Array:
    """Of the thresholds with that precision, the one with most true positives; no prediction is precise."""

    def best(block: Ranking) -> Array:
        precise = objective.share.denominator * block.tp >= objective.share.numerator * block.k
        return block.best(array_namespace(block.tp).where(precise, block.tp, -1))

    return ranking.thresholds(ranking.by_block(best))


def _recall(ranking: Ranking, objective: Objective) -> Array:
    """Of the thresholds with that recall, the most precise and, of several such, the one with most hits.

    A class without positives has no recall, and is never predicted.
    """

    def best(block: Ranking) -> Array:
        tp, k, p = block.tp, block.k, block.p
        xp = array_namespace(tp)
        enough = ~block.tied & (objective.share.denominator * tp >= objective.share.numerator * p)
        precision = xp.where(enough, tp / xp.astype(xp.where(k > 0, k, 1), xp.float64), -1.0)
        highest = precision == xp.max(precision, axis=1, keepdims=True)
        return xp.where(p[:, 0] > 0, block.best(xp.where(highest, tp, -1)), 0)

    return ranking.thresholds(ranking.by_block(best))


def _shared(ranking: Ranking, objective: Objective, weights: Array | None = None) -> Array:
    """The shared threshold that maximises the weighted sum of F over groups.

    Lowering the threshold past one score changes the F of that score's group alone, by one step of its curve.
    The steps of all groups, added up in the order of their scores, give the sum at every threshold.
    """
    xp = array_namespace(ranking.scores)
    of_groups = xp.ones_like(ranking.p) if weights is None else weights  # whole numbers (g, 1)
    units = Units(int(xp.sum(of_groups)))
    if is_numpy_array(ranking.scores) and ranking.scores.size > shared.EXACT:
        return _shared_of_blocks(ranking.with_slices, objective, units, ranking.scores, of_groups)
    steps = xp.diff(units.of(_curve(ranking, objective)), axis=1) * of_groups
    together = ranking.together()
    totals = together.totals(xp.reshape(steps, (1, -1)))
    return together.thresholds(together.best(totals, units.rounding))


def _shared_of_blocks(
    rankings: Callable[[], Iterable[tuple[slice, Ranking]]],
    objective: Objective,
    units: Units,
    scores: Array,
    weights: Array | None = None,
) -> Array:
    """The same from blocks of the groups, (1,). weights: as whole numbers (g, 1); by default 1."""

    def blocks() -> Iterator[tuple[Array, Array]]:
        for part, block in rankings():
            steps = np.diff(units.of(_curve(block, objective)), axis=1)
            shown = block.sorted != HIDDEN
            yield block.sorted[shown], (steps if weights is None else steps * weights[part])[shown]

    sample = scores.reshape(-1)[:: scores.size // shared.SAMPLE + 1]
    return np.array([shared.best_shared(blocks, sample[sample != HIDDEN], units.rounding).threshold])


def _shared_samples(ranking: Ranking, objective: Objective) -> Array:
    if is_numpy_array(ranking.scores) and ranking.scores.size > shared.EXACT:
        units = Units(ranking.scores.shape[1])
        return _shared_of_blocks(ranking.transposed_slices, objective, units, ranking.scores)
    return _shared(ranking.transposed(), objective)


Solver = Callable[[Ranking, Objective], Array]
PER_CLASS: dict[str, Solver] = {
    "macro": _macro,
    "weighted": _macro,
    "micro": _micro,
    "samples": _samples,
    "precision": _precision,
    "recall": _recall,
}
SHARED: dict[str, Solver] = {
    "macro": _shared,
    "weighted": lambda ranking, objective: _shared(ranking, objective, ranking.p),
    "micro": lambda ranking, objective: _macro(ranking.together(), objective),
    "samples": _shared_samples,
    "precision": lambda ranking, objective: _precision(ranking.together(), objective),
    "recall": lambda ranking, objective: _recall(ranking.together(), objective),
}
