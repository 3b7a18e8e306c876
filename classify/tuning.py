"""From kept scores to thresholds, predictions and metrics; no model is touched."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classify.metrics import measure
from classify.runs import Run, Scored
from classify.thresholds import fixed_cut, tune

TUNE_ON = ("inner", "eval")


def retune(run: Run, objective: str) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Give a run the thresholds that maximise an objective; return the metrics and labels of its `eval` rows.

    Raises:
        DataError: an unknown objective.
    """
    settings = run.settings
    tuned_on = run.eval if settings.tune_on == "eval" else run.tune
    run.thresholds = tune(tuned_on.scores, tuned_on.labels, objective)
    settings.objective = objective
    return measure_kept(run)


def measure_kept(run: Run) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """`metrics.json` for a run's thresholds as they are, and the labels of its `eval` rows, (n, c).

    Cross-validated rows are judged by thresholds tuned on the other folds, so that no row has a say in its
    own; the thresholds the run keeps come from all of them.
    """
    rows, settings = run.eval, run.settings
    predictions = rows.scores >= run.thresholds
    cut = fixed_cut(settings.objective)
    if cut is not None:
        tuned_on = f"nothing: {cut:g} is the cut of every class"
    elif tuned_on_eval(run):
        tuned_on = f"eval: the {len(rows.ids)} rows it is measured on"
    elif rows.folds is not None:
        tuned_on = "out-of-fold scores, each fold by the others"
        predictions = _cross_tuned(rows, rows.folds, settings.objective)
    else:
        tuned_on = f"inner: {len(run.tune.ids)} of the training rows"
    measured = measure(rows.labels, predictions, rows.scores, settings.classes, run.thresholds)
    return {
        **measured,
        "split": settings.split,
        "objective": settings.objective,
        "tuned_on": tuned_on,
        "warnings": settings.warnings,
    }, predictions


def tuned_on_eval(run: Run) -> bool:
    """Whether the thresholds were tuned on the very rows the run is evaluated on, which flatters it."""
    return run.settings.tune_on == "eval" and fixed_cut(run.settings.objective) is None


def _cross_tuned(rows: Scored, folds: NDArray[np.intp], objective: str) -> NDArray[np.bool_]:
    predictions = np.empty(rows.labels.shape, np.bool_)
    for fold in np.unique(folds):
        mine = folds == fold
        predictions[mine] = rows.scores[mine] >= tune(rows.scores[~mine], rows.labels[~mine], objective)
    return predictions
