"""From scores to labels: what is asked for, and the rule that scores and labels then decided."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.decisions import guarantees
from encode_once.classify.decisions.calibration import FINEST, METHODS, Calibration, logits
from encode_once.classify.decisions.exact import ALWAYS, NEVER, Objective, tune
from encode_once.classify.decisions.expected_f1 import best_sets
from encode_once.classify.decisions.guarantees import MISSES, Guarantee
from encode_once.classify.decisions.shrinkage import ThresholdEstimate, estimate

RULES = ("thresholds", "expected-f1")
CALIBRATIONS = ("auto", "none", *METHODS)


@dataclass(frozen=True)
class DecisionSpec:
    """How labels are to follow from scores.

    objective: what thresholds maximise, one of `classify.decisions.exact.NAMES`.
    shrink: have them hold on unseen rows, not be optimal on those they are tuned on.
    decide: "thresholds", or "expected-f1": each row's set of labels of the greatest expected F1.
    calibrate: how scores become probabilities; "auto" is "sigmoid" for expected-f1, else "none".
    at_least, at_most: labels a row. Thresholds are tuned as if there were no such bounds; then those labels
        are added that are nearest to their threshold, or taken away that are least above it.
    Raises UsageError: there is no such thing.
    """

    objective: str = "macro"
    shrink: bool = True
    decide: str = "thresholds"
    calibrate: str = "auto"
    at_least: int = 0
    at_most: int | None = None

    def __post_init__(self) -> None:
        Objective.of(self.objective)
        if self.decide not in RULES:
            raise unknown_name("--decide", self.decide, RULES)
        if self.calibrate not in CALIBRATIONS:
            raise unknown_name("--calibrate", self.calibrate, CALIBRATIONS)
        if self.at_least < 0 or (self.at_most is not None and self.at_most < max(self.at_least, 1)):
            raise UsageError(f"no row has at least {self.at_least} and at most {self.at_most} labels")

    @property
    def calibration(self) -> str:
        """The method that scores are calibrated by, or "none"."""
        usual = "sigmoid" if self.decide == "expected-f1" else "none"
        return usual if self.calibrate == "auto" else self.calibrate

    @property
    def learns(self) -> bool:
        """Whether it takes scores and labels to decide the rule: 0.5 for all does not."""
        return self.calibration != "none" or (
            self.decide == "thresholds" and Objective.of(self.objective).fixed is None
        )

    def __str__(self) -> str:
        objective = Objective.of(self.objective)
        if self.decide == "expected-f1":
            told = ["sets of the greatest expected F1"]
        elif objective.fixed is not None:
            told = [f"{objective.fixed:g} is the threshold of every class"]
        elif objective.measure in ("precision", "recall") and self.shrink:
            whose = "in all classes together" if objective.one_cut else "of each class"
            told = [
                f"thresholds hold a {objective.measure} of {float(objective.share):g} {whose} on unseen rows"
            ]
            told += [f"with {1 - MISSES:.0%} confidence"]
        else:
            told = [f"thresholds maximise {self.objective}"]
            told += ["exactly"] if not self.shrink else []
        told += [f"scores calibrated by {self.calibration}"] if self.calibration != "none" else []
        told += [f"{self.at_least} or more labels a row"] if self.at_least else []
        told += [f"{self.at_most} or fewer labels a row"] if self.at_most is not None else []
        return ", ".join(told)

    def fit(self, scores: NDArray[Any], labels: LabelMatrix, intervals: bool = True) -> "DecisionRule":
        """The rule that scores and labels (n, c) decide; `intervals`: with how far to trust its thresholds.

        Raises DataError: as `thresholds.tune`.
        """
        calibration = None
        if self.calibration != "none":
            calibration = Calibration.fitted(self.calibration, scores, labels)
            scores = calibration(scores)
        objective = Objective.of(self.objective)
        if self.decide == "expected-f1":
            return DecisionRule(self, ThresholdEstimate(np.full(labels.shape[1], np.nan)), calibration)
        if not (intervals or self.shrink):
            return DecisionRule(self, ThresholdEstimate(tune(scores, labels, objective)), calibration)
        return DecisionRule(self, estimate(scores, labels, objective, self.shrink), calibration)


class ClassThreshold(TypedDict):
    """The threshold of a class and its 95 % interval; None where there is none."""

    threshold: float | None
    interval: list[float] | None


class RuleSummary(TypedDict):
    """What `metrics.json` says of a decision rule."""

    objective: str
    decided: str
    guarantee: NotRequired[str]


@dataclass(frozen=True)
class DecisionRule:
    """What makes labels of scores, and what it was tuned for."""

    spec: DecisionSpec
    estimate: ThresholdEstimate
    calibration: Calibration | None = None
    folds: tuple[
        "DecisionRule", ...
    ] = ()  # of cross-validated rows: each fold's rule, learned from the others

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Of calibrated scores, (c,); NaN under the rule expected-f1, which has none."""
        return self.estimate.thresholds

    @property
    def by_thresholds_alone(self) -> bool:
        """Whether a label hangs on its own score and threshold, and on nothing else."""
        asked = self.spec
        return asked.decide == "thresholds" and not (self.calibration or asked.at_least or asked.at_most)

    @property
    def summary(self) -> RuleSummary:
        """The rule in words, for `metrics.json`."""
        spec = self.spec
        objective = spec.objective if spec.decide == "thresholds" else spec.decide
        summary: RuleSummary = {"objective": objective, "decided": str(spec)}
        if self.estimate.guarantee is not None:
            summary["guarantee"] = self._guarantee_text(self.estimate.guarantee)
        return summary

    def _guarantee_text(self, reached: Guarantee) -> str:
        """What a guarantee costs: expected means, and the number of classes it leaves out."""
        thresholds = self.thresholds
        objective = Objective.of(self.spec.objective)
        other = "recall" if objective.measure == "precision" else "precision"
        values = reached.recall if other == "recall" else reached.precision
        parts = []
        if not np.isnan(values).all():
            parts.append(f"expected {other} {np.nanmean(values):.3f}, the mean over classes")
        c = len(thresholds)
        never, always = int((thresholds >= NEVER).sum()), int((thresholds <= ALWAYS).sum())
        if never:
            parts.append(f"{never} of {c} classes never predicted, as no threshold passes the test")
        if always:
            parts.append(
                f"{always} of {c} classes predicted in every row, as nothing less is sure to be enough"
            )
        if never or always:
            parts.append("--no-shrink tunes without the guarantee")
        return "; ".join(parts)

    def per_class(self) -> list[ClassThreshold]:
        """The threshold of each class, with its bootstrap interval if the rule was fitted with intervals."""
        intervals = self.estimate.intervals
        known = np.full((len(self.thresholds), 2), np.nan) if intervals is None else intervals
        return [
            {
                "threshold": None if np.isnan(threshold) else float(threshold),
                "interval": None if np.isnan(ends).any() else ends.tolist(),
            }
            for threshold, ends in zip(self.thresholds, known, strict=True)
        ]

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """`thresholds.json`: what was asked for, and for each class what was found; the same of each fold."""
        per_class = dict(zip(classes, self.per_class(), strict=True))
        learned = self.calibration and [one.tolist() for one in self.calibration.learned]
        return {
            **asdict(self.spec),
            "thresholds": {name: one["threshold"] for name, one in per_class.items()},
            "intervals": {name: one["interval"] for name, one in per_class.items()},
            "expected_loss": self.estimate.loss,
            "guarantee": self.estimate.guarantee
            and guarantees.as_json(
                Objective.of(self.spec.objective), self.thresholds, self.estimate.guarantee, [*classes]
            ),
            "calibrated_by": self.spec.calibration,
            "calibration": learned and dict(zip(classes, learned, strict=True)),
            "folds": [fold.as_json(classes) for fold in self.folds],
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any], classes: Sequence[str]) -> "DecisionRule":
        """The decision that `as_json` tells."""
        tuning = DecisionSpec(**{one.name: told[one.name] for one in fields(DecisionSpec)})
        guarantee = told.get("guarantee")
        reached = [
            np.array([guarantee[f"expected_{name}"][label] for label in classes], dtype=np.float64)
            for name in ("precision", "recall")
            if guarantee
        ]
        found = ThresholdEstimate(
            np.array([told["thresholds"][name] for name in classes], dtype=np.float64),
            np.array([told["intervals"][name] or [np.nan, np.nan] for name in classes]),
            told["expected_loss"],
            guarantee and Guarantee(*reached),
        )
        learned = told["calibration"]
        curves = learned and Calibration(told["calibrated_by"], [np.array(learned[name]) for name in classes])
        folds = tuple(cls.of_json(fold, classes) for fold in told["folds"])
        return cls(tuning, found, curves, folds)

    def probabilities(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores (n, c), calibrated if that is part of it."""
        return self.calibration(scores) if self.calibration else scores

    def __call__(self, scores: NDArray[Any]) -> LabelMatrix:
        """The labels (n, c) of rows with these scores (n, c)."""
        return self.choose(self.probabilities(scores))

    def choose(self, likely: NDArray[Any]) -> LabelMatrix:
        """The labels (n, c) of rows whose `probabilities` are these (n, c)."""
        tuning = self.spec
        if tuning.decide == "expected-f1":
            return _bounded(best_sets(likely, tuning.at_most), likely, tuning.at_least, tuning.at_most)
        margins = logits(likely, FINEST) - logits(self.thresholds, FINEST)
        return _bounded(likely >= self.thresholds, margins, tuning.at_least, tuning.at_most)


def _bounded(chosen: LabelMatrix, margins: NDArray[Any], at_least: int, at_most: int | None) -> LabelMatrix:
    """Chosen labels (n, c), and in rows of too few or too many those of the greatest margins (n, c)."""
    c = chosen.shape[1]
    counts = chosen.sum(axis=1)
    wanted = np.clip(counts, min(at_least, c), c if at_most is None else at_most)
    if (wanted == counts).all():
        return chosen
    order = np.lexsort((-margins, ~chosen))  # those chosen come first, whatever rounding did to margins
    bounded = np.empty_like(chosen)
    np.put_along_axis(bounded, order, np.arange(c) < wanted[:, None], axis=1)
    return bounded
