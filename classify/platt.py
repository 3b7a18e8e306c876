"""Platt scaling (1999): a logistic regression on one column for each class, with normal priors."""

from typing import Any

from array_api_compat import array_namespace

Array = Any  # NumPy's or torch's, on any device; in float64

MAX_STEPS = 50
CONVERGED = 1e-8  # step below which the lines no longer change
LONGEST_STEP = 1.0  # far from the optimum Newton's whole step may lead away from it
SHORTER, LONGER = 0.5, 1.2  # a class that turns back takes shorter steps, else longer ones (as in Rprop)
TINY = 1e-12  # the least divisor
BLOCK = (
    2**18
)  # scores summed at a time: arrays of 2 MB stay in the cache, and larger ones in no allocator's pool


def fit_lines(
    z: Array,
    labels: Array,
    start: Array,
    prior: Array,
    precision: Array,
    free: Array | None = None,
    weights: Array | None = None,
) -> Array:
    """Intercepts and slopes, (2, c), that map scores z (n, c) to logits of labels (n, c) in [0, 1].

    They minimise Σ BCE(intercept + slope z, labels) + ½ Σ precision (line - prior)², by Newton's method. The
    prior and its precision broadcast to (2, c); where `free` (2, c) is False, a line stays as in `start`. The
    terms of the first sum are multiplied by the weights (n, c), by default 1.
    """
    xp = array_namespace(z)
    lines, free = start, xp.ones_like(start) if free is None else free
    last, limit = xp.zeros_like(start), xp.full_like(start[0], LONGEST_STEP)
    width = max(BLOCK // max(z.shape[0], 1), 1)
    blocks = [slice(first, first + width) for first in range(0, z.shape[1], width)]
    for _ in range(MAX_STEPS):
        sums = [
            _sums(xp, z[:, b], labels[:, b], lines[:, b], None if weights is None else weights[:, b])
            for b in blocks
        ]
        total = xp.concat(sums, axis=1)  # (5, c)
        gradient = free * (total[:2] + precision * (lines - prior))
        curvature, mixed = total[2:4] + precision, total[4] * free[0] * free[1]
        determinant = xp.clip(xp.prod(curvature, axis=0) - mixed**2, min=TINY)
        step = (xp.flip(curvature, axis=0) * gradient - mixed * xp.flip(gradient, axis=0)) / determinant
        # With a constant limit some classes step to and fro for ever.
        turned = xp.sum(step * last, axis=0) < 0
        limit = xp.clip(xp.where(turned, SHORTER * limit, LONGER * limit), max=LONGEST_STEP)
        last = xp.clip(step, min=-limit, max=limit)
        lines = lines - last
        if bool((xp.abs(step) < CONVERGED).all()):
            break
    return lines


def _sums(xp: Any, z: Array, labels: Array, lines: Array, weights: Array | None) -> Array:
    """Sums over the rows of the derivatives of the loss, (5, c): gradient, curvature and mixed term."""
    p = (1 + xp.tanh((lines[0] + lines[1] * z) / 2)) / 2
    error, weight = p - labels, p * (1 - p)
    if weights is not None:
        error, weight = error * weights, weight * weights
    weighted = weight * z
    parts = error, error * z, weight, weighted * z, weighted
    return xp.stack([xp.sum(part, axis=0) for part in parts])
