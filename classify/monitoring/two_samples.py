"""Whether two samples come from one distribution: statistics, p-values and their correction for many tests.

Every p-value is exact or conservative for independent rows: Kolmogorov-Smirnov and Fisher's exact test depend
on no distribution, and a permutation test on none but the exchangeability of rows.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.stats import fisher_exact, ks_2samp

from encode_once.classify.arrays import BoolArray, FloatArray, PartialLabels, Probabilities, Vectors

BINS = 10  # of the population stability index, by convention
SMOOTHING = 0.5  # added to each count, so that an empty bin is not infinitely far away
EXACT_PAIRS = 1_000_000  # of rows, up to which the exact distribution takes milliseconds
EXCEEDANCES = 20  # permutations at least as extreme after which no more are drawn
CHUNK = 250  # permutations drawn at a time


def stability_index(reference: Probabilities, new: Probabilities) -> FloatArray:
    """The population stability index of each class's scores (n, c) and (m, c), (c,).

    Σ (new - reference) ln(new / reference) over the shares in ten bins, which hold equally many of the
    reference. By convention, 0.1 is a small shift and 0.25 a large one; of n and m rows without any shift it
    is about 9 (1/n + 1/m).
    """
    return np.array([_index(*columns) for columns in zip(reference.T, new.T, strict=True)])


def _index(reference: FloatArray, new: FloatArray) -> float:
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = []
    for column in (reference, new):
        counts = np.bincount(np.searchsorted(edges, column, "right"), minlength=len(edges) + 1) + SMOOTHING
        shares.append(counts / counts.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def score_shifts(reference: Probabilities, new: Probabilities) -> FloatArray:
    """The p-value of each class's Kolmogorov-Smirnov test of scores (n, c) and (m, c), (c,)."""
    method = "exact" if len(reference) * len(new) <= EXACT_PAIRS else "asymp"
    columns = zip(reference.T, new.T, strict=True)
    with warnings.catch_warnings():  # of a p-value near 1, for which scipy falls back to the asymptotic one
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.array([ks_2samp(*pair, method=method).pvalue for pair in columns])


def share_shifts(reference: PartialLabels, new: PartialLabels, alternative: str = "two-sided") -> FloatArray:
    """The p-value of Fisher's exact test of each column's share in (n, c) and (m, c), (c,).

    Unknown entries are left out. alternative: "greater" if only a greater share in the new rows counts.
    """
    counts = np.array([[(rows == value).sum(axis=0) for value in (1, 0)] for rows in (new, reference)])
    tables = counts.transpose(2, 0, 1).tolist()
    return np.array([fisher_exact(table, alternative=alternative).pvalue for table in tables])


class Permuted(NamedTuple):
    """The result of a permutation test."""

    statistic: float
    p: float


def energy_test(reference: Vectors, new: Vectors, permutations: int, seed: int = 0) -> Permuted:
    """The energy distance of vectors (n, d) and (m, d), and its p-value by permutations.

    Columns are divided by their standard deviation in both samples together. The distance (Székely and
    Rizzo, 2004) is 0 only for equal distributions: 2 E|X - Y| - E|X - X'| - E|Y - Y'|. As in Besag and
    Clifford (1991), drawing ends with the 20th permutation that is at least as extreme, which leaves the
    p-value valid, and is quick where nothing has shifted.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    both = np.concatenate([reference, new]).astype(np.float64)
    scale = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(scale > 0, scale, 1)
    distances = euclidean_distances(both).astype(np.float32)
    n, m = len(reference), len(new)
    of_row, total = distances.sum(axis=1, dtype=np.float64), float(distances.sum(dtype=np.float64))

    def statistics(is_new: BoolArray) -> FloatArray:
        """Of the samples that the rows of is_new (k, n + m) choose, (k,)."""
        chosen = is_new.astype(np.float32)
        inside = np.einsum("kn,kn->k", chosen @ distances, chosen, dtype=np.float64)
        of_new = chosen @ of_row
        outside = total - 2 * of_new + inside
        return np.asarray(2 * (of_new - inside) / (n * m) - outside / n**2 - inside / m**2)

    observed = float(statistics((np.arange(n + m) >= n)[None])[0])
    rng, extreme = np.random.default_rng(seed), 0
    for drawn in range(0, permutations, CHUNK):
        size = min(CHUNK, permutations - drawn)
        labels = rng.permuted(np.tile(np.arange(n + m) >= n, (size, 1)), axis=1)
        places = np.flatnonzero(statistics(labels) >= observed * (1 - 1e-6))  # equal but for rounding
        if extreme + len(places) >= EXCEEDANCES:
            last = drawn + int(places[EXCEEDANCES - extreme - 1]) + 1
            return Permuted(observed, EXCEEDANCES / last)
        extreme += len(places)
    return Permuted(observed, (extreme + 1) / (permutations + 1))


def holm(p: FloatArray) -> FloatArray:
    """P-values (k,) corrected by Holm (1979): the chance that any true hypothesis is rejected is bounded."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.asarray(np.minimum(corrected, 1)[np.argsort(order)])
