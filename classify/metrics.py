"""How well predictions match the labels: the figures of `metrics.json`, computed by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support


def measure(
    labels: NDArray[np.bool_],
    predictions: NDArray[np.bool_],
    scores: NDArray[np.floating],
    names: Sequence[str],
    thresholds: NDArray[np.floating],
) -> dict[str, Any]:
    """The metrics of `metrics.json` as plain numbers: all its keys but `split` and `tuned_on`.

    labels, predictions and scores are (n, c); names and thresholds (c,). What is 0/0 counts as 0, as with
    scikit-learn's zero_division=0: a class that is nowhere true or predicted lowers macro F1, and a row
    without labels or predictions lowers samples F1. Average precision has no meaning for a class without
    positives: there `ap` is None, and mAP is the mean over the others, None if there are none.
    """
    n, c = labels.shape
    # scikit-learn takes a lone column for a binary problem: an empty one stands beside it, outside `labels`.
    true, predicted = (np.pad(table, ((0, 0), (0, 1))) for table in (labels, predictions))
    settings: dict[str, Any] = {"labels": range(c), "zero_division": 0}
    f1 = {
        f"{average}_f1": float(f1_score(true, predicted, average=average, **settings))
        for average in ("micro", "macro", "weighted", "samples")
    }
    precision, recall, _, _ = precision_recall_fscore_support(true, predicted, average="micro", **settings)
    ap = [
        float(average_precision_score(labels[:, k], scores[:, k])) if labels[:, k].any() else None
        for k in range(c)
    ]
    known_ap = [value for value in ap if value is not None]
    by_class = np.stack(
        precision_recall_fscore_support(true, predicted, average=None, **settings), axis=1
    )  # (c, 4)
    per_class = [
        {
            "label": name,
            "threshold": float(threshold),
            "precision": float(p),
            "recall": float(r),
            "f1": float(f),
            "ap": class_ap,
            "support": int(support),
        }
        for name, threshold, (p, r, f, support), class_ap in zip(names, thresholds, by_class, ap, strict=True)
    ]
    return {
        **f1,
        "mAP": float(np.mean(known_ap)) if known_ap else None,
        "precision": float(precision),
        "recall": float(recall),
        "per_class": per_class,
        "n": n,
    }
