"""Seconds to tune thresholds and what the thresholds reach, next to scikit-learn."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from encode_once.cache.bench.stopwatch import timed
from encode_once.classify.arrays import FloatArray, LabelMatrix, Scores
from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import average_f1

OBJECTIVES = ("macro", "micro", "samples", "global-macro", "global-micro", "global-samples")
SHRUNK = ("macro", "micro", "samples")
PEER = "precision_recall_curve and argmax"


def speed(rows: int, classes: int, repeats: int = 5) -> Iterator[dict[str, Any]]:
    """Median seconds of each way to tune on synthetic scores (rows, classes), and the F1 reached on these.

    The peer comes first: scikit-learn's exact thresholds of best F1 per class. `× peer` is how many times as
    fast a way with the same result is.
    """
    scores, labels = synthetic_scores(rows, classes)
    ways: list[tuple[str, str, Callable[[], Any]]] = [(PEER, "macro", partial(from_curves, scores, labels))]
    ways += [("tune", objective, partial(tune, scores, labels, objective)) for objective in OBJECTIVES]
    ways += [("tune, shrunk", name, partial(_shrunk, scores, labels, name)) for name in SHRUNK]
    ways += [(f"tune, torch on {device}", "macro", work) for device, work in _torch(scores, labels)]
    peer_seconds = None
    for way, objective, work in ways:
        seconds, thresholds = timed(work, repeats)
        peer_seconds = peer_seconds or seconds
        exact_macro = objective == "macro" and way not in (PEER, "tune, shrunk")
        yield {
            "rows": rows,
            "classes": classes,
            "way": way,
            "objective": objective,
            "seconds": seconds,
            "× peer": peer_seconds / seconds if exact_macro else None,
            "F1": average_f1(labels, scores >= thresholds, objective.removeprefix("global-")),
        }
    spec = DecisionSpec(decide="expected-f1")
    seconds, predictions = timed(lambda: spec.fit(scores, labels)(scores), repeats)
    yield {
        "rows": rows,
        "classes": classes,
        "way": "expected-f1",
        "objective": "samples",
        "seconds": seconds,
        "× peer": None,
        "F1": average_f1(labels, predictions, "samples"),
    }


def from_curves(scores: Scores, labels: LabelMatrix) -> FloatArray:
    """Thresholds (c,) of best F1 per class, from scikit-learn's precision-recall curves."""
    best = []
    for class_scores, class_labels in zip(scores.T, labels.T, strict=True):
        precision, recall, thresholds = precision_recall_curve(class_labels, class_scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
        best.append(thresholds[f1[:-1].argmax()])
    return np.array(best, np.float64)


def _shrunk(scores: Scores, labels: LabelMatrix, objective: str) -> FloatArray:
    return DecisionSpec(objective).fit(scores, labels).thresholds


def _torch(scores: Scores, labels: LabelMatrix) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Tuning of tensors that are on each kind of device already."""
    import torch

    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        tensors = [torch.from_numpy(table).to(device) for table in (scores, labels)]
        yield device, partial(_tuned_tensors, *tensors)


def _tuned_tensors(scores: Any, labels: Any) -> Any:
    return tune(scores, labels, "macro").cpu().numpy()  # the copy waits for the device
