"""From scores to labels: what is asked for, and the rule that scores and labels then decided."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.classify.decisions.calibration import FINEST, METHODS, Calibration, logits
from encode_once.classify.decisions.exact import Objective, tune
from encode_once.classify.decisions.expected_f1 import best_sets
from encode_once.classify.decisions.shrinkage import Estimate, estimate

RULES = ("cuts", "expected-f1")
CALIBRATIONS = ("auto", "none", *METHODS)

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Tuning:
    """How labels are to follow from scores.

    objective: what thresholds maximise, one of `classify.decisions.exact.NAMES`.
    shrink: have them hold on unseen rows, not be optimal on those they are tuned on.
    decide: "cuts", or "expected-f1": each row's set of labels of the greatest expected F1.
    calibrate: how scores become probabilities; "auto" is "sigmoid" for expected-f1, and "none" for cuts.
    at_least, at_most: labels a row. Thresholds are tuned as if there were no such bounds; then those labels
        are added that are nearest to their cut, or taken away that are least above it.
    Raises UsageError: there is no such thing.
    """

    objective: str = "macro"
    shrink: bool = True
    decide: str = "cuts"
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
            self.decide == "cuts" and Objective.of(self.objective).fixed is None
        )

    def __str__(self) -> str:
        objective = Objective.of(self.objective)
        if self.decide == "expected-f1":
            told = ["sets of the greatest expected F1"]
        elif objective.fixed is not None:
            told = [f"{objective.fixed:g} is the cut of every class"]
        else:
            told = [f"thresholds maximise {self.objective}"]
            told += ["exactly"] if not self.shrink else []
        told += [f"scores calibrated by {self.calibration}"] if self.calibration != "none" else []
        told += [f"{self.at_least} or more labels a row"] if self.at_least else []
        told += [f"{self.at_most} or fewer labels a row"] if self.at_most is not None else []
        return ", ".join(told)

    def decision(self, scores: NDArray[Any], labels: Bools, told: bool = True) -> "Decision":
        """The rule that scores and labels (n, c) decide; `told`: with how far to trust its thresholds.

        Raises DataError: as `thresholds.tune`.
        """
        calibration = None
        if self.calibration != "none":
            calibration = Calibration.fitted(self.calibration, scores, labels)
            scores = calibration(scores)
        objective = Objective.of(self.objective)
        if self.decide == "expected-f1":
            return Decision(self, Estimate(np.full(labels.shape[1], np.nan)), calibration)
        if not (told or self.shrink):
            return Decision(self, Estimate(tune(scores, labels, objective)), calibration)
        return Decision(self, estimate(scores, labels, objective, self.shrink), calibration)


@dataclass(frozen=True)
class Decision:
    """What makes labels of scores, and what it was tuned for."""

    tuning: Tuning
    estimate: Estimate
    calibration: Calibration | None = None
    folds: tuple["Decision", ...] = ()  # of cross-validated rows: each fold's rule, learned from the others

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Of calibrated scores, (c,); NaN under the rule expected-f1, which has none."""
        return self.estimate.thresholds

    @property
    def by_cuts_alone(self) -> bool:
        """Whether a label hangs on its own score and threshold, and on nothing else."""
        asked = self.tuning
        return asked.decide == "cuts" and not (self.calibration or asked.at_least or asked.at_most)

    @property
    def told(self) -> dict[str, str]:
        """What `metrics.json` says of it."""
        asked = self.tuning
        objective = asked.objective if asked.decide == "cuts" else asked.decide
        return {"objective": objective, "decided": str(asked)}

    def cuts(self) -> list[dict[str, Any]]:
        """For each class its threshold, and the interval of one that the bootstrap tells; else None."""
        intervals = self.estimate.intervals
        known = np.full((len(self.thresholds), 2), np.nan) if intervals is None else intervals
        return [
            {
                "threshold": None if np.isnan(cut) else float(cut),
                "interval": None if np.isnan(ends).any() else ends.tolist(),
            }
            for cut, ends in zip(self.thresholds, known, strict=True)
        ]

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """`thresholds.json`: what was asked for, and for each class what was found; the same of each fold."""
        cuts = dict(zip(classes, self.cuts(), strict=True))
        learned = self.calibration and [one.tolist() for one in self.calibration.learned]
        return {
            **asdict(self.tuning),
            "thresholds": {name: one["threshold"] for name, one in cuts.items()},
            "intervals": {name: one["interval"] for name, one in cuts.items()},
            "expected_loss": self.estimate.loss,
            "calibrated_by": self.tuning.calibration,
            "calibration": learned and dict(zip(classes, learned, strict=True)),
            "folds": [fold.as_json(classes) for fold in self.folds],
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any], classes: Sequence[str]) -> "Decision":
        """The decision that `as_json` tells."""
        tuning = Tuning(**{one.name: told[one.name] for one in fields(Tuning)})
        found = Estimate(
            np.array([told["thresholds"][name] for name in classes], dtype=np.float64),
            np.array([told["intervals"][name] or [np.nan, np.nan] for name in classes]),
            told["expected_loss"],
        )
        learned = told["calibration"]
        curves = learned and Calibration(told["calibrated_by"], [np.array(learned[name]) for name in classes])
        folds = tuple(cls.of_json(fold, classes) for fold in told["folds"])
        return cls(tuning, found, curves, folds)

    def probabilities(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores (n, c), calibrated if that is part of it."""
        return self.calibration(scores) if self.calibration else scores

    def __call__(self, scores: NDArray[Any]) -> Bools:
        """The labels (n, c) of rows with these scores (n, c)."""
        return self.choose(self.probabilities(scores))

    def choose(self, likely: NDArray[Any]) -> Bools:
        """The labels (n, c) of rows whose `probabilities` are these (n, c)."""
        tuning = self.tuning
        if tuning.decide == "expected-f1":
            return _bounded(best_sets(likely, tuning.at_most), likely, tuning.at_least, tuning.at_most)
        margins = logits(likely, FINEST) - logits(self.thresholds, FINEST)
        return _bounded(likely >= self.thresholds, margins, tuning.at_least, tuning.at_most)


def _bounded(chosen: Bools, margins: NDArray[Any], at_least: int, at_most: int | None) -> Bools:
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
