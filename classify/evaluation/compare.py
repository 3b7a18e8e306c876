"""Runs on the same rows: what each reaches, and how far the others are from the first of them.

Two runs are told apart by the difference of their metrics over the same draws of the same rows, which is much
surer than their intervals side by side: what is hard in a row is hard for both. So runs are only compared on
rows that all of them have held out, and whose labels none of them was tuned on.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, UsageError
from encode_once.cache.format.atomic import replacing
from encode_once.classify.arrays import FloatArray, LabelMatrix
from encode_once.classify.data.rows import match
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import CLASS_F1, interval
from encode_once.classify.evaluation.metrics import measure, row_f1
from encode_once.classify.runs.retune import decide_kept, metrics_of, tuned_on_eval
from encode_once.classify.runs.run import Run, ScoredRows

ENOUGH = 5  # rows in which two runs differ in a class, before an interval of that tells them apart


@dataclass(frozen=True)
class Evaluation:
    """What a run says of rows that it was not fitted on, and what that is worth."""

    run: Run
    rows: ScoredRows  # with scores as probabilities, calibrated where the run does that
    predictions: LabelMatrix  # (n, c)
    metrics: dict[str, Any]  # `metrics.json`, of these rows
    tuned_here: bool = False  # its thresholds were tuned on these rows

    @classmethod
    def kept(cls, run: Run) -> "Evaluation":
        """Of the rows that a run held out itself."""
        rows, predictions = decide_kept(run)
        return cls(run, rows, predictions, metrics_of(run, rows, predictions), tuned_on_eval(run))

    @property
    def name(self) -> str:
        """The run's folder."""
        return str(self.run.path)

    def draws(self) -> dict[str, FloatArray]:
        """Each metric on each draw of the rows, as `intervals.resampled` has it."""
        return intervals.resampled(self.rows.labels, self.predictions, self.rows.scores, self.rows.groups)

    def with_intervals(self, draws: Mapping[str, FloatArray] | None = None) -> dict[str, Any]:
        """The metrics with one more key, `intervals`: metric → the ends of its 95 % interval."""
        draws = draws or self.draws()
        return self.metrics | {
            "intervals": {name: interval(draws[name], self.metrics[name]) for name in intervals.ALL}
        }

    def taking(self, places: NDArray[np.intp], classes: Sequence[str]) -> "Evaluation":
        """The same of some of the rows, in that order, and of the same classes in the order given."""
        own = self.run.record.classes
        k = [own.index(name) for name in classes]
        if k == list(range(len(own))) and np.array_equal(places, np.arange(len(self.rows.ids))):
            return self
        pick = np.ix_(places, np.array(k))
        groups = self.rows.groups
        rows = ScoredRows(
            [self.rows.ids[n] for n in places],
            self.rows.scores[pick],
            self.rows.labels[pick],
            keys=self.rows.keys[places],
            groups=None if groups is None else groups[places],
        )
        predictions = self.predictions[pick]
        measured = measure(rows.labels, predictions, rows.scores, classes)
        measured["per_class"] = [
            {**self.metrics["per_class"][one], **row}
            for one, row in zip(k, measured["per_class"], strict=True)
        ]
        return replace(self, rows=rows, predictions=predictions, metrics=self.metrics | measured)


def against_first(
    judged: Sequence[Evaluation], anyway: bool = False
) -> tuple[dict[str, Any], list[Evaluation]]:
    """Runs compared with the first of them; and the runs, with no rows but those they were compared on.

    Args:
        anyway: also where they were measured on different rows, on those in common, or tuned on them.

    Returns:
        `n`: of rows. `caveats`: what makes the comparison less than fair; empty where nothing does.
        `runs`: for each its folder, all metrics and `intervals`, and `tuned_on_these_rows`.
        `differences`: for each but the first, less the first, `metrics` and `per_class` F1, each with
        `difference` and the paired `interval`; the labels of the classes where it is `better` or `worse`
        beyond that; `rows_differing`, whose predicted labels are not the same, and of these how many are
        `closer` to the truth and how many `further` from it.

    Raises:
        UsageError: fewer than two runs, or one twice.
        DataError: classes or labels differ; without `anyway` the rows, or thresholds were tuned on them.
    """
    _check(judged)
    judged, caveats = _on_the_same_rows(judged, anyway)
    caveats += _tuned_here(judged, anyway)
    judged = _grouped_alike(judged)
    first, *others = judged
    draws = [one.draws() for one in judged]
    return {
        "n": len(first.rows.ids),
        "caveats": caveats,
        "runs": [
            {"run": one.name, "tuned_on_these_rows": one.tuned_here, **one.with_intervals(drawn)}
            for one, drawn in zip(judged, draws, strict=True)
        ],
        "differences": [
            _difference(one, first, intervals.differences(drawn, draws[0]))
            for one, drawn in zip(others, draws[1:], strict=True)
        ],
    }, judged


def write_differences(path: Path, judged: Sequence[Evaluation]) -> int:
    """Write the rows whose predicted labels are not the same in all runs; return how many there are.

    Columns: the id, `Labels` (the truth), what each run predicts, under the name of its folder, and
    `Closest`: the runs whose labels are nearest the truth by the row's F1, empty where all are as near.
    """
    first = judged[0]
    record, labels = first.run.record, first.rows.labels
    classes = np.array(record.classes)
    closeness = np.stack([_closeness(labels, one.predictions) for one in judged])  # (runs, n)
    differing = np.flatnonzero(
        np.any([(one.predictions != first.predictions).any(axis=1) for one in judged], axis=0)
    )
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([record.id_column, "Labels", *(one.name for one in judged), "Closest"])
        for row in differing:
            sets = [labels[row], *(one.predictions[row] for one in judged)]
            best = closeness[:, row] == closeness[:, row].max()
            closest = [one.name for one, near in zip(judged, best, strict=True) if near and not best.all()]
            told = (record.label_separator.join(classes[one]) for one in sets)
            writer.writerow([first.rows.ids[row], *told, "; ".join(closest)])
    return len(differing)


def _check(judged: Sequence[Evaluation]) -> None:
    """Refuse what cannot be compared at all."""
    first, names = judged[0], [one.name for one in judged]
    if len(set(names)) < max(len(names), 2):
        raise UsageError("name two runs or more to compare, each once")
    for one in judged:
        if differing := set(first.run.record.classes) ^ set(one.run.record.classes):
            raise DataError(
                f"{one.name} and {first.name} do not know the same classes: only one of them has "
                f"{', '.join(sorted(differing))}. Fit both on the same labels"
            )


def _on_the_same_rows(judged: Sequence[Evaluation], anyway: bool) -> tuple[list[Evaluation], list[str]]:
    """The runs with rows and classes in the order of the first; a caveat where rows had to be left out."""
    first, caveats = judged[0], []
    keys, ids = first.rows.keys, first.rows.ids
    positions = np.stack([match(keys, ids, run.rows.keys, run.rows.ids) for run in judged])
    shared = positions[:, (positions >= 0).all(axis=0)]  # (runs, rows in common)
    n = shared.shape[1]
    if any(len(one.rows.ids) > n for one in judged):
        told = ", ".join(f"{len(one.rows.ids)} of {one.name}" for one in judged)
        if not n or not anyway:
            hint = "fit them with the same --split" + (", or say --anyway" if n else "")
            raise DataError(f"only {n} evaluated rows are in all runs ({told}): {hint}")
        caveats.append(f"compared on the {n} rows that are in all runs ({told})")
    classes = first.run.record.classes
    same = [one.taking(rows, classes) for one, rows in zip(judged, shared, strict=True)]
    for one in same[1:]:
        if wrong := int((one.rows.labels != same[0].rows.labels).any(axis=1).sum()):
            raise DataError(
                f"{one.name} and {first.name} have different labels for {wrong} rows of the same content: "
                "the table has changed between them, so fit the older one again"
            )
    return same, caveats


def _grouped_alike(judged: Sequence[Evaluation]) -> list[Evaluation]:
    """The runs with rows grouped together that any of them groups: paired draws need the same groups."""
    groupings = [one.rows.groups for one in judged if one.rows.groups is not None]
    if not groupings:
        return [*judged]
    groups = groupings[0]
    for other in groupings[1:]:
        if not np.array_equal(groups, other):
            from encode_once.classify.data.duplicates import joined  # of PyTorch, which is needed here only

            groups = joined(groups, other)
    return [replace(one, rows=replace(one.rows, groups=groups)) for one in judged]


def _tuned_here(judged: Sequence[Evaluation], anyway: bool) -> list[str]:
    """A caveat for each run whose thresholds were tuned on the rows it is evaluated on."""
    flattered = [one.name for one in judged if one.tuned_here]
    if flattered and not anyway:
        raise DataError(
            f"thresholds of {', '.join(flattered)} were tuned on the very rows of the comparison, which "
            "flatters: fit with --tune-on inner, or say --anyway"
        )
    return [f"{name}: its thresholds were tuned on these rows, which flatters it" for name in flattered]


def _difference(one: Evaluation, first: Evaluation, draws: Mapping[str, FloatArray]) -> dict[str, Any]:
    def told(ours: Any, theirs: Any, of_draws: FloatArray) -> dict[str, Any]:
        difference = None if ours is None or theirs is None else ours - theirs
        return {"difference": difference, "interval": interval(of_draws, difference)}

    per_class = [
        {"label": ours["label"], **told(ours["f1"], theirs["f1"], of_draws)}
        for ours, theirs, of_draws in zip(
            one.metrics["per_class"], first.metrics["per_class"], draws[CLASS_F1].T, strict=True
        )
    ]
    changed = one.predictions != first.predictions
    differing = changed.any(axis=1)
    told_apart = [*zip(per_class, changed.sum(axis=0) >= ENOUGH, strict=True)]
    near, nearest = (_closeness(run.rows.labels, run.predictions)[differing] for run in (one, first))
    return {
        "run": one.name,
        "to": first.name,
        "metrics": {
            name: told(one.metrics[name], first.metrics[name], draws[name]) for name in intervals.ALL
        },
        "per_class": per_class,
        "better": [row["label"] for row, sure in told_apart if sure and row["interval"][0] > 0],
        "worse": [row["label"] for row, sure in told_apart if sure and row["interval"][1] < 0],
        "rows_differing": int(differing.sum()),
        "closer": int((near > nearest).sum()),
        "further": int((near < nearest).sum()),
    }


def _closeness(labels: LabelMatrix, predictions: LabelMatrix) -> FloatArray:
    """F1 of each row, (n,); 1, not 0, where there is no label and none is predicted, as that is right."""
    return np.where((labels == predictions).all(axis=1), 1.0, row_f1(labels, predictions))
