"""The metrics of `metrics.json`: how well predictions and scores match the labels.

All averages of F1 use the same counts, and each class is sorted once, for its average precision and its
calibration error. scikit-learn has all but the last, too, and is the tests' oracle; on 40,000 rows × 80
classes it takes 2.8 s, this module 0.4 s.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    LabelMatrix,
    PartialLabels,
    as_labels,
    as_partial_labels,
    as_scores,
)
from encode_once.classify.decisions.ranking import parts
from encode_once.classify.partial import (
    count,
    is_partial,
    positives,
    rows_by_class,
    unknown_entries,
    without_unknown,
)

BINS = 15  # of the calibration error


MetricName = Literal[
    "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall", "subset_accuracy",
    "hamming_loss", "coverage_error", "ranking_loss", "calibration_error", "accuracy", "balanced_accuracy",
    "roc_auc",
]  # fmt: skip
# What a line about a run shows.
SUMMARY: tuple[MetricName, ...] = (
    "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall",
)  # fmt: skip
# Only where every row has exactly one label, or there is one class.
OF_ONE_LABEL: tuple[MetricName, ...] = ("accuracy", "balanced_accuracy", "roc_auc")
# Compare the classes of a row, so that they say nothing of a single class: they are None there.
OF_SEVERAL_CLASSES: tuple[MetricName, ...] = ("samples_f1", "coverage_error", "ranking_loss")


class ConfusionCell(TypedDict):
    """How many rows of a class are labelled as that or another class."""

    true: str
    predicted: str
    rows: int


class LevelMetrics(TypedDict):
    """The metrics of the classes of one level of a hierarchy."""

    level: int  # 1: without a class above
    classes: int
    micro_f1: float
    macro_f1: float
    mAP: float | None
    precision: float
    recall: float
    support: int  # labels of these classes


class ClassMetrics(TypedDict):
    """The metrics of one class."""

    label: str
    level: NotRequired[int]  # of the hierarchy, if there is one
    threshold: NotRequired[float | None]  # None: the class has none, or a different one in each fold
    interval: NotRequired[list[float] | None]  # of the threshold
    precision: float
    recall: float
    f1: float
    ap: float | None  # None for a class without positives
    support: int
    known_rows: NotRequired[int]  # rows whose label is known, if some label of the rows is unknown
    calibration_error: float


class Metrics(TypedDict):
    """`metrics.json`. The keys that are not required say which rule and rows the figures belong to."""

    micro_f1: float
    macro_f1: float
    weighted_f1: float
    samples_f1: float | None
    mAP: float | None
    precision: float
    recall: float
    subset_accuracy: float
    hamming_loss: float
    coverage_error: float | None
    ranking_loss: float | None
    calibration_error: float
    per_class: list[ClassMetrics]
    n: int
    accuracy: NotRequired[float]  # this and the following: see `measure`
    balanced_accuracy: NotRequired[float]
    roc_auc: NotRequired[float | None]
    confusion: NotRequired[list[ConfusionCell]]
    unknown: NotRequired[int]  # entries (row, class) that are unknown, and not measured, if there are any
    levels: NotRequired[list[LevelMetrics]]  # of the hierarchy, see `by_level`
    objective: NotRequired[str]
    decided: NotRequired[str]  # the decision rule in words
    guarantee: NotRequired[str]  # the costs of a guaranteed precision or recall
    split: NotRequired[str]
    tuned_on: NotRequired[str]
    warnings: NotRequired[list[str]]
    intervals: NotRequired[dict[MetricName, list[float] | None]]  # 95 % intervals


def measure(
    labels: PartialLabels, predictions: LabelMatrix, scores: NDArray[np.floating], names: Sequence[str]
) -> Metrics:
    """All required metrics of predictions and scores, which may be raw or calibrated.

    labels, predictions and scores are (n, c), names (c,). 0/0 counts as 0, as with
    scikit-learn's zero_division=0: a row without labels and predictions lowers samples F1. A class without
    positives cannot be measured: its `ap` is None, and macro F1 and mAP are means over the other classes;
    without any, macro F1 is 0 and mAP None.

    `precision` and `recall` are micro-averaged. `subset_accuracy` is the share of rows whose labels are all
    correct, `hamming_loss` the share of wrong cells (row, class). `coverage_error` and `ranking_loss` are the
    means of `coverages` and `ranking_losses`, `calibration_error` is the mean over the classes.

    If each row has exactly one label and exactly one is predicted, there are also `accuracy`;
    `balanced_accuracy`, the mean recall of the classes with positives; and `confusion`, the cells of the
    confusion matrix that are not 0, the largest first. So there are with a single class, whose absence then
    counts as the other one, "not NAME"; with its `roc_auc`, None unless both occur. Metrics that compare the
    classes of a row (`OF_SEVERAL_CLASSES`) are None there.
    Unknown entries count nowhere: a figure of a class is that of the rows whose label is known, one of a row
    that of the labels that are known, and rows without any are left out of means over rows. `unknown` is
    their number, `known_rows` that of the rows by which a class is measured.

    Raises:
        DataError: labels or predictions that are not 0 or 1, scores that are not finite, other shapes.
    """
    labels = as_partial_labels(labels, classes=len(names))
    predictions, scores = as_labels(predictions, *labels.shape), as_scores(scores, labels)
    n, c = labels.shape
    rows, cells = measured_rows(labels), labels.size - count(labels)
    truth, chosen = without_unknown(labels, predictions)
    hit = truth & chosen
    hits, predicted, support = (table.sum(axis=0) for table in (hit, chosen, truth))  # (c,) each
    class_f1 = f1(hits, predicted + support)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    ap, calibration = _of_rankings(labels, scores)
    has_positives, counted = support > 0, rows_by_class(labels)
    of_row = {
        "samples_f1": row_f1(labels, predictions),
        "coverage_error": coverages(labels, scores),
        "ranking_loss": ranking_losses(labels, scores),
    }
    several = {name: _mean(values[rows]) if c > 1 else None for name, values in of_row.items()}
    per_class: list[ClassMetrics] = [
        {
            "label": names[k],
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(class_f1[k]),
            "ap": float(ap[k]) if has_positives[k] else None,
            "support": int(support[k]),
            "calibration_error": float(calibration[k]),
        }
        for k in range(c)
    ]
    metrics: Metrics = {
        "micro_f1": float(f1(hits.sum(), predicted.sum() + support.sum())),
        "macro_f1": macro_mean(class_f1, support),
        "weighted_f1": float(class_f1 @ support / max(support.sum(), 1)),
        "samples_f1": several["samples_f1"],
        "mAP": float(ap[has_positives].mean()) if has_positives.any() else None,
        "precision": float(hits.sum() / max(predicted.sum(), 1)),
        "recall": float(hits.sum() / max(support.sum(), 1)),
        "subset_accuracy": _mean((truth == chosen).all(axis=1)[rows]),
        "hamming_loss": float((truth != chosen).sum() / max(cells, 1)),
        "coverage_error": several["coverage_error"],
        "ranking_loss": several["ranking_loss"],
        "calibration_error": _mean(calibration[counted > 0]),
        "per_class": per_class,
        "n": n,
    }
    if cells < labels.size:
        metrics["unknown"] = labels.size - cells
        metrics["per_class"] = [
            {**row, "known_rows": int(number)} for row, number in zip(per_class, counted, strict=True)
        ]
    if c == 1:
        truth, chosen = truth[rows], chosen[rows]
        metrics["roc_auc"] = roc_auc(truth[:, 0], scores[rows, 0])
        names = [f"not {names[0]}", names[0]]
        truth, chosen = (np.hstack([~table, table]) for table in (truth, chosen))
    elif cells < labels.size:
        return metrics
    if len(truth) and all((table.sum(axis=1) == 1).all() for table in (truth, chosen)):
        _add_those_of_one_label(metrics, truth, chosen, names)
    return metrics


def measured_rows(labels: PartialLabels) -> BoolArray:
    """Which rows of labels (n, c) have a known entry, (n,): means over rows are over these."""
    return np.asarray((~unknown_entries(labels)).any(axis=1))


def _mean(values: NDArray[Any]) -> float:
    """The mean; 0 of nothing."""
    return float(values.mean()) if len(values) else 0.0


def _add_those_of_one_label(
    metrics: Metrics, labels: LabelMatrix, predictions: LabelMatrix, names: Sequence[str]
) -> None:
    """Add the metrics of rows that have exactly one label, and exactly one predicted."""
    pairs = zip(labels.argmax(axis=1).tolist(), predictions.argmax(axis=1).tolist(), strict=True)
    cells = sorted(Counter(pairs).items(), key=lambda cell: (-cell[1], cell[0]))
    hits, support = (labels & predictions).sum(axis=0), labels.sum(axis=0)
    metrics["accuracy"] = float(hits.sum() / len(labels))
    metrics["balanced_accuracy"] = macro_mean(hits / np.maximum(support, 1), support)
    metrics["confusion"] = [
        {"true": names[true], "predicted": names[predicted], "rows": rows}
        for (true, predicted), rows in cells
    ]


def roc_auc(labels: BoolArray, scores: NDArray[np.floating]) -> float | None:
    """The share of pairs of a positive and a negative row in which the positive scores higher; ties: half.

    labels and scores are (n,). None without both.
    """
    negatives, positives = np.sort(scores[~labels]), scores[labels]
    if not len(negatives) or not len(positives):
        return None
    below = sum(np.searchsorted(negatives, positives, side).mean() for side in ("left", "right"))
    return float(below / 2 / len(negatives))


def by_level(
    labels: PartialLabels,
    predictions: LabelMatrix,
    scores: NDArray[np.floating],
    levels: Sequence[int],
) -> list[LevelMetrics]:
    """The metrics of each level; labels, predictions and scores are (n, c), levels (c,)."""
    rows: list[LevelMetrics] = []
    for level in sorted({*levels}):
        columns = np.flatnonzero(np.equal(levels, level))
        names = [str(column) for column in columns]
        of_level = measure(labels[:, columns], predictions[:, columns], scores[:, columns], names)
        rows.append(
            {
                "level": level,
                "classes": len(columns),
                "micro_f1": of_level["micro_f1"],
                "macro_f1": of_level["macro_f1"],
                "mAP": of_level["mAP"],
                "precision": of_level["precision"],
                "recall": of_level["recall"],
                "support": sum(row["support"] for row in of_level["per_class"]),
            }
        )
    return rows


def applies(metrics: Mapping[str, Any], name: str) -> bool:
    """Whether a metric says something of such labels; without positives, mAP does, and has no value."""
    return name in metrics and (name not in OF_SEVERAL_CLASSES or metrics[name] is not None)


def to_rank(metrics: Mapping[str, Any], name: MetricName) -> MetricName:
    """The metric that ranks runs: micro F1, if the one of that name does not apply to their one class."""
    return name if applies(metrics, name) else "micro_f1"


def summary(metrics: Mapping[str, Any]) -> list[MetricName]:
    """The names of the metrics that a line about a run shows."""
    return [name for name in (*OF_ONE_LABEL, *SUMMARY) if applies(metrics, name)]


def f1(hits: NDArray[Any], size: NDArray[Any]) -> FloatArray:
    """F1 from true positives and size, the number predicted plus the number true; 0 where both are 0."""
    return np.asarray(2 * hits / np.maximum(size, 1))


def macro_mean(values: FloatArray, support: NDArray[Any]) -> float:
    """The mean of values (c,), such as F1, of the classes with positives; support (c,) is their number."""
    return float(values[support > 0].mean()) if support.any() else 0.0


def average_f1(labels: PartialLabels, predictions: LabelMatrix, average: str) -> float:
    """The "micro", "macro" or "samples" average of F1, of labels and predictions (n, c)."""
    truth, chosen = without_unknown(labels, predictions)
    if average == "samples":
        return _mean(row_f1(labels, predictions)[measured_rows(labels)])
    if average == "macro":
        return macro_mean(_f1_along(0, truth, chosen), truth.sum(axis=0))
    return float(_f1_along({"micro": None}[average], truth, chosen))


def row_f1(labels: PartialLabels, predictions: LabelMatrix) -> FloatArray:
    """F1 of each row's known labels, (n,), of labels and predictions (n, c)."""
    return _f1_along(1, *without_unknown(labels, predictions))


def _f1_along(axis: int | None, labels: LabelMatrix, predictions: LabelMatrix) -> FloatArray:
    size = labels.sum(axis=axis) + predictions.sum(axis=axis)
    return f1((labels & predictions).sum(axis=axis), size)


def coverages(labels: PartialLabels, scores: NDArray[np.floating]) -> FloatArray:
    """The rank of each row's lowest scored label, (n,); 0 for a row without labels.

    Equal scores share the lowest rank. The mean is scikit-learn's `coverage_error` (Tsoumakas et al., Mining
    Multi-label Data, 2010, who count from 0).
    """
    ranks = np.empty(len(labels))
    for rows in parts(*labels.shape):
        lowest = np.where(positives(labels[rows]), scores[rows], np.inf).min(axis=1, keepdims=True)
        ranks[rows] = ((scores[rows] >= lowest) & ~unknown_entries(labels[rows])).sum(axis=1)
    return ranks


def ranking_losses(labels: PartialLabels, scores: NDArray[np.floating]) -> FloatArray:
    """The share of each row's pairs of a true and a false label in which the false one scores as high, (n,).

    0 for a row without such pairs. The mean is scikit-learn's `label_ranking_loss` (Tsoumakas et al., 2010).
    """
    return np.concatenate([_ranking_losses(labels[rows], scores[rows]) for rows in parts(*labels.shape)])


def _ranking_losses(labels: PartialLabels, scores: NDArray[np.floating]) -> FloatArray:
    wrong = np.zeros(len(labels))
    truth, is_false = positives(labels), labels == 0
    of_false = np.where(is_false, scores, -np.inf)
    for k, of_class in enumerate(truth.T):
        rows = np.flatnonzero(of_class)
        wrong[rows] += (of_false[rows] >= scores[rows, k, None]).sum(axis=1)
    return np.asarray(wrong / np.maximum(truth.sum(axis=1) * is_false.sum(axis=1), 1))


def _of_rankings(labels: PartialLabels, scores: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Average precision and calibration error of each class, (c,)."""
    figures = [
        (average_precision(*of_class), calibration_error(*of_class))
        for of_class in ranked_classes(labels, scores)
    ]
    ap, calibration = np.array(figures).T
    return ap, calibration


def ranked_classes(
    labels: PartialLabels, scores: NDArray[np.floating]
) -> Iterator[tuple[LabelMatrix, NDArray[np.floating]]]:
    """The labels and scores of each class's known rows, the highest score first: (n,) if all are known."""
    for labels_of_class, of_class in zip(labels.T, scores.T, strict=True):
        order = np.argsort(-of_class)
        if is_partial(labels):
            order = order[labels_of_class[order] != UNKNOWN]
        yield positives(labels_of_class[order]), of_class[order]


def average_precision(labels: LabelMatrix, scores: NDArray[np.floating]) -> float:
    """The mean, over the positives, of the precision among the rows that score as high or higher.

    labels and scores (n,) are of one class, the highest score first. NaN without positives.
    """
    if not labels.any():
        return float("nan")
    reached = np.searchsorted(
        -scores, -scores[labels], side="right"
    )  # how many rows score at least as high as each positive
    return float((labels.cumsum()[reached - 1] / reached).mean())


def calibration_error(labels: LabelMatrix, scores: NDArray[np.floating], bins: int = BINS) -> float:
    """The expected calibration error of one class in bins of equal mass: 0 for calibrated scores.

    labels and scores (n,) are in the order of the scores, which are divided into `bins` groups of n / bins
    rows. The error is Σ (rows of the bin / n) · |its mean score − its share of positives|. Rows with equal
    scores belong to the bin of the first of them, so the result does not depend on the order of the rows.
    Bins of equal mass are those of Nguyen & O'Connor (EMNLP 2015), one class at a time as by Nixon et al.
    (Measuring Calibration in Deep Learning, 2019). With few rows it is never 0, because a bin's share of
    positives varies by chance. Without rows it is 0.
    """
    if not len(scores):
        return 0.0
    places = np.arange(len(scores))
    places[1:][scores[1:] == scores[:-1]] = 0
    bin_of = np.maximum.accumulate(places) * bins // len(scores)
    gaps = np.bincount(bin_of, scores.astype(np.float64) - labels)
    return float(np.abs(gaps).sum() / len(scores))
