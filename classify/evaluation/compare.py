"""Comparison of runs on the same rows: the metrics of each, and how the others differ from the first.

Runs are compared by the difference of their metrics over the same bootstrap draws of the same rows. That is
much more precise than two separate intervals, because a row that is hard for one run is hard for the other.
So runs are only compared on eval rows that all of them have, and that none of them tuned its thresholds on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from encode_once.cache import DataError, UsageError
from encode_once.cache.csv_file import write_csv
from encode_once.cache.table import UNKNOWN_MARK
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import FloatArray, LabelMatrix, PartialLabels
from encode_once.classify.data.duplicates import join
from encode_once.classify.data.rows import content_order, match
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.evaluation.intervals import CLASS_F1
from encode_once.classify.evaluation.metrics import MetricName, Metrics, row_f1
from encode_once.classify.partial import positives, unknown_entries, without_unknown

MIN_DIFFERING_ROWS = 5  # in which two runs differ in a class, for the class to be named as better or worse


class MetricChange(TypedDict):
    """A run's figure minus the first run's, with the paired interval; None where either has no figure."""

    difference: float | None
    interval: list[float] | None


class ClassChange(MetricChange):
    """The change of a class's F1."""

    label: str


class ComparedRun(Metrics):
    """A run's metrics on the compared rows."""

    run: str
    tuned_on_these_rows: bool


class Difference(TypedDict):
    """A run minus the first run."""

    run: str
    to: str
    metrics: dict[MetricName, MetricChange]
    per_class: list[ClassChange]
    better: list[str]  # labels of the classes whose F1 is higher, beyond its interval
    worse: list[str]
    rows_differing: int  # rows with different predicted labels
    closer: int  # how many of these are closer to the truth than the first run's
    further: int


class Comparison(TypedDict):
    """The runs and their differences from the first."""

    n: int  # rows
    caveats: list[str]  # why the comparison is not fair; empty if it is
    runs: list[ComparedRun]
    differences: list[Difference]


def against_first(
    evaluations: Sequence[Evaluation], anyway: bool = False
) -> tuple[Comparison, list[Evaluation]]:
    """Compare runs with the first of them.

    Args:
        anyway: compare runs with different eval rows on the rows they share, and runs tuned on these rows.

    Returns:
        The comparison, and the evaluations of only the rows that were compared.

    Raises:
        UsageError: fewer than two runs, or a run twice.
        DataError: classes or labels differ; without `anyway` rows differ or thresholds were tuned on them.
    """
    _check(evaluations)
    evaluations, caveats = on_shared_rows(evaluations, anyway)
    caveats += check_tuning(evaluations, anyway)
    evaluations = with_shared_groups(evaluations)
    first, *others = evaluations
    order = content_order(first.rows.keys, first.rows.ids)  # the same for all, so that draws are paired
    draws = [evaluation.draws(order) for evaluation in evaluations]
    runs: list[ComparedRun] = [
        {
            "run": evaluation.run,
            "tuned_on_these_rows": evaluation.tuned_here,
            **evaluation.with_intervals(own_draws),
            "warnings": [*evaluation.warnings],
        }
        for evaluation, own_draws in zip(evaluations, draws, strict=True)
    ]
    differences = [
        _difference(evaluation, first, intervals.differences(own_draws, draws[0]))
        for evaluation, own_draws in zip(others, draws[1:], strict=True)
    ]
    comparison: Comparison = {
        "n": len(first.rows.ids),
        "caveats": caveats,
        "runs": runs,
        "differences": differences,
    }
    return comparison, evaluations


def write_differences(
    path: Path,
    evaluations: Sequence[Evaluation],
    id_column: str,
    label_separator: str,
    *,
    excel_safe: bool = False,
) -> int:
    """Write the rows whose predicted labels differ between runs as CSV; return their number.

    The columns are the id, `Labels` (the truth, with `?` before unknown labels), the labels that each run
    predicts, under the run's folder, and `Closest`: the runs whose labels are closest to the truth by the
    row's F1, empty if all are equally close. excel_safe: see `write_csv`.
    """
    first = evaluations[0]
    labels, classes = first.rows.labels, np.array(first.classes)
    truth, unknown = positives(labels), unknown_entries(labels)
    closeness = np.stack([_closeness(labels, run.predictions) for run in evaluations])  # (runs, n)
    differing = np.any([(run.predictions != first.predictions).any(axis=1) for run in evaluations], axis=0)
    rows = []
    for row in np.flatnonzero(differing):
        label_sets = [truth[row], *(run.predictions[row] for run in evaluations)]
        best = np.flatnonzero(closeness[:, row] == closeness[:, row].max()).tolist()
        closest = [evaluations[k].run for k in best] if len(best) < len(evaluations) else []
        names = [classes[label_set].tolist() for label_set in label_sets]
        names[0] += [f"{UNKNOWN_MARK}{name}" for name in classes[unknown[row]]]
        rows.append([first.rows.ids[row], *map(label_separator.join, names), "; ".join(closest)])
    header = [id_column, "Labels", *(run.run for run in evaluations), "Closest"]
    write_csv(path, header, rows, excel_safe=excel_safe)
    return int(differing.sum())


def _check(evaluations: Sequence[Evaluation]) -> None:
    """Refuse runs that can never be compared."""
    names = [evaluation.run for evaluation in evaluations]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError("name two runs or more to compare, each once")
    check_classes(evaluations)


def check_classes(evaluations: Sequence[Evaluation]) -> None:
    """Refuse runs with different classes.

    Raises:
        DataError: there are some.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        if differing := set(first.classes) ^ set(other.classes):
            raise DataError(
                f"{other.run} and {first.run} have different classes: only one of them has "
                f"{', '.join(sorted(differing))}. Fit both on the same labels, with the same --classes"
            )


def on_shared_rows(evaluations: Sequence[Evaluation], anyway: bool) -> tuple[list[Evaluation], list[str]]:
    """The evaluations with the rows and classes in the order of the first; a caveat if rows are left out."""
    first, caveats = evaluations[0], []
    keys, ids = first.rows.keys, first.rows.ids
    positions = np.stack([match(keys, ids, run.rows.keys, run.rows.ids) for run in evaluations])
    shared = positions[:, (positions >= 0).all(axis=0)]  # (runs, shared rows)
    n = shared.shape[1]
    if any(len(evaluation.rows.ids) > n for evaluation in evaluations):
        counts = short_list([f"{len(evaluation.rows.ids)} of {evaluation.run}" for evaluation in evaluations])
        if not n or not anyway:
            hint = "fit them with the same --split" + (", or pass --anyway" if n else "")
            raise DataError(f"only {n} evaluated rows are in all runs ({counts}): {hint}")
        caveats.append(f"compared on the {n} rows that are in all runs ({counts})")
    subsets = [
        evaluation.subset(rows, first.classes) for evaluation, rows in zip(evaluations, shared, strict=True)
    ]
    for other in subsets[1:]:
        if differing := int((other.rows.labels != subsets[0].rows.labels).any(axis=1).sum()):
            raise DataError(
                f"{other.run} and {first.run} have different labels for {differing} rows of the same "
                "content: the table has changed between them, so fit the older one again"
            )
    return subsets, caveats


def with_shared_groups(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with rows grouped if any of them groups them: paired draws need equal groups."""
    groupings = [evaluation.rows.groups for evaluation in evaluations if evaluation.rows.groups is not None]
    if not groupings:
        return [*evaluations]
    groups = groupings[0]
    for other in groupings[1:]:
        if not np.array_equal(groups, other):
            groups = join(groups, other)
    return [replace(evaluation, rows=replace(evaluation.rows, groups=groups)) for evaluation in evaluations]


def check_tuning(evaluations: Sequence[Evaluation], anyway: bool) -> list[str]:
    """A caveat for each run whose thresholds were tuned on the rows it is evaluated on."""
    tuned_here = [evaluation.run for evaluation in evaluations if evaluation.tuned_here]
    if tuned_here and not anyway:
        raise DataError(
            f"thresholds of {', '.join(tuned_here)} were tuned on the very rows of the comparison, which "
            "flatters: fit with --tune-on inner, or pass --anyway"
        )
    return [f"{name}: its thresholds were tuned on these rows, which flatters it" for name in tuned_here]


def _difference(run: Evaluation, first: Evaluation, draws: Mapping[str, FloatArray]) -> Difference:
    """draws: of the differences."""
    metrics: dict[MetricName, MetricChange] = {
        name: _change(run.metrics[name], first.metrics[name], draws[name])
        for name in intervals.ALL
        if name in run.metrics and name in first.metrics
    }
    rows = zip(run.metrics["per_class"], first.metrics["per_class"], draws[CLASS_F1].T, strict=True)
    per_class: list[ClassChange] = [
        {"label": own["label"], **_change(own["f1"], other["f1"], of_class)} for own, other, of_class in rows
    ]
    changed = run.predictions != first.predictions
    better, worse = [], []
    counts = (changed & ~unknown_entries(run.rows.labels)).sum(axis=0)
    for change, count in zip(per_class, counts, strict=True):
        if count >= MIN_DIFFERING_ROWS and change["interval"] is not None:
            low, high = change["interval"]
            better += [change["label"]] if low > 0 else []
            worse += [change["label"]] if high < 0 else []
    differing = changed.any(axis=1)
    own, other = (_closeness(side.rows.labels, side.predictions)[differing] for side in (run, first))
    return {
        "run": run.run,
        "to": first.run,
        "metrics": metrics,
        "per_class": per_class,
        "better": better,
        "worse": worse,
        "rows_differing": int(differing.sum()),
        "closer": int((own > other).sum()),
        "further": int((own < other).sum()),
    }


def _change(own: float | None, other: float | None, draws: FloatArray) -> MetricChange:
    difference = None if own is None or other is None else own - other
    return {"difference": difference, "interval": intervals.interval(draws, difference)}


def _closeness(labels: PartialLabels, predictions: LabelMatrix) -> FloatArray:
    """F1 of each row, (n,); but 1 for a row without labels for which none is predicted, as that is right."""
    truth, chosen = without_unknown(labels, predictions)
    return np.where((truth == chosen).all(axis=1), 1.0, row_f1(labels, predictions))
