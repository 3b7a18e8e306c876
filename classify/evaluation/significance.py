"""Whether differences between systems are more than chance, and how many comparisons cost.

**One set of eval rows.** The difference of two systems varies with the rows and with the seeds of both.
Paired bootstrap draws of the rows give the first variance. Seeds add s² / S, for S runs of variance s², of
each system: their draws are independent. The degrees of freedom are Satterthwaite's (1946).

**Several sets**, by folds or redrawn splits. The differences of J sets are not independent, because their
train rows overlap. Nadeau and Bengio (Inference for the Generalization Error, 2003) replace the variance
s² / J of their mean by (1 / J + n_eval / n_train) s², with J - 1 degrees of freedom; for r × k folds this is
the corrected repeated k-fold test (Bouckaert and Frank, 2004).

**Several systems** are compared with the best. Of m p-values, Holm (1979) multiplies the smallest by m, the
next by m - 1, and so on: the chance of any false claim is then at most the level.

**Several data sets** are compared by ranks (Demšar, Statistical Comparisons of Classifiers over Multiple Data
Sets, 2006): Friedman's test, Nemenyi's critical difference, and Wilcoxon's signed-rank test of each pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from scipy import stats

from encode_once.classify.arrays import FloatArray
from encode_once.classify.evaluation.intervals import LEVEL, interval

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class TestedDifference:
    """The mean difference of two systems, its interval, and the p-value that it is 0."""

    difference: float
    interval: list[float]
    p: float


def of_rows(difference: float, draws: FloatArray, seeds: Sequence[tuple[float, int]]) -> TestedDifference:
    """The difference of two systems on one set of rows.

    draws (draws,): of the difference, by rows. seeds: (variance, number) of the runs of each system; a single
    run has variance 0, as nothing is known of it.
    """
    parts = [(variance / number, number - 1) for variance, number in seeds if number > 1]
    variance = float(draws.var()) + sum(part for part, _ in parts)
    uncertain = sum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / uncertain if uncertain else np.inf
    of_rows = float(draws.std())
    if of_rows == 0:
        return _tested(difference, variance**0.5, freedom)
    wider = stats.t.ppf((1 + LEVEL) / 2, freedom) / stats.norm.ppf((1 + LEVEL) / 2) * variance**0.5 / of_rows
    ends = interval(draws.mean() + wider * (draws - draws.mean()), difference)
    assert ends is not None
    return TestedDifference(difference, ends, _p_value(difference, variance**0.5, freedom))


def of_sets(differences: FloatArray, ratio: float) -> TestedDifference:
    """The mean of differences (J,), J ≥ 2, on eval sets whose train sets overlap.

    ratio: eval rows per train row.
    """
    J = len(differences)
    error = float(np.sqrt((1 / J + ratio) * differences.var(ddof=1)))
    return _tested(float(differences.mean()), error, J - 1)


def _tested(difference: float, error: float, freedom: float) -> TestedDifference:
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return TestedDifference(
        difference, [difference - reach, difference + reach], _p_value(difference, error, freedom)
    )


def _p_value(difference: float, error: float, freedom: float) -> float:
    """Two-sided, of Student's distribution."""
    if error == 0:
        return float(difference == 0)
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values (m,) corrected for their number, in the same order."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in corrected]


@dataclass(frozen=True)
class RankTest:
    """Systems compared by their ranks in several blocks, which are data sets or folds.

    friedman: the p-value that all systems are alike; None for two.
    critical: the difference of mean ranks from which on Nemenyi's test calls two systems different.
    pairs: (i, j, p) of each pair of systems by Wilcoxon's test, corrected by Holm.
    """

    mean_ranks: list[float]
    friedman: float | None
    critical: float
    pairs: list[tuple[int, int, float]]

    @property
    def cliques(self) -> list[list[int]]:
        """The largest groups of systems, by rank, whose mean ranks differ by less than `critical`."""
        order = sorted(range(len(self.mean_ranks)), key=self.mean_ranks.__getitem__)
        ranks = [self.mean_ranks[system] for system in order]
        groups, end = [], 0
        for start, lowest in enumerate(ranks):
            last = max(k for k, rank in enumerate(ranks) if rank - lowest < self.critical)
            if last > start and last >= end:
                groups.append(order[start : last + 1])
                end = last + 1
        return groups


def rank_test(values: FloatArray) -> RankTest:
    """Values (blocks, systems), of which higher ones are better; two blocks and two systems, or more."""
    blocks, k = values.shape
    ranks = stats.rankdata(-values, axis=1)
    differ = (ranks != ranks[:, :1]).any()
    friedman = (float(stats.friedmanchisquare(*values.T).pvalue) if differ else 1.0) if k > 2 else None
    pairs = [*combinations(range(k), 2)]
    p_values = [_wilcoxon(values[:, i] - values[:, j]) for i, j in pairs]
    return RankTest(
        [float(rank) for rank in ranks.mean(axis=0)],
        friedman,
        _nemenyi(k) * (k * (k + 1) / (6 * blocks)) ** 0.5,
        [(i, j, p) for (i, j), p in zip(pairs, holm(p_values), strict=True)],
    )


@cache
def _nemenyi(k: int) -> float:
    """The critical value for k systems, which takes a fifth of a second."""
    return float(stats.studentized_range.ppf(LEVEL, k, np.inf)) / 2**0.5


def _wilcoxon(differences: FloatArray) -> float:
    """Two-sided and exact, with ties, for which scipy takes half a second; differences of 0 are left out."""
    differences = differences[differences != 0]
    ranks = np.rint(2 * stats.rankdata(abs(differences))).astype(int)  # twice the ranks are whole numbers
    chances = np.ones(1)  # of each sum of the ranks with positive signs
    for rank in ranks:
        chances = np.convolve(chances, np.bincount([0, rank], [0.5, 0.5]))
    observed = int(ranks[differences > 0].sum())
    return float(min(2 * min(chances[: observed + 1].sum(), chances[observed:].sum()), 1))
