"""The label set of each row whose expected F1 is greatest, given each label's probability.

Samples F1 averages over rows the F1 of each row's set, and no thresholds maximise that: whether a label pays
depends on the row's other labels. If labels are independent given the row, which is all that one probability
per class can say, the best set of k labels is that of the k likeliest (Lewis, SIGIR 1995). Let a of these and
b of the others be true, each number a sum of independent labels (a Poisson binomial). The expected F1 is

    Σ_a Σ_b  2 a / (k + a + b)  P(a of the k)  P(b of the others),

and the best set is the best over k (Jansche, ACL 2007). Two bounds make that cheap for a thousand labels. Let
μ be the sum of the probabilities.

- By Jensen's inequality, as 1 / x is convex, F(k) ≥ 2 (p_1 + … + p_k) / (k + 1 + μ); and as s / (k + s) is
  concave, F(k) ≤ 2 μ / (k + μ). So a set that reaches F is better than any of more than μ (2 / F - 1) labels.
- A row has more than μ + t true labels with a probability below exp(-t² / (2 μ + 2 t / 3)) (Bernstein, 1924).

So k and b stop where what is left out is certainly worse, or too unlikely to matter. The F1 of the empty set,
0/0, counts as 0, so that every row gets a label; or, where rows without labels are known to occur, as 1 if
the row has none, so that its expected F1 is Π (1 - p). Of equal sets, the smallest is chosen; of equally
likely labels, the first.
"""

import numpy as np

from encode_once.classify.arrays import FloatArray, IntArray, LabelMatrix, Probabilities

CELLS = 2**22  # float64 numbers of a chunk of rows
ROUNDING = 1e-12  # by which the expected F1 of equally good sets may differ
UNLIKELY = 1e-14  # probability of the numbers of true labels that are left out


def best_sets(probabilities: Probabilities, at_least: int = 1, at_most: int | None = None) -> LabelMatrix:
    """The labels (n, c) of greatest expected F1, given probabilities (n, c).

    at_least, at_most: numbers of labels per row. If at_least is 0, the empty set counts as right for a row
        without labels.
    """
    n, c = probabilities.shape
    order = np.argsort(-probabilities, axis=1, kind="stable")
    p = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    largest, most_true = _bounds(p, max(at_least, 1), min(at_most or c, c))
    sizes = np.zeros(n, np.intp)
    by_bounds = np.lexsort((most_true, largest))  # so that rows of similar bounds share a chunk
    step = max(CELLS // ((largest.max(initial=0) + 1) * (most_true.max(initial=0) + 1)), 1)
    for start in range(0, n, step):
        rows = by_bounds[start : start + step]
        values = expected_f1(p[rows], largest[rows].max(), most_true[rows].max())
        values = np.column_stack([(1 - p[rows]).prod(axis=1), values])
        values[:, :at_least] = -1
        sizes[rows] = (values >= values.max(axis=1, keepdims=True) - ROUNDING).argmax(axis=1)
    chosen = np.zeros((n, c), dtype=bool)
    np.put_along_axis(chosen, order, np.arange(c) < sizes[:, None], axis=1)
    return chosen


def _bounds(p: FloatArray, at_least: int, at_most: int) -> tuple[IntArray, IntArray]:
    """The largest size of a set that may be best, (n,), and the largest number of true labels, (n,).

    p: probabilities (n, c) in descending order.
    """
    c = p.shape[1]
    mean = p.sum(axis=1)
    k = np.arange(at_least, at_most + 1)
    reached = (2 * p.cumsum(axis=1)[:, k - 1] / (k + 1 + mean[:, None])).max(axis=1, initial=0)
    largest = np.ceil(mean * (2 / np.maximum(reached, np.finfo(float).tiny) - 1))
    log = -np.log(UNLIKELY)
    most_true = np.ceil(mean + log / 3 + np.sqrt(log**2 / 9 + 2 * log * mean))
    return largest.clip(at_least, at_most).astype(np.intp), most_true.clip(max=c).astype(np.intp)


def expected_f1(p: FloatArray, at_most: int, most_true: int) -> FloatArray:
    """The expected F1 of each row's first 1 .. at_most labels, (n, at_most), given probabilities (n, c).

    most_true: the largest number of true labels outside a set that counts.
    """
    n, c = p.shape
    # Chances of 0 .. most_true true labels after the first k, for k = at_most, …, 1.
    others = [np.eye(1, most_true + 1).repeat(n, axis=0)]
    for label in reversed(range(1, c)):
        before = _with_label(others[-1], p[:, label])
        others = [*others, before] if label <= at_most else [before]
    nothing = np.zeros((n, 1))
    first = np.ones((n, 1))  # (n, k + 1): chances of 0, 1, … true labels among the first k
    values = []
    for k in range(1, at_most + 1):
        first = _with_label(np.concatenate([first, nothing], axis=1), p[:, k - 1])
        a, b = np.arange(k + 1)[:, None], np.arange(most_true + 1)
        values.append(np.einsum("na,na->n", first @ (2 * a / (k + a + b)), others[-k]))
    return np.stack(values, axis=1)


def _with_label(chances: FloatArray, p: FloatArray) -> FloatArray:
    """Chances (n, s) of 0 .. s - 1 true labels, after a further label of probability p (n,)."""
    extended = chances * (1 - p[:, None])
    extended[:, 1:] += chances[:, :-1] * p[:, None]
    return extended
