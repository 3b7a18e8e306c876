"""Simulations on a known population: how often intervals and guarantees hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from encode_once.classify.arrays import FloatArray, LabelMatrix, Scores
from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS, interval, resampled
from encode_once.classify.evaluation.metrics import Metrics, measure

POPULATION = 200_000  # rows that represent the whole population
DRAWS = 200  # per interval: more draws hardly improve the quantiles
FREQUENCIES = 0.5, 0.005  # of the classes, from the first to the last
SEPARATION, SPREAD = 2.0, 0.4  # mean and deviation over classes of the distance of positives from negatives
THRESHOLD = 0.3
UNSEEN = 30_000  # rows that tuned thresholds are applied to
TARGETS = ("precision:0.9", "recall:0.9")

Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    """A population of rows with the scores of a model, normal or heavy-tailed, of several classes."""

    classes: int
    heavy: bool = False

    @property
    def name(self) -> str:
        """The distribution of its scores."""
        return "logistic scores" if self.heavy else "normal scores"

    def rows(self, n: int, rng: np.random.Generator) -> tuple[LabelMatrix, Scores]:
        """Labels and scores (n, c) of n random rows."""
        separation = SEPARATION + SPREAD * np.random.default_rng(self.classes).standard_normal(self.classes)
        frequencies = np.geomspace(*FREQUENCIES, self.classes)
        labels = rng.random((n, self.classes), np.float32) < frequencies
        shape = (n, self.classes)
        noise = rng.logistic(0, 3**0.5 / np.pi, shape) if self.heavy else rng.standard_normal(shape)
        z = noise + separation * (labels - 0.5)
        return labels, expit(separation * z + logit(frequencies)).astype(np.float32)


def coverage(world: World, n: int, repeats: int, seed: int = 0, copies: int = 1) -> Iterator[Row]:
    """The share of intervals of samples of n rows that hold the population's figure: a row per metric.

    copies: how often each row is in a sample; its copies are one group.
    """
    names = [*map(str, range(world.classes))]
    population, scores = world.rows(POPULATION, np.random.default_rng([seed, 1]))
    whole = measure(population, scores >= THRESHOLD, scores, names)
    class_f1, ap = (np.array([row[name] for row in whole["per_class"]]) for name in ("f1", "ap"))
    rng = np.random.default_rng([seed, 2])
    coverages = []  # (repeats, metrics, 5)
    for repeat in range(repeats):
        labels, scores = world.rows(n // copies, rng)
        labels, scores = np.repeat(labels, copies, axis=0), np.repeat(scores, copies, axis=0)
        predictions = scores >= THRESHOLD
        groups = np.repeat(np.arange(n // copies), copies)
        figures = measure(labels, predictions, scores, names)
        draws = resampled(labels, predictions, scores, groups, DRAWS, seed=repeat)
        truth: Metrics = {
            **whole,
            "macro_f1": class_f1[labels.any(axis=0)].mean(),
            "mAP": ap[labels.any(axis=0)].mean(),
        }
        coverages.append([_coverage(draws[name], figures[name], truth[name]) for name in METRICS])
    for name, values in zip(METRICS, np.array(coverages, dtype=np.float64).mean(axis=0), strict=True):
        covered, above, below, width, bias = values.tolist()
        yield {
            "population": world.name,
            "classes": world.classes,
            "rows": n,
            "copies": copies,
            "metric": name,
            "covered": covered,
            "standard error": (covered * (1 - covered) / repeats) ** 0.5,
            "all above": above,
            "all below": below,
            "width": width,
            "figure's bias": bias,
        }


def _coverage(draws: FloatArray, figure: float | None, truth: float | None) -> list[float]:
    ends = interval(draws, figure)
    if figure is None or truth is None or ends is None:
        return [np.nan] * 5
    low, high = ends
    return [low <= truth <= high, low > truth, high < truth, high - low, figure - truth]


def guarantees(tuned_on: int, repeats: int = 20, classes: int = 19) -> Iterator[Row]:
    """The share of classes that miss the target on unseen rows, with the guarantee and without it.

    `missing` is the share of all classes; a class that is never predicted does not miss a precision.
    `missing, of predicted` is the share of the classes that are predicted. `precision` and `recall` are means
    over the classes predicted in unseen rows. `expected` is the mean over all classes of the other measure as
    thresholds.json expects it, `real` as it is.
    """
    for objective in TARGETS:
        for shrink in (True, False):
            values = [
                _once(DecisionSpec(objective, shrink), tuned_on, classes, seed) for seed in range(repeats)
            ]
            missing = [row["missing"] for row in values]
            yield {
                "objective": objective,
                "guarantee": "yes" if shrink else "no",
                "tuned on": tuned_on,
                **{name: float(np.nanmean([row[name] for row in values])) for name in values[0]},
                "standard error of missing": float(np.std(missing, ddof=1) / repeats**0.5),
            }


def _once(spec: DecisionSpec, tuned_on: int, classes: int, seed: int) -> dict[str, float]:
    measured, _, share = spec.objective.partition(":")
    tuning_scores, tuning_labels = synthetic_scores(tuned_on, classes, seed)
    unseen, truth = synthetic_scores(UNSEEN, classes, UNSEEN + seed)
    thresholds = spec.fit(tuning_scores, tuning_labels).thresholds
    precision, recall = _reached(unseen >= thresholds, truth)
    target, other = (precision, recall) if measured == "precision" else (recall, precision)
    missing, predicted = target < float(share), ~np.isnan(precision)
    expected = _reached(tuning_scores >= thresholds, tuning_labels)[measured == "precision"]
    with_value = ~np.isnan(expected) & ~np.isnan(other)
    return {
        "missing": float(missing.mean()),
        "missing, of predicted": float(missing[predicted].mean()) if predicted.any() else np.nan,
        "never": float((~predicted).mean()),
        "precision": float(precision[predicted].mean()) if predicted.any() else np.nan,
        "recall": float(recall[predicted].mean()) if predicted.any() else np.nan,
        "expected": float(expected[with_value].mean()),
        "real": float(other[with_value].mean()),
    }


def _reached(predicted: LabelMatrix, labels: LabelMatrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of each class, (c,); NaN for a class that is never predicted, or never true."""
    hits = (predicted & labels).sum(axis=0)
    sizes = (predicted.sum(axis=0), labels.sum(axis=0))
    precision, recall = (np.where(size > 0, hits / np.maximum(size, 1), np.nan) for size in sizes)
    return precision, recall
