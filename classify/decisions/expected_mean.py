"""The label set of each row that does most for micro, macro and samples F1 at once.

Samples F1 is the mean over n rows of the F1 of a row's set S, whose expectation is a sum over its labels. Let
k labels be chosen and T_i others than i be true. Then (Dembczyński et al., NIPS 2011)

    E[F1(S)] = Σ_(i in S) p_i w_ik,   w_ik = E[2 / (k + 1 + T_i)] = 2 ∫ t^k Π_(j ≠ i) (1 - p_j + p_j t) dt

over [0, 1]. Micro F1 is 2 A / M, with A the true positives and M the predictions and positives of all rows.
Near its best value F a label changes it by (2 p_i - F) / M, and the macro F1 of C classes by (2 p_i - F_i) /
(C M_i), with F_i and M_i of the label's class. So n times the change of the sum of all three is a number for
each label and size k,

    v_ik = p_i w_ik + a_i p_i - b_i,   a_i = 2 n / M + 2 n / (C M_i),   b_i = F n / M + F_i n / (C M_i),

and the best set of k labels is that of the k highest. A rare class has a small M_i: macro F1 decides about
it, samples and micro F1 decide about frequent ones. F and M are those expected for the calibrated
probabilities of the tuning rows, which are less noisy than those of their labels where a class has few.

Of equally good sets the smallest is taken; of equally good labels, the first.
"""

import math
from functools import lru_cache

import numpy as np

from encode_once.classify.arrays import FloatArray, IntArray, LabelMatrix, Probabilities
from encode_once.classify.decisions.expected_f1 import CELLS, ROUNDING
from encode_once.classify.decisions.ranking import BLOCK

ERROR = 1e-16  # of the quadrature, far below ROUNDING


def gains(probabilities: Probabilities) -> FloatArray:
    """The lines a and b of each class, (2, c), for the probabilities (n, c) of the tuning rows."""
    n, c = probabilities.shape
    micro, m = _best(probabilities.ravel())
    macro, m_of_class = np.array([_best(column) for column in probabilities.T]).T
    weights = np.stack([np.full(c, n / m), n / (c * m_of_class)])
    return np.stack([2 * weights.sum(axis=0), weights[0] * micro + weights[1] * macro])


def _best(probabilities: Probabilities) -> tuple[float, float]:
    """The best expected F of probabilities (n,), and its number M of predictions and positives."""
    p = -probabilities
    p.sort()
    np.negative(p, out=p)
    expected, total, best = p.sum(), 0.0, (-np.inf, 0.0)
    for first in range(0, len(p), BLOCK):
        sums = total + p[first : first + BLOCK].cumsum()
        sizes = np.arange(first + 1, first + len(sums) + 1) + expected
        f = 2 * sums / sizes
        place = int(f.argmax())
        best = max(best, (float(f[place]), float(sizes[place])), key=lambda pair: pair[0])
        total = sums[-1]
    return best


def best_sets(probabilities: Probabilities, lines: FloatArray, at_least: int, at_most: int) -> LabelMatrix:
    """The best labels (n, c) of rows with probabilities (n, c), given `gains` (2, c).

    at_least, at_most: numbers of labels per row, at_least up to c. If it is 0, the empty set counts as right
        for a row without labels.
    """
    n, c = probabilities.shape
    p = probabilities.astype(np.float64)
    added = lines[0] * p - lines[1]
    columns, counts = _candidates(p, added, max(at_least, 1))
    at_most = min(at_most, columns.shape[1])
    nodes, powers = quadrature(c, at_most, float(p.sum(axis=1).max(initial=0)))
    chosen = np.zeros((n, c), dtype=bool)
    by_count = np.argsort(counts)  # so that rows of similar counts share a chunk
    step = max(CELLS // (columns.shape[1] * (len(nodes) + at_most)), 1)
    for start in range(0, n, step):
        rows = by_count[start : start + step]
        labels = np.sort(columns[rows, : counts[rows].max()], axis=1)
        values = _samples_values(p[rows], labels, nodes, powers[:, : labels.shape[1]])
        values += np.take_along_axis(added[rows], labels, axis=1)[:, None]
        order, sizes = _best_of_all_sizes(values, (1 - p[rows]).prod(axis=1), at_least)
        best = np.take_along_axis(labels, order, axis=1)
        chosen[np.repeat(rows, sizes), best[np.arange(labels.shape[1]) < sizes[:, None]]] = True
    return chosen


def _candidates(p: FloatArray, added: FloatArray, at_least: int) -> tuple[IntArray, IntArray]:
    """Columns (n, most) of which the first of each row may be in its best set, and their number, (n,).

    A set is worth more without a label of negative value. So the best one has none, unless it has the least
    size l; then it is that of the l highest values. A label is worth at most 2 p / (l + 1) + added, and in a
    set of l at least 2 p / (l + 1 + μ) + added by Jensen's inequality, μ the sum of the row's probabilities.
    """
    highest = 2 / (at_least + 1) * p + added
    lowest = 2 / (at_least + 1 + p.sum(axis=1, keepdims=True)) * p + added
    place = p.shape[1] - at_least
    counts = np.sum(highest >= np.partition(lowest, place, axis=1)[:, [place]].clip(max=0), axis=1)
    return np.argsort(-highest, axis=1, kind="stable")[:, : counts.max(initial=at_least)], counts


def _samples_values(p: FloatArray, labels: IntArray, nodes: FloatArray, powers: FloatArray) -> FloatArray:
    """p_i w_ik of labels (n, m), in rows of probabilities (n, c): (n, k, m)."""
    product = np.ones((len(p), len(nodes)))
    for column in p.T:
        product *= 1 - column[:, None] * (1 - nodes)
    q = np.take_along_axis(p, labels, axis=1)[..., None]
    densities = 1 - q * (1 - nodes)
    np.divide(q, densities, out=densities)
    densities *= product[:, None]
    values: FloatArray = np.einsum("nit,tk->nki", densities, powers)
    return values


def _best_of_all_sizes(values: FloatArray, empty: FloatArray, at_least: int) -> tuple[IntArray, IntArray]:
    """The order (n, m) in which labels belong to the best set, and its size, (n,).

    values: (n, k, m) of m labels in sets of 1 .. k.
    empty: the value of the empty set, (n,).
    """
    sums = -np.sort(-values, axis=2).cumsum(axis=2)
    totals = np.column_stack([empty, np.diagonal(sums, axis1=1, axis2=2)])
    totals[:, :at_least] = -np.inf
    sizes = (totals >= totals.max(axis=1, keepdims=True) - ROUNDING).argmax(axis=1)
    of_size = values[np.arange(len(values)), np.maximum(sizes - 1, 0)]
    return np.argsort(-of_size, axis=1, kind="stable"), sizes


def quadrature(c: int, largest: int, mean: float) -> tuple[FloatArray, FloatArray]:
    """Nodes (m,) in [0, 1] and the weights (m, k) of the integrals for k = 1 .. largest, times 2.

    n nodes are exact for degrees below 2 n. If a function is analytic and at most B in Bernstein's ellipse
    of parameter 2 around [0, 1], their error is at most 12 B / 4^n (Trefethen, SIAM Review 2008). There
    |t| ≤ 9/8, so that |t^k| ≤ exp(k / 8) and |1 - p + p t| ≤ exp(p / 8).

    mean: the greatest sum of a row's c probabilities.
    """
    bound = math.log(24 / ERROR) + (largest + mean) / 8
    nodes, weights = _gauss(min(math.ceil((largest + c) / 2), math.ceil(bound / math.log(4))))
    return nodes, 2 * weights[:, None] * nodes[:, None] ** np.arange(1, largest + 1)


@lru_cache(maxsize=64)  # of a single row, the nodes took half of the time
def _gauss(count: int) -> tuple[FloatArray, FloatArray]:
    """The nodes (count,) in [0, 1] and the weights (count,) of Gauss and Legendre's quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    nodes, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    for array in (nodes, weights):
        array.flags.writeable = False
    return nodes, weights
