"""How far a figure may be off by the luck of which rows were held out: bootstrap intervals (Efron, 1979).

The held-out rows are drawn again, with replacement, as many as there are, a thousand times; the middle 95 %
of what a figure then comes to is its interval. It tells the luck of the rows, not that of fitting: several
seeds do. Two models on the same rows are compared by the interval of their difference over the same draws.

No draw is looked at by itself. How often each row was drawn, W (n, draws), is all that a draw is; counts of
true positives of all draws are one product of matrices, and average precision one pass over the rows in the
order of their scores.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS, LEVEL = 1000, 0.95
TOGETHER = 100  # draws at a time: W of 10,000 rows takes 4 MB
METRICS = ("micro_f1", "macro_f1", "samples_f1", "mAP")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Weights = NDArray[np.float32]  # (n, draws): how often each row was drawn


def resampled(
    labels: Bools, predictions: Bools, scores: NDArray[np.floating], draws: int = DRAWS, seed: int = 0
) -> dict[str, Floats]:
    """Each of `METRICS` on every draw of the rows, (draws,).

    labels, predictions and scores are (n, c). What is 0/0 counts as in `classify.metrics`: a class without
    positives among the rows drawn has no part in mAP, which is NaN where none has. The same n, draws and seed
    give the same draws.
    """
    parts = [_figures(W, labels, predictions, scores) for W in _drawn(len(labels), draws, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def interval(values: Floats) -> list[float] | None:
    """The lower and upper end of the middle 95 % of values, NaN left out; None where all are NaN."""
    values = values[~np.isnan(values)]
    outside = (1 - LEVEL) / 2
    return np.quantile(values, [outside, 1 - outside]).tolist() if len(values) else None


def differences(ours: Mapping[str, Floats], theirs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Ours less theirs of each metric on every draw; both are of the same rows."""
    return {name: ours[name] - theirs[name] for name in METRICS}


def _drawn(n: int, draws: int, seed: int) -> Iterator[Weights]:
    rng = np.random.default_rng(seed)
    for start in range(0, draws, TOGETHER):
        many = min(TOGETHER, draws - start)
        places = rng.integers(n, size=(n, many)) * many + np.arange(many)
        yield np.bincount(places.ravel(), minlength=n * many).reshape(n, many).astype(np.float32)


def _figures(W: Weights, labels: Bools, predictions: Bools, scores: NDArray[Any]) -> dict[str, Floats]:
    def total(table: Bools) -> Floats:  # (n, c) → (draws, c), whole numbers: float32 is exact
        return (W.T @ table.astype(np.float32)).astype(np.float64)

    hits, size = total(labels & predictions), total(labels) + total(predictions)
    row_f1 = _f1((labels & predictions).sum(axis=1), labels.sum(axis=1) + predictions.sum(axis=1))
    precisions = np.stack([_average_precision(W, *one) for one in zip(labels.T, scores.T, strict=True)])
    known = ~np.isnan(precisions)
    with np.errstate(invalid="ignore"):
        mean_precision = np.where(known, precisions, 0).sum(axis=0) / known.sum(axis=0)
    return {
        "micro_f1": _f1(hits.sum(axis=1), size.sum(axis=1)),
        "macro_f1": _f1(hits, size).mean(axis=1),
        "samples_f1": row_f1 @ W / len(W),
        "mAP": mean_precision,
    }


def _f1(hits: NDArray[Any], size: NDArray[Any]) -> Floats:
    """F1 from true positives and size, the number predicted plus the number true."""
    f1: Floats = 2 * hits / np.maximum(size, 1)
    return f1


def _average_precision(W: Weights, labels: Bools, scores: NDArray[Any]) -> Floats:
    """Of one class, (draws,): Σ precision · positives, over the groups of equal scores, / all positives.

    labels and scores are (n,). Precision counts only at groups that hold positives, so sums are taken from
    one of these to the next.
    """
    draws = W.shape[1]
    if not labels.any():
        return np.full(draws, np.nan)
    order = np.argsort(-scores)
    truth, falling = labels[order], -scores[order]
    ends = np.unique(np.searchsorted(falling, falling[truth], side="right"))  # of groups that hold positives
    starts = np.r_[0, ends[:-1]]
    W = W[order][: ends[-1]]
    positives = np.add.reduceat(W * truth[: ends[-1], None], starts, axis=0)  # (groups, draws)
    seen = np.add.reduceat(W, starts, axis=0).cumsum(axis=0)
    precision = positives.cumsum(axis=0) / np.maximum(seen, 1)
    with np.errstate(invalid="ignore"):
        found: Floats = (precision * positives).sum(axis=0, dtype=np.float64) / positives.sum(axis=0)
    return found
