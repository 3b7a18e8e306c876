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

import numpy as np

from encode_once.classify.arrays import FloatArray, LabelMatrix, Probabilities
from encode_once.classify.decisions.expected_f1 import CELLS, ROUNDING

ERROR = 1e-16  # of the quadrature, far below ROUNDING


def gains(probabilities: Probabilities) -> FloatArray:
    """The lines a and b of each class, (2, c), for the probabilities (n, c) of the tuning rows."""
    n, c = probabilities.shape
    micro, m = _best(probabilities.reshape(-1, 1))
    macro, m_of_class = _best(probabilities)
    weights = np.stack([n / m.repeat(c), n / (c * m_of_class)])
    return np.stack([2 * weights.sum(axis=0), weights[0] * micro + weights[1] * macro])


def _best(probabilities: Probabilities) -> tuple[FloatArray, FloatArray]:
    """The best expected F of each column of (n, c), and its number M of predictions and positives, (c,)."""
    p = -np.sort(-probabilities, axis=0)
    sizes = np.arange(1, len(p) + 1)[:, None] + p.sum(axis=0)
    f = 2 * p.cumsum(axis=0) / sizes
    best = f.argmax(axis=0)[None]
    return np.take_along_axis(f, best, axis=0)[0], np.take_along_axis(sizes, best, axis=0)[0]


def best_sets(
    probabilities: Probabilities, lines: FloatArray, at_most: int, may_be_empty: bool = False
) -> LabelMatrix:
    """The best labels (n, c) of rows with probabilities (n, c), given `gains` (2, c).

    Args:
        at_most: the greatest number of labels per row.
        may_be_empty: whether the empty set counts as right for a row without labels.
    """
    n, c = probabilities.shape
    p = probabilities.astype(np.float64)
    added = lines[0] * p - lines[1]
    # A label is worth at most p + added, and alone at least p 2 / (2 + μ) + added by Jensen's inequality, μ
    # the sum of the probabilities. If none is worth anything, the best of them is chosen.
    alone = (added + 2 * p / (2 + p.sum(axis=1, keepdims=True))).max(axis=1, keepdims=True)
    worthwhile = np.sum(p + added >= np.minimum(alone, 0), axis=1)
    most = int(worthwhile.max(initial=1))
    columns = np.argsort(-(p + added), axis=1, kind="stable")[:, :most]
    nodes, powers = quadrature(c, min(at_most, most), float(p.sum(axis=1).max(initial=0)))
    chosen = np.zeros((n, c), dtype=bool)
    by_number = np.argsort(worthwhile)  # so that rows of similar numbers share a chunk
    step = max(CELLS // (most * (len(nodes) + min(at_most, most))), 1)
    for start in range(0, n, step):
        rows = by_number[start : start + step]
        of_rows, most = p[rows], worthwhile[rows].max()
        labels = np.sort(columns[rows, :most], axis=1)
        product = np.ones((len(rows), len(nodes)))
        for column in of_rows.T:
            product *= 1 - column[:, None] * (1 - nodes)
        q = np.take_along_axis(of_rows, labels, axis=1)[..., None]
        densities = 1 - q * (1 - nodes)
        np.divide(q, densities, out=densities)
        densities *= product[:, None]
        values = np.einsum("nit,tk->nki", densities, powers[:, :most])  # (n, k, labels)
        values += np.take_along_axis(added[rows], labels, axis=1)[:, None]
        sums = -np.sort(-values, axis=2).cumsum(axis=2)
        empty = (1 - of_rows).prod(axis=1) if may_be_empty else np.full(len(rows), -np.inf)
        totals = np.column_stack([empty, np.diagonal(sums, axis1=1, axis2=2)])
        sizes = (totals >= totals.max(axis=1, keepdims=True) - ROUNDING).argmax(axis=1)
        of_size = values[np.arange(len(rows)), np.maximum(sizes - 1, 0)]
        best = np.take_along_axis(labels, np.argsort(-of_size, axis=1, kind="stable"), axis=1)
        chosen[np.repeat(rows, sizes), best[np.arange(most) < sizes[:, None]]] = True
    return chosen


def quadrature(c: int, largest: int, mean: float) -> tuple[FloatArray, FloatArray]:
    """Nodes (m,) in [0, 1] and the weights (m, k) of the integrals for k = 1 .. largest.

    n nodes are exact for degrees below 2 n. If a function is analytic and at most B in Bernstein's ellipse
    of parameter 2 around [0, 1], their error is at most 12 B / 4^n (Trefethen, SIAM Review 2008). There
    |t| ≤ 9/8, so that |t^k| ≤ exp(k / 8) and |1 - p + p t| ≤ exp(p / 8).

    mean: the greatest sum of a row's c probabilities.
    """
    bound = math.log(24 / ERROR) + (largest + mean) / 8
    nodes, weights = np.polynomial.legendre.leggauss(
        min(math.ceil((largest + c) / 2), math.ceil(bound / math.log(4)))
    )
    nodes, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    return nodes, 2 * weights[:, None] * nodes[:, None] ** np.arange(1, largest + 1)
