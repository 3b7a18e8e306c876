"""Labels of new rows in which classes are more or less frequent than where a run was tuned."""

from dataclasses import replace
from typing import NamedTuple, TypedDict

import numpy as np

from encode_once.cache import DataError, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import LabelMatrix, Probabilities
from encode_once.classify.data.hierarchy import raised
from encode_once.classify.data.labels import SINGLE
from encode_once.classify.decisions import expected_mean
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.prevalence import PrevalenceShift, corrected, estimate
from encode_once.classify.runs.run import Run

FEWEST = 50  # rows: of fewer, the test for a shift does not hold
SHOWN = 5  # classes
METHODS = ("em",)  # that estimate prevalences


class ClassPrevalence(TypedDict):
    """The share of rows with a class: in the tuning rows, and as estimated for new ones."""

    before: float
    after: float


Prevalences = dict[str, ClassPrevalence]  # by class


class Decided(NamedTuple):
    """Labels (n, c), the probabilities that they follow from, and the prevalences if they are corrected."""

    probabilities: Probabilities
    labels: LabelMatrix
    prevalence: Prevalences | None = None


def check_method(run: Run, method: str | None, rows: int | None = None) -> None:
    """Raise if a method is not one of `METHODS`, or cannot correct the run, or the rows are too few.

    rows: how many there are, if that is known before they are encoded.

    Raises:
        UsageError: see above, and `check_correctable`.
        DataError: too few rows.
    """
    if method is not None:
        if method not in METHODS:
            raise unknown_name("prevalence", method, METHODS)
        check_correctable(run)
        if rows is not None:
            _check_rows(rows)


def _check_rows(n: int) -> None:
    if n < FEWEST:
        raise DataError(
            f"{n} rows do not say how frequent classes are: to correct scores for the prevalence, label "
            f"{FEWEST} rows or more"
        )


def decided(run: Run, probabilities: Probabilities, method: str | None) -> Decided:
    """The labels of rows by a run's rule; a method of `METHODS` corrects the probabilities before.

    Raises:
        DataError: too few rows for a correction.
    """
    if method is None:
        return Decided(probabilities, run.decision.choose(probabilities))
    return with_prevalence(run, probabilities)


def check_correctable(run: Run) -> None:
    """Raise if the labels of a run cannot follow from corrected probabilities.

    Raises:
        UsageError: each row has exactly one label; scores are not calibrated; or thresholds were tuned.
    """
    decision = run.decision
    objective = Objective.of(decision.spec.objective)
    if run.spec.task == SINGLE or decision.spec.decide == "argmax":
        raise UsageError(
            f"prevalences are estimated class by class, but each row of {run.path} has exactly one label"
        )
    if decision.calibration is None:
        raise UsageError(
            f"a correction for the prevalence needs calibrated scores, and those of {run.path} are not: "
            f"tune {run.path} --decide expected-mean --calibrate sigmoid"
        )
    if decision.spec.decide == "thresholds" and objective.measure:
        raise UsageError(
            f"the thresholds of {run.path} are tuned for the prevalence of its tuning rows and fit no other: "
            f"tune {run.path} --decide expected-mean --calibrate sigmoid"
        )


def with_prevalence(run: Run, probabilities: Probabilities) -> Decided:
    """The labels by probabilities that are corrected for the shift, and the prevalence by class.

    The prevalence of a class without a positive train row is not estimated.

    Raises:
        DataError: too few rows.
    """
    record, decision = run.record, run.decision
    _check_rows(len(probabilities))
    before = decision.probabilities(run.validation.scores).mean(axis=0)
    shift = estimate(probabilities, before)
    untrained = np.isin(record.classes, record.untrained)
    shift = PrevalenceShift(before, np.where(untrained, before, shift.after))
    probabilities = raised(corrected(probabilities, shift), run.pairs)
    if decision.gains is not None:  # which depend on how frequent classes are
        decision = replace(decision, gains=expected_mean.gains(probabilities))
    shares = zip(before.tolist(), shift.after.tolist(), strict=True)
    prevalence = [ClassPrevalence(before=before, after=after) for before, after in shares]
    by_class = dict(zip(record.classes, prevalence, strict=True))
    return Decided(probabilities, decision.choose(probabilities), by_class)


def text(prevalence: Prevalences) -> str:
    """A line: the classes of the largest shifts, and how many others have a smaller one or none."""
    shifted = {name: row for name, row in prevalence.items() if row["before"] != row["after"]}
    largest = sorted(shifted, key=lambda name: -abs(shifted[name]["after"] - shifted[name]["before"]))
    parts = [
        f"{name} {shifted[name]['before']:.3f} → {shifted[name]['after']:.3f}" for name in largest[:SHOWN]
    ]
    more, same = len(shifted) - len(parts), len(prevalence) - len(shifted)
    parts += [f"{more} others less"] if more else []
    parts += [f"{same} of {len(prevalence)} classes without a shift"]
    return f"prevalence: {', '.join(parts)}"
