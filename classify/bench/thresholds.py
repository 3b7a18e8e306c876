"""Seconds to tune thresholds and what the thresholds reach, next to scikit-learn."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
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


def speed(rows: int, classes: int, repeats: int = 5) -> list[dict[str, Any]]:
    """Seconds of each way to tune on synthetic scores (rows, classes), and the F1 reached on these.

    The peer comes first: scikit-learn's exact thresholds of best F1 per class. `× peer` is how many times as
    fast a way with the same result is. Seconds are medians of rounds in which every way runs once.
    """
    scores, labels = synthetic_scores(rows, classes)
    ways: dict[tuple[str, str], Callable[[], Any]] = {
        (PEER, "macro"): lambda: scores >= from_curves(scores, labels)
    }
    for objective in OBJECTIVES:
        ways["tune", objective] = partial(_tuned, scores, labels, objective)
    for objective in SHRUNK:
        ways["tune, shrunk", objective] = partial(_decided, scores, labels, DecisionSpec(objective))
    for device, X, Y in _tensors(scores, labels):
        ways[f"tune, torch on {device}", "macro"] = partial(_tuned, X, Y, "macro")
    ways["expected-f1", "samples"] = partial(_decided, scores, labels, DecisionSpec(decide="expected-f1"))

    rounds = [{way: timed(work) for way, work in ways.items()} for _ in range(repeats)]
    seconds = {way: median(results[way][0] for results in rounds) for way in ways}
    peer = seconds[PEER, "macro"]
    same = {way for way in ways if way[1] == "macro" and way[0] not in (PEER, "tune, shrunk")}
    return [
        {
            "rows": rows,
            "classes": classes,
            "way": way,
            "objective": objective,
            "seconds": seconds[way, objective],
            "× peer": peer / seconds[way, objective] if (way, objective) in same else None,
            "F1": average_f1(labels, np.asarray(predictions), objective.removeprefix("global-")),
        }
        for (way, objective), (_, predictions) in rounds[-1].items()
    ]


def from_curves(scores: Scores, labels: LabelMatrix) -> FloatArray:
    """Thresholds (c,) of best F1 per class, from scikit-learn's precision-recall curves."""
    best = []
    for class_scores, class_labels in zip(scores.T, labels.T, strict=True):
        precision, recall, thresholds = precision_recall_curve(class_labels, class_scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
        best.append(thresholds[f1[:-1].argmax()])
    return np.array(best, np.float64)


def _tuned(scores: Any, labels: Any, objective: str) -> Any:
    """Predictions (n, c) by tuned thresholds, in the host's memory."""
    predictions = scores >= tune(scores, labels, objective)
    return predictions if isinstance(predictions, np.ndarray) else predictions.cpu()


def _decided(scores: Scores, labels: LabelMatrix, spec: DecisionSpec) -> LabelMatrix:
    return spec.fit(scores, labels)(scores)


def _tensors(scores: Scores, labels: LabelMatrix) -> Iterator[tuple[str, Any, Any]]:
    """Scores and labels on each kind of device."""
    import torch

    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        yield device, torch.from_numpy(scores).to(device), torch.from_numpy(labels).to(device)
