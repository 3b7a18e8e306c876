"""How far a figure may be off by the luck of which rows were held out: bootstrap intervals (Efron, 1979).

The held-out rows are drawn again, with replacement, as many as there are, a thousand times; the middle 95 %
of what a figure then comes to is its interval. It tells the luck of the rows, not that of fitting: several
seeds do. Two models on the same rows are compared by the interval of their difference over the same draws.

No draw is looked at by itself. How often each row was drawn, W (n, draws), is all that a draw is; counts of
true positives of all draws are one product of matrices, and so is average precision: which rows lie between
one positive and the next, in the order of the scores, is a sparse matrix that holds for all draws.

The calibration error has no interval: it is an average of absolute values, and the luck of a draw adds to
those. Its draws lie above the figure itself: about .022, where the figure is .016, for 3,000 rows of a class
whose scores are true probabilities.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from encode_once.classify.evaluation.metrics import coverages, f1, ranking_losses, row_f1

DRAWS, LEVEL = 1000, 0.95
TOGETHER = 100  # draws at a time: W of 10,000 rows takes 4 MB
METRICS = ("micro_f1", "macro_f1", "samples_f1", "mAP")  # what is told of many runs
ALL = (
    *("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall"),
    *("subset_accuracy", "hamming_loss", "coverage_error", "ranking_loss"),
)
CLASS_F1 = "class_f1"

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Weights = NDArray[np.float32]  # (n, draws): how often each row was drawn


def resampled(
    labels: Bools, predictions: Bools, scores: NDArray[np.floating], draws: int = DRAWS, seed: int = 0
) -> dict[str, Floats]:
    """Each metric of `ALL` on every draw of the rows, (draws,), and `class_f1`, each class's F1, (draws, c).

    labels, predictions and scores are (n, c). What is 0/0 counts as in `classify.evaluation.metrics`: a
    class without positives among the rows drawn has no part in mAP, which is NaN where none has. The same n,
    draws and seed give the same draws.
    """
    rankings = [_Ranking.of(*one) for one in zip(labels.T, scores.T, strict=True) if one[0].any()]
    by_row = {
        "samples_f1": row_f1(labels, predictions),
        "subset_accuracy": (labels == predictions).all(axis=1),
        "hamming_loss": (labels != predictions).mean(axis=1),
        "coverage_error": coverages(labels, scores),
        "ranking_loss": ranking_losses(labels, scores),
    }
    row_values = np.stack([*by_row.values()], axis=1).astype(np.float32)  # (n, 5)
    counted = [table.astype(np.float32) for table in (labels & predictions, predictions, labels)]
    parts = []
    for W in _drawn(len(labels), draws, seed):
        means = (W.T @ row_values / len(W)).T.astype(np.float64)
        parts.append(
            _of_counts(*((W.T @ table).astype(np.float64) for table in counted))  # float32 counts exactly
            | dict(zip(by_row, means, strict=True))
            | {"mAP": _mean_precision(rankings, W)}
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in (*ALL, CLASS_F1)}


def interval(values: Floats) -> list[float] | None:
    """The lower and upper end of the middle 95 % of values, NaN left out; None where all are NaN."""
    values = values[~np.isnan(values)]
    outside = (1 - LEVEL) / 2
    return np.quantile(values, [outside, 1 - outside]).tolist() if len(values) else None


def differences(ours: Mapping[str, Floats], theirs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Ours less theirs of each metric on every draw; both are of the same rows."""
    return {name: ours[name] - theirs[name] for name in ours}


def _drawn(n: int, draws: int, seed: int) -> Iterator[Weights]:
    rng = np.random.default_rng(seed)
    for start in range(0, draws, TOGETHER):
        many = min(TOGETHER, draws - start)
        times = [np.bincount(rng.integers(n, size=n, dtype=np.int32), minlength=n) for _ in range(many)]
        yield np.ascontiguousarray(np.array(times, np.float32).T)


def _of_counts(hits: Floats, predicted: Floats, support: Floats) -> dict[str, Floats]:
    """What follows from the counts of each draw and class, (draws, c)."""
    class_f1 = f1(hits, predicted + support)
    all_hits, all_predicted, all_true = (counts.sum(axis=1) for counts in (hits, predicted, support))
    return {
        "micro_f1": f1(all_hits, all_predicted + all_true),
        "macro_f1": class_f1.mean(axis=1),
        "weighted_f1": (class_f1 * support).sum(axis=1) / np.maximum(all_true, 1),
        "precision": all_hits / np.maximum(all_predicted, 1),
        "recall": all_hits / np.maximum(all_true, 1),
        CLASS_F1: class_f1,
    }


@dataclass(frozen=True)
class _Ranking:
    """The rows of a class from the highest score on, in groups that each end with a score of positives.

    Precision counts only there. Both are (groups, n), 1 where a row belongs to the group.
    """

    rows: csr_array
    positives: csr_array  # only rows that are positive

    @classmethod
    def of(cls, labels: Bools, scores: NDArray[Any]) -> "_Ranking":
        """Of one class with positives; labels and scores are (n,)."""
        order = np.argsort(-scores).astype(np.int32)
        truth, falling = labels[order], -scores[order]
        ends = np.unique(np.searchsorted(falling, falling[truth], side="right"))

        def groups(rows: NDArray[np.int32], ends: NDArray[np.intp]) -> csr_array:
            starts = np.r_[0, ends].astype(np.int32)
            return csr_array((np.ones(len(rows), np.float32), rows, starts), (len(ends), len(labels)))

        return cls(groups(order[: ends[-1]], ends), groups(order[truth], truth.cumsum()[ends - 1]))

    def average_precision(self, W: Weights) -> Floats:
        """Σ precision · positives over the groups / all positives, (draws,); NaN where none was drawn."""
        seen, positives = self.rows @ W, self.positives @ W  # (groups, draws), whole numbers
        seen.cumsum(axis=0, out=seen)
        precision = positives.cumsum(axis=0)
        precision /= np.maximum(seen, 1, out=seen)
        with np.errstate(invalid="ignore"):
            found: Floats = (precision * positives).sum(axis=0, dtype=np.float64) / positives.sum(axis=0)
        return found


def _mean_precision(rankings: list[_Ranking], W: Weights) -> Floats:
    """The mean average precision of each draw, (draws,), over the classes with positives among its rows."""
    precisions = np.array([one.average_precision(W) for one in rankings]).reshape(-1, W.shape[1])
    known = ~np.isnan(precisions)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, precisions, 0).sum(axis=0) / known.sum(axis=0)
    return mean
