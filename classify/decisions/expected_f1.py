"""The set of labels whose expected F1 is greatest, row by row, given each label's probability.

Samples F1 averages over rows the F1 of each row's set, and no cuts maximise that: whether a label pays hangs
on what else the row may have. With labels independent given the row, as one probability a class says no
more, the best set of k labels is that of the k likeliest (Lewis, SIGIR 1995). Of these a hold, and of all
others b, each a sum of independent labels (a Poisson binomial), so its expected F1 is

    Σ_a Σ_b  2 a / (k + a + b)  P(a of the k hold)  P(b of the others hold),

and the best set is the best over k (Jansche, ACL 2007). That costs c³ / 6 products a row. The empty set has
an F1 of 0, as 0/0 counts as 0: every row gets a label.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import FloatArray

CELLS = 2**24  # float64 numbers of a chunk of rows


def best_sets(probabilities: NDArray[Any], at_most: int | None = None) -> NDArray[np.bool_]:
    """The labels (n, c) of greatest expected F1, given probabilities (n, c); no more than so many a row."""
    n, c = probabilities.shape
    chosen = np.zeros((n, c), dtype=bool)
    rows = max(2 * CELLS // (c + 1) ** 2, 1)
    for start in range(0, n, rows):
        some = probabilities[start : start + rows].astype(np.float64)
        order = np.argsort(-some, axis=1, kind="stable")
        values = expected_f1(np.take_along_axis(some, order, axis=1), min(at_most or c, c))
        taken = np.arange(c) <= values.argmax(axis=1)[:, None]
        np.put_along_axis(chosen[start : start + rows], order, taken, axis=1)
    return chosen


def expected_f1(p: FloatArray, at_most: int) -> FloatArray:
    """Of the first 1 .. at_most labels of each row, (n, at_most), given their probabilities (n, c)."""
    c = p.shape[1]
    others = [
        np.ones((len(p), 1))
    ]  # chances (n, c - k + 1) that 0, 1, … of the labels behind the first k hold
    for k in reversed(range(c)):
        others.append(_with(others[-1], p[:, k]))
    first = np.ones((len(p), 1))  # chances (n, k + 1) that 0, 1, … of the first k labels hold
    values = []
    for k in range(1, at_most + 1):
        first = _with(first, p[:, k - 1])
        a, b = np.arange(k + 1)[:, None], np.arange(c - k + 1)
        values.append(np.einsum("na,na->n", first @ (2 * a / (k + a + b)), others[c - k]))
    return np.stack(values, axis=1)


def _with(chances: FloatArray, p: FloatArray) -> FloatArray:
    """Chances (n, s + 1) that 0 .. s labels hold, with one more of probability p (n,): (n, s + 2)."""
    more = np.zeros((len(p), chances.shape[1] + 1))
    more[:, :-1] = chances * (1 - p[:, None])
    more[:, 1:] += chances * p[:, None]
    return more
