"""From kept scores to thresholds, predictions and metrics; no model is touched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from encode_once.classify.decisions.rule import Bools, Decision, Tuning
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.runs.run import Run, Scored

TUNE_ON = ("inner", "eval")


def retune(run: Run, tuning: Tuning) -> tuple[dict[str, Any], Bools]:
    """Give a run another way from scores to labels; return the metrics and labels of its `eval` rows.

    Raises:
        DataError: scores that are no probabilities.
    """
    tuned_on = run.eval if run.settings.tune_on == "eval" else run.tune
    run.decision = tuning.decision(tuned_on.scores, tuned_on.labels)
    return measure_kept(run)


def measure_kept(run: Run) -> tuple[dict[str, Any], Bools]:
    """`metrics.json` for a run's decision as it is, and the labels of its `eval` rows, (n, c)."""
    rows, predictions = decide_kept(run)
    return metrics_of(run, rows, predictions), predictions


def decide_kept(run: Run) -> tuple[Scored, Bools]:
    """A run's `eval` rows with their probabilities as scores, and the labels (n, c) they get.

    Cross-validated rows are decided on by what the other folds tuned and calibrated, so that no row has a say
    in its own; what the run keeps comes from all of them.
    """
    rows, decision = run.eval, run.decision
    if rows.folds is None or run.settings.tune_on == "eval" or not decision.tuning.learns:
        likely = decision.probabilities(rows.scores)
        return replace(rows, scores=likely), decision.choose(likely)
    likely, predictions = np.empty_like(rows.scores), np.empty_like(rows.labels)
    for fold in np.unique(rows.folds):
        mine = rows.folds == fold
        others = decision.tuning.decision(rows.scores[~mine], rows.labels[~mine], told=False)
        likely[mine] = found = others.probabilities(rows.scores[mine])  # rounded there, but not for cuts
        predictions[mine] = others.choose(found)
    return replace(rows, scores=likely), predictions


def metrics_of(run: Run, rows: Scored, predictions: Bools) -> dict[str, Any]:
    """`metrics.json` of a run's `eval` rows with their probabilities, and labels (n, c)."""
    return {
        **measured(run.decision, rows, run.settings.classes, predictions),
        "split": run.settings.split,
        "tuned_on": _tuned_on(run),
        "warnings": run.settings.warnings,
    }


def measured(decision: Decision, rows: Scored, classes: Sequence[str], predictions: Bools) -> dict[str, Any]:
    """What labels (n, c) of rows with their probabilities are worth, and the decision that led to them."""
    found = measure(rows.labels, predictions, rows.scores, classes)
    per_class = [
        {"label": row["label"], **cut, **row}
        for row, cut in zip(found["per_class"], decision.cuts(), strict=True)
    ]
    return {**found, "per_class": per_class, **decision.told}


def tuned_on_eval(run: Run) -> bool:
    """Whether the thresholds were tuned on the very rows the run is evaluated on, which flatters it."""
    return run.settings.tune_on == "eval" and run.decision.tuning.learns


def _tuned_on(run: Run) -> str:
    if not run.decision.tuning.learns:
        return "nothing"
    if tuned_on_eval(run):
        return f"eval: the {len(run.eval.ids)} rows it is measured on"
    if run.eval.folds is not None:
        return "out-of-fold scores, each fold by the others"
    return f"inner: {len(run.tune.ids)} of the training rows"
