"""From kept scores to thresholds, predictions and metrics; no model is touched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.runs.run import Run, ScoredRows


def decide(tuning: DecisionSpec, validation: ScoredRows, evaluated: ScoredRows, tune_on: str) -> DecisionRule:
    """The rule that a run's kept scores and labels decide.

    Of cross-validated rows also each fold's, learned from the other folds: these label the rows, so that no
    row affects its own labels. The rule itself comes from all rows and is for new ones.

    Raises:
        DataError: scores that are no probabilities.
    """
    tuned_on = evaluated if tune_on == "eval" else validation
    decision = tuning.fit(tuned_on.scores, tuned_on.labels)
    if evaluated.folds is None or tune_on == "eval" or not tuning.learns:
        return decision
    others = (evaluated.folds != fold for fold in range(evaluated.folds.max() + 1))
    scores, labels = evaluated.scores, evaluated.labels
    folds = tuple(tuning.fit(scores[rows], labels[rows], intervals=False) for rows in others)
    return replace(decision, folds=folds)


def retune(run: Run, tuning: DecisionSpec) -> tuple[dict[str, Any], LabelMatrix]:
    """Give a run another way from scores to labels; return the metrics and labels of its `eval` rows.

    Raises:
        DataError: scores that are no probabilities.
    """
    run.decision = decide(tuning, run.tune, run.eval, run.spec.tune_on)
    return measure_kept(run)


def measure_kept(run: Run) -> tuple[dict[str, Any], LabelMatrix]:
    """`metrics.json` for a run's decision as it is, and the labels of its `eval` rows, (n, c)."""
    rows, predictions = decide_kept(run)
    return metrics_of(run, rows, predictions), predictions


def decide_kept(run: Run) -> tuple[ScoredRows, LabelMatrix]:
    """A run's `eval` rows with their probabilities as scores, and the labels (n, c) they get.

    Cross-validated rows get them by the rule of their fold.
    """
    rows, decision = run.eval, run.decision
    if rows.folds is None or not decision.folds:
        probabilities = decision.probabilities(rows.scores)
        return replace(rows, scores=probabilities), decision.choose(probabilities)
    dtype = np.float64 if decision.calibration else rows.scores.dtype
    probabilities, predictions = np.empty(rows.scores.shape, dtype), np.empty_like(rows.labels)
    for number, fold in enumerate(decision.folds):
        of_fold = rows.folds == number
        probabilities[of_fold] = fold.probabilities(rows.scores[of_fold])
        predictions[of_fold] = fold.choose(probabilities[of_fold])
    return replace(rows, scores=probabilities), predictions


def metrics_of(run: Run, rows: ScoredRows, predictions: LabelMatrix) -> dict[str, Any]:
    """`metrics.json` of a run's `eval` rows with their probabilities, and labels (n, c)."""
    decision = run.decision
    if decision.folds:  # labels came from several thresholds a class: none belongs next to its F1
        decision = replace(decision, estimate=ThresholdEstimate(np.full(rows.labels.shape[1], np.nan)))
    return {
        **measured(decision, rows, run.record.classes, predictions),
        "split": run.spec.split,
        "tuned_on": _tuned_on(run),
        "warnings": run.record.warnings,
    }


def measured(
    decision: DecisionRule, rows: ScoredRows, classes: Sequence[str], predictions: LabelMatrix
) -> dict[str, Any]:
    """What labels (n, c) of rows with their probabilities are worth, and the decision that led to them."""
    found = measure(rows.labels, predictions, rows.scores, classes)
    per_class = [
        {"label": row["label"], **cut, **row}
        for row, cut in zip(found["per_class"], decision.per_class(), strict=True)
    ]
    return {**found, "per_class": per_class, **decision.told}


def tuned_on_eval(run: Run) -> bool:
    """Whether the thresholds were tuned on the very rows the run is evaluated on, which flatters it."""
    return run.spec.tune_on == "eval" and run.decision.spec.learns


def _tuned_on(run: Run) -> str:
    if not run.decision.spec.learns:
        return "nothing"
    if tuned_on_eval(run):
        return f"eval: the {len(run.eval.ids)} rows it is measured on"
    if run.eval.folds is not None:
        return "out-of-fold scores, each fold by the others"
    return f"inner: {len(run.tune.ids)} of the training rows"
