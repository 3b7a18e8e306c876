"""Thresholds that are optimal on the rows given: a label is predicted where its score reaches its class's.

Cuts are found by sorting, never on a grid. Taking the k highest scores of a class makes tp(k) true positives,
so with p positives in all and beta² = a/b

    F(k) = (a + b) tp(k) / (a p + b k),    and 0 where k + p = 0, as scikit-learn has it with zero_division=0.

Arrays may be NumPy's or torch's, on any device: the same lines serve both, in float64 and whole numbers.

Of thresholds that reach the same, the one that predicts the fewest labels is taken. What they reach is
compared so that equal values are equal on every processor: counts as whole numbers; one F as the quotient of
two whole numbers, which IEEE 754 rounds correctly; sums of F, whose rounding depends on the order of
addition, in whole units of 2^-50 or more (`Units`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from array_api_compat import array_namespace

from encode_once.cache.errors import DataError, unknown_name
from encode_once.classify.decisions.ranking import ALWAYS, NEVER, Array, Ranking

__all__ = ["ALWAYS", "NAMES", "NEVER", "Objective", "tune"]

NAMES = (
    "none", "at:0.4", "macro", "weighted", "micro", "samples", "precision:0.9", "recall:0.9", "macro-f2",
    "global-macro", "global-weighted", "global-micro", "global-samples", "global-precision:0.9",
    "global-recall:0.9", "global-micro-f0.5",
)  # fmt: skip
GRAMMAR = re.compile(
    r"(?P<one>global-)?(?:(?P<average>macro|weighted|micro|samples)(?:-f(?P<beta>\d+|\d*\.\d{1,3}))?"
    r"|(?P<least>precision|recall):(?P<share>\d*\.?\d+))"
)


@dataclass(frozen=True)
class Objective:
    """What cuts maximise. `NAMES` has an example of each kind; beta may be .01 to 100, to three places."""

    name: str  # as --objective has it
    measure: str  # an average of F, or "precision" or "recall", of which `share` is to be had; "" if fixed
    one_cut: bool = False  # for all classes
    beta: Fraction = Fraction(1)  # recall counts so many times as much as precision
    share: Fraction = Fraction(0)
    fixed: float | None = None  # the cut of every class, where it is named beforehand

    @classmethod
    def of(cls, name: str) -> "Objective":
        """The objective of that name.

        Raises:
            UsageError: there is none.
        """
        if name == "none":
            return cls(name, "", fixed=0.5)
        rule, _, number = name.partition(":")
        if rule == "at" and re.fullmatch(r"\d*\.?\d+", number) and float(number) <= 1:
            return cls(name, "", fixed=float(number))
        if found := GRAMMAR.fullmatch(name):
            one, average, beta, least, share = found.groups()
            if least and Fraction(share) <= 1:
                return cls(name, least, bool(one), share=Fraction(share))
            if average and Fraction(1, 100) <= Fraction(beta or 1) <= 100:
                return cls(name, average, bool(one), Fraction(beta or 1))
        raise unknown_name("objective", name, NAMES)

    def f(self, tp: Array, k: Array, p: Array) -> Array:
        """F from true positives, the number predicted and the number true."""
        xp = array_namespace(tp, k, p)
        hits, size = self.parts(tp, k, p)
        return hits / xp.astype(xp.where(size > 0, size, 1), xp.float64)  # torch divides integers in float32

    def parts(self, tp: Array, k: Array, p: Array) -> tuple[Array, Array]:
        """F's numerator and denominator, whole numbers."""
        a, b = (self.beta**2).as_integer_ratio()
        return (a + b) * tp, a * p + b * k


@dataclass(frozen=True)
class Units:
    """F in whole units, as small as int64 allows for the sum of `terms` values: such sums are exact."""

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

    scores (n, c) are probabilities, labels (n, c) the truth. `samples` comes to a local optimum, every other
    objective to a global one. `precision:P` gives each class the most recall that a cut of that precision
    has, `recall:R` the most precision; a class that none reaches P in is never predicted. Where each class
    has a cut of its own that F decides, one without positives is never predicted, one without negatives
    always.
    Raises DataError: an unknown objective, shapes that do not fit, scores that are NaN or outside [0, 1].
    """
    chosen = Objective.of(objective) if isinstance(objective, str) else objective
    return solve(ranked(scores, labels), chosen)


def ranked(scores: Array, labels: Array) -> Ranking:
    """Scores and labels (n, c) as `solve` takes them. Raises DataError: as `tune`."""
    if scores.ndim != 2 or scores.shape != labels.shape or 0 in scores.shape:
        shapes = ", ".join(str(tuple(one.shape)) for one in (scores, labels))
        raise DataError(f"scores and labels must share one shape (rows, classes): {shapes}")
    if not array_namespace(scores, labels).all((scores >= 0) & (scores <= 1)):
        raise DataError("scores must be probabilities: some are NaN or outside [0, 1]")
    return Ranking.of_classes(scores, labels)


def solve(ranking: Ranking, objective: Objective) -> Array:
    """The same of what is ranked already: several objectives then sort but once."""
    every = array_namespace(ranking.scores).ones_like(ranking.scores[:, 0])
    if objective.fixed is not None:
        return every * objective.fixed
    return every * (ONE_CUT if objective.one_cut else OWN_CUTS)[objective.measure](ranking, objective)


def _macro(ranking: Ranking, objective: Objective) -> Array:
    """Macro and weighted F add up terms that hang on one class's cut each: every class has its own best."""
    return ranking.cuts(ranking.best(_curve(ranking, objective)))


def _curve(ranking: Ranking, objective: Objective) -> Array:
    """F of each group when its k highest scores are taken, k = 0 .. m, (g, m + 1)."""
    return objective.f(ranking.tp, ranking.k, ranking.p)


def _micro(ranking: Ranking, objective: Objective) -> Array:
    """A fractional programme, solved by Dinkelbach's method (Management Science 13, 1967).

    Micro F is N / D, where N = (a + b) Σ tp_c(k_c) and D = Σ a p_c + b k_c over the classes. It exceeds a
    value F exactly where N - F D > 0: a sum over classes, greatest where each class's term is. So take the
    best cuts for the present F, let F be what they reach, and repeat until it no longer rises: then no cuts
    exceed it. F is kept as a fraction of whole numbers, so that no rounding enters.
    """
    xp = array_namespace(ranking.scores)
    hits, size = objective.parts(ranking.tp, ranking.k, ranking.p)
    most = int(xp.sum(size[:, -1]))  # no fraction below has a larger part
    rounding = 0.0
    if most**2 >= 2**62:  # beta has many digits: products are rounded, and differ where F does by 1e-15
        hits, size = (xp.astype(counts, xp.float64) for counts in (hits, size))
        rounding = most**2 * 2.0**-51
    numerator, denominator = 0, 1
    while True:
        k = ranking.best(denominator * hits - numerator * size, rounding)
        reached, whole = (int(xp.sum(xp.take_along_axis(one, k[:, None], axis=1))) for one in (hits, size))
        if reached * denominator <= numerator * whole:
            return ranking.cuts(k)
        numerator, denominator = reached, whole


def _samples(ranking: Ranking, objective: Objective) -> Array:
    """The best that coordinate ascent reaches from one cut, from the cuts for micro F, and for macro F."""
    xp = array_namespace(ranking.scores)
    p, n = ranking.p[:, 0], ranking.scores.shape[1]
    units, reached = Units(n), -1
    for start in (_one_for_rows, _micro, _macro):
        cuts = xp.where(p == 0, NEVER, xp.where(p == n, ALWAYS, start(ranking, objective)))
        k, total = _ascend(ranking, ranking.scores >= cuts[:, None], objective, units)
        if reached < 0 or total > reached + units.rounding:
            reached, best = total, k
    return ranking.cuts(best)


def _ascend(ranking: Ranking, on: Array, objective: Objective, units: Units) -> tuple[Array, int]:
    """Change one class's cut after another until none improves samples F.

    Returns how many scores each class takes (c,), and the sum of the rows' F in units.

    With all other classes held, switching class c on changes each row's F by a known gain. A cut switches it
    on in the rows above: the best is the k for which the gains of the k highest scores add up highest.
    """
    xp = array_namespace(on)
    labels = ranking.labels
    k, p = xp.sum(on, axis=1), xp.sum(labels, axis=0)
    tp, size = xp.sum(on & labels, axis=0), xp.sum(on, axis=0)  # (n,) each
    improved = True
    while improved:
        improved = False
        for c in range(labels.shape[0]):
            mine, truth = ranking.group(c), xp.astype(labels[c, :], tp.dtype)
            tp, size = tp - truth * on[c, :], size - xp.astype(on[c, :], size.dtype)
            gains = units.of(objective.f(tp + truth, size + 1, p)) - units.of(objective.f(tp, size, p))
            totals = mine.totals(gains[None, :])
            best = mine.best(totals, units.rounding)[0]
            if totals[0, best] > totals[0, k[c]] + units.rounding:
                k[c], improved = best, True
                on[c, :] = False
                on[c, mine.order[0, :best]] = True
            tp, size = tp + truth * on[c, :], size + xp.astype(on[c, :], size.dtype)
    return k, int(xp.sum(units.of(objective.f(tp, size, p))))


def _precision(ranking: Ranking, objective: Objective) -> Array:
    """Of the cuts with that precision, the one of most true positives; to take nothing is always precise."""
    tp = ranking.tp
    precise = objective.share.denominator * tp >= objective.share.numerator * ranking.k
    return ranking.cuts(ranking.best(array_namespace(tp).where(precise, tp, -1)))


def _recall(ranking: Ranking, objective: Objective) -> Array:
    """Of the cuts with that recall, the most precise and, of several such, the one of most true positives.

    A class without positives has no recall, and is never predicted.
    """
    tp, k, p = ranking.tp, ranking.k, ranking.p
    xp = array_namespace(tp)
    enough = ~ranking.tied & (objective.share.denominator * tp >= objective.share.numerator * p)
    precision = xp.where(enough, tp / xp.astype(xp.where(k > 0, k, 1), xp.float64), -1.0)
    highest = precision == xp.max(precision, axis=1, keepdims=True)
    return ranking.cuts(xp.where(p[:, 0] > 0, ranking.best(xp.where(highest, tp, -1)), 0))


def _one(ranking: Ranking, objective: Objective, weights: Array | None = None) -> Array:
    """The one cut that maximises the weighted sum of F over groups.

    Lowering the cut past one score moves the F of that score's group alone, by one step of its curve. The
    steps of all groups, added up in the order of their scores, give the sum at every cut.
    """
    xp = array_namespace(ranking.scores)
    weights = xp.ones_like(ranking.p) if weights is None else weights  # whole numbers (g, 1)
    units = Units(int(xp.sum(weights)))
    steps = xp.diff(units.of(_curve(ranking, objective)), axis=1) * weights
    everything = ranking.together()
    totals = everything.totals(xp.reshape(steps, (1, -1)))
    return everything.cuts(everything.best(totals, units.rounding))


def _one_for_rows(ranking: Ranking, objective: Objective) -> Array:
    return _one(ranking.turned(), objective)


Solver = Callable[[Ranking, Objective], Array]
OWN_CUTS: dict[str, Solver] = {
    "macro": _macro,
    "weighted": _macro,
    "micro": _micro,
    "samples": _samples,
    "precision": _precision,
    "recall": _recall,
}
ONE_CUT: dict[str, Solver] = {
    "macro": _one,
    "weighted": lambda ranking, objective: _one(ranking, objective, ranking.p),
    "micro": lambda ranking, objective: _macro(ranking.together(), objective),
    "samples": _one_for_rows,
    "precision": lambda ranking, objective: _precision(ranking.together(), objective),
    "recall": lambda ranking, objective: _recall(ranking.together(), objective),
}
