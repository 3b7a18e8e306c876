"""How frequent labels are in new rows, by their probabilities alone, and the probabilities that follow.

A probability p of a class is calibrated for rows of which the class has a share π. In rows where its share is
ρ, but where rows with the class look as before, as do rows without it (label shift), it becomes

    p ρ / π  /  (p ρ / π + (1 - p) (1 - ρ) / (1 - π)),

and the denominator is, but for a factor, the likelihood of a row. The likeliest ρ is the fixed point of the
EM algorithm of Saerens, Latinne and Decaestecker (Neural Computation 2002). As the logarithm of the
likelihood is concave in ρ, bisection finds it, which is faster. Their likelihood ratio test, corrected for
the number of classes (Bonferroni), says whether a class has a shift at all; without one, its probabilities
stay.

π is the mean of the probabilities of the tuning rows, which calibration makes the share of the class there,
but for its shrinkage: so these rows themselves have no shift.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc  # scipy.stats takes a second to import

from encode_once.classify.arrays import FloatArray, Probabilities

LEVEL = 0.05  # probability that any class of rows without a shift has one by the test
HALVINGS = 40


class PrevalenceShift(NamedTuple):
    """The share of rows with each class, (c,), in the tuning rows and in new ones; equal without a shift."""

    before: FloatArray
    after: FloatArray


def estimate(probabilities: Probabilities, before: FloatArray) -> PrevalenceShift:
    """The shift in rows with probabilities (n, c) that are calibrated for the shares `before`, (c,)."""
    present, absent = probabilities / before, (1 - probabilities) / (1 - before)
    low, high = np.zeros_like(before), np.ones_like(before)
    for _ in range(HALVINGS):
        after = (low + high) / 2
        slope = ((present - absent) / (after * present + (1 - after) * absent)).sum(axis=0)
        low, high = np.where(slope > 0, after, low), np.where(slope > 0, high, after)
    ratio = 2 * np.log(after * present + (1 - after) * absent).sum(axis=0)  # of `before` it is 0
    return PrevalenceShift(before, np.where(chdtrc(1, ratio) < LEVEL / len(before), after, before))


def corrected(probabilities: Probabilities, shift: PrevalenceShift) -> Probabilities:
    """The probabilities (n, c) after a shift; those of classes without one as they were."""
    present = probabilities * (shift.after / shift.before)
    absent = (1 - probabilities) * ((1 - shift.after) / (1 - shift.before))
    return np.where(shift.after == shift.before, probabilities, present / (present + absent))
