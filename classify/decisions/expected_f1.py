"""The label set of each row whose expected F1 is greatest, given each label's probability.

Samples F1 averages over rows the F1 of each row's set, and no thresholds maximise that: whether a label pays
depends on the row's other labels. If labels are independent given the row, which is all that one probability
per class can say, the best set of k labels is that of the k likeliest (Lewis, SIGIR 1995). Let a of these and
b of the others be true, each number a sum of independent labels (a Poisson binomial). The expected F1 is

    Σ_a Σ_b  2 a / (k + a + b)  P(a of the k)  P(b of the others),

and the best set is the best over k (Jansche, ACL 2007). That costs c³ / 6 products per row. The empty set has
an F1 of 0, as 0/0 counts as 0, so every row gets a label. Of equal sets, the smallest is chosen; of equally
likely labels, the first.
"""

import numpy as np

from encode_once.classify.arrays import FloatArray, LabelMatrix, Probabilities

CELLS = 2**24  # float64 numbers of a chunk of rows
ROUNDING = 1e-12  # by which the expected F1 of equally good sets may differ


def best_sets(probabilities: Probabilities, at_most: int | None = None) -> LabelMatrix:
    """The labels (n, c) of greatest expected F1, given probabilities (n, c).

    at_most: the greatest number of labels per row.
    """
    n, c = probabilities.shape
    chosen = np.zeros((n, c), dtype=bool)
    rows = max(2 * CELLS // (c + 1) ** 2, 1)
    for start in range(0, n, rows):
        chunk = probabilities[start : start + rows].astype(np.float64)
        order = np.argsort(-chunk, axis=1, kind="stable")
        values = expected_f1(np.take_along_axis(chunk, order, axis=1), min(at_most or c, c))
        best = (values >= values.max(axis=1, keepdims=True) - ROUNDING).argmax(axis=1)
        selected = np.arange(c) <= best[:, None]
        np.put_along_axis(chosen[start : start + rows], order, selected, axis=1)
    return chosen


def expected_f1(p: FloatArray, at_most: int) -> FloatArray:
    """The expected F1 of each row's first 1 .. at_most labels, (n, at_most), given probabilities (n, c)."""
    c = p.shape[1]
    others = [np.ones((len(p), 1))]  # (n, c - k + 1): chances of 0, 1, … true labels after the first k
    for k in reversed(range(c)):
        others.append(_with_label(others[-1], p[:, k]))
    first = np.ones((len(p), 1))  # (n, k + 1): chances of 0, 1, … true labels among the first k
    values = []
    for k in range(1, at_most + 1):
        first = _with_label(first, p[:, k - 1])
        a, b = np.arange(k + 1)[:, None], np.arange(c - k + 1)
        values.append(np.einsum("na,na->n", first @ (2 * a / (k + a + b)), others[c - k]))
    return np.stack(values, axis=1)


def _with_label(chances: FloatArray, p: FloatArray) -> FloatArray:
    """Chances (n, s + 1) of 0 .. s true labels, and a further label with probability p (n,): (n, s + 2)."""
    extended = np.zeros((len(p), chances.shape[1] + 1))
    extended[:, :-1] = chances * (1 - p[:, None])
    extended[:, 1:] += chances * p[:, None]
    return extended
