"""From kept scores to thresholds, predictions and metrics; no model is touched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classify.decisions import Bools, Decision, Tuning
from classify.metrics import measure
from classify.runs import Run, Scored

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
    """`metrics.json` for a run's thresholds as they are, and the labels of its `eval` rows, (n, c).

    Cross-validated rows are judged by thresholds tuned on the other folds, so that no row has a say in its
    own; the thresholds the run keeps come from all of them.
    """
    rows, settings, decision = run.eval, run.settings, run.decision
    if rows.folds is not None and settings.tune_on != "eval" and decision.tuning.learns:
        predictions = _cross_tuned(rows, rows.folds, decision.tuning)
    else:
        predictions = decision(rows.scores)
    return {
        **measured(decision, rows, settings.classes, predictions),
        "split": settings.split,
        "tuned_on": _tuned_on(run),
        "warnings": settings.warnings,
    }, predictions


def measured(decision: Decision, rows: Scored, classes: Sequence[str], predictions: Bools) -> dict[str, Any]:
    """What the labels (n, c) that a decision gives to rows are worth, and what the decision is."""
    found = measure(rows.labels, predictions, decision.probabilities(rows.scores), classes)
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


def _cross_tuned(rows: Scored, folds: NDArray[np.intp], tuning: Tuning) -> Bools:
    predictions = np.empty(rows.labels.shape, np.bool_)
    for fold in np.unique(folds):
        mine = folds == fold
        predictions[mine] = tuning.decision(rows.scores[~mine], rows.labels[~mine])(rows.scores[mine])
    return predictions
