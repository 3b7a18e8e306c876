"""Repeat a run from its folder: fit it again, and compare scores, metrics, and what has changed since."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from encode_once.cache import DataError, MissingDataError, Store, Table
from encode_once.cache.terminal import Log, short_list
from encode_once.cache.text_table import table_text
from encode_once.classify import heads
from encode_once.classify.data.rows import match, part_keys
from encode_once.classify.data.tables import choose_table, table_to_fit
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import summary
from encode_once.classify.runs import own_files
from encode_once.classify.runs.asked import asked, check_files
from encode_once.classify.runs.changes import ABSENT, changed_defaults, changes
from encode_once.classify.runs.checksums import read_metrics
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.predict import fitted_store
from encode_once.classify.runs.retune import evaluate_kept, measure_kept
from encode_once.classify.runs.run import Run, check_place
from encode_once.classify.spec import FitSpec


class RowDifferences(TypedDict):
    """How the eval or validation rows of two runs differ."""

    rows: int  # that both have
    only_then: int
    only_now: int
    largest: float  # difference of a score
    scores: int  # that differ
    labels: int  # rows whose true labels differ


class MetricPair(TypedDict):
    """A metric then and now."""

    then: float | None
    now: float | None
    difference: float | None


class Repetition(TypedDict):
    """A run, its repetition, and how they differ."""

    run: str
    rerun: str
    equal: bool  # all rows, scores, labels and thresholds, to the bit
    eval: RowDifferences
    validation: RowDifferences
    classes_only_then: list[str]
    classes_only_now: list[str]
    predictions: int  # eval rows with other predicted labels
    thresholds: float | None  # largest difference; None if the rules cannot be compared
    metrics: dict[str, MetricPair]
    changes: list[dict[str, str]]  # what, then, now
    seconds: dict[str, float]  # then and now


def rerun(
    run: Run,
    place: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    trust: bool = False,
    log: Log = lambda line: None,
) -> Repetition:
    """Fit a run again as it was fitted, and compare the two.

    An option whose default has changed since gets the default that the run records. A table that has changed
    is used as the store has it now.

    Args:
        place: the folder of the new run; by default `runs/NAME-rerun`, or the next free one.
        store: where the features are; by default the store of the run, which is only read.
        overwrite: replace a run that is in the folder.
        trust: open the prompts and the lists of ids that the run names.
        log: called with a line about each thing that is not as it was and that no record shows.

    Raises:
        EncodeOnceError: the store, the table or a feature is gone; or the run's own code is not trusted.
    """
    path = Path(place) if place is not None else _free_place(run.path)
    if path.resolve() == run.path.resolve():
        raise DataError(f"{path} is the run itself: choose another folder with --run")
    check_place(path, overwrite)
    check_files(run, trust=trust)
    opened = fitted_store(run) if store is None else Store(store, read_only=True)
    if not opened.exists:
        raise MissingDataError(
            f"{opened.path}, the store of {run.path}, is not there, so it cannot be fitted again: name it "
            "with --store"
        )
    with own_files.using(run.path, run.record.own_code):
        spec = _spec(run, log)
        repeated, metrics = fit(opened, spec, run=path, overwrite=overwrite, table=_table(run, opened, log))
        if run.decision.spec.objective == BY_HAND:
            repeated.decision = run.decision
            metrics, predictions = measure_kept(repeated)
            repeated.save_decision(metrics, predictions, model_card(repeated))
        for line in repeated.record.warnings:
            if line not in run.record.warnings:
                log(f"warning that {run.path} does not have: {line}")
        return _compared(run, repeated, metrics)


def _free_place(path: Path) -> Path:
    """`runs/NAME-rerun`, or the first free one of `runs/NAME-rerun-2`, …"""
    name, number = f"{path.resolve().name}-rerun", 1
    while (place := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return place


def _spec(run: Run, log: Log) -> FitSpec:
    """What the run was asked for, with its own defaults where these are others now."""
    spec = asked(run)
    if run.decision.spec.objective == BY_HAND:
        spec = replace(spec, decision=run.spec.decision)
    options = heads.options_of(spec.head)
    if gone := [name for name in spec.options if name not in options]:
        log(f"head {spec.head} has no option {short_list(gone)} any more: left out")
    kept = {
        name: _value(then)
        for name, (then, _) in changed_defaults(run).items()
        if then != ABSENT and name in options
    }
    set_options = {name: value for name, value in spec.options.items() if name in options}
    return replace(spec, options={**kept, **set_options})


def _value(recorded: Any) -> Any:
    """A default as `heads.unset_defaults` records it, with infinity as a number."""
    if isinstance(recorded, list):
        return [_value(entry) for entry in recorded]
    return float(recorded) if recorded in ("inf", "-inf") else recorded


def _table(run: Run, store: Store, log: Log) -> Table:
    """The table of a run: by its place, or else by its content, or else the only one to learn from.

    Raises:
        DataError: there is no such table, or several.
    """
    labels = run.spec.labels
    try:
        return table_to_fit(store, run.record.table, run.spec.split, labels, log=log)
    except DataError as error:
        for header in store.headers():
            with suppress(DataError):
                table = table_to_fit(store, header.source, run.spec.split, labels)
                if part_keys(table) == run.record.table_keys:
                    return table
        with suppress(DataError):
            table = choose_table(store, None, labels=labels)
            log(f"{run.record.table} is not in {store.location}: {table.source} is fitted on instead")
            return table_to_fit(store, table.source, run.spec.split, labels, log=log)
        raise DataError(f"{run.path} cannot be fitted again: {error}") from error


# ---------------------------------------------------------------------------------------------- compare


def _compared(then: Run, now: Run, metrics: Mapping[str, Any]) -> Repetition:
    classes = {name: number for number, name in enumerate(now.record.classes)}
    shared = [name for name in then.record.classes if name in classes]
    columns = [then.record.classes.index(name) for name in shared], [classes[name] for name in shared]
    of_eval, positions = _row_differences(then.eval, now.eval, *columns)
    of_validation, _ = _row_differences(then.validation, now.validation, *columns)
    labelled = [evaluate_kept(run).predictions for run in (then, now)]
    matched = positions >= 0
    differing = labelled[0][matched][:, columns[0]] != labelled[1][positions[matched]][:, columns[1]]
    predictions = int(differing.any(axis=1).sum())
    thresholds = None
    if then.record.classes == now.record.classes:
        before, after = (run.decision.thresholds for run in (then, now))
        same = (before == after) | (np.isnan(before) & np.isnan(after))  # argmax has none
        thresholds = float(np.abs(before - after)[~same].max(initial=0))
    reported = read_metrics(then.path)
    parts = (of_eval, of_validation)
    same_rows = not any(part["only_then"] or part["only_now"] or part["labels"] for part in parts)
    return {
        "run": str(then.path),
        "rerun": str(now.path),
        "equal": same_rows
        and not any(part["scores"] for part in parts)
        and not predictions
        and thresholds == 0,
        "eval": of_eval,
        "validation": of_validation,
        "classes_only_then": [name for name in then.record.classes if name not in classes],
        "classes_only_now": [name for name in now.record.classes if name not in shared],
        "predictions": predictions,
        "thresholds": thresholds,
        "metrics": {name: _pair(reported.get(name), metrics.get(name)) for name in summary(metrics)},
        "changes": [change._asdict() for change in changes(then, now)],
        "seconds": {"then": then.record.seconds, "now": now.record.seconds},
    }


def _row_differences(
    then: ScoredRows, now: ScoredRows, columns: list[int], columns_now: list[int]
) -> tuple[RowDifferences, np.ndarray[Any, Any]]:
    """The differences, and the position of each row among those of now, -1 if it is not among them."""
    positions = match(then.keys, then.ids, now.keys, now.ids)
    rows, rows_now = np.flatnonzero(positions >= 0), positions[positions >= 0]
    before, after = then.scores[rows][:, columns], now.scores[rows_now][:, columns_now]
    labels = then.labels[rows][:, columns] != now.labels[rows_now][:, columns_now]
    differences = np.abs(before.astype(np.float64) - after)
    return {
        "rows": len(rows),
        "only_then": len(then.ids) - len(rows),
        "only_now": len(now.ids) - len(rows),
        "largest": float(differences.max(initial=0)),
        "scores": int((before != after).sum()),
        "labels": int(labels.any(axis=1).sum()),
    }, positions


def _pair(then: Any, now: float | None) -> MetricPair:
    before = float(then) if isinstance(then, int | float) and not isinstance(then, bool) else None
    difference = None if before is None or now is None else now - before
    return {"then": before, "now": now, "difference": difference}


def text(result: Repetition) -> str:
    """The result for a terminal."""
    run, name = result["run"], result["rerun"]
    of_eval, validation = result["eval"], result["validation"]
    changed = [f"  {change['what']}: {change['then']} → {change['now']}" for change in result["changes"]]
    if result["equal"]:
        rows = f"{of_eval['rows']} eval and {validation['rows']} validation rows"
        lines = [f"{name} is equal to {run} to the bit: {rows}"]
        return "\n".join([*lines, *(["changed since, without an effect:", *changed] if changed else [])])
    lines = [f"{name} differs from {run}:"]
    for kind, both in (("eval", of_eval), ("validation", validation)):
        most = f"by at most {both['largest']:.1e}"
        lines.append(f"  {kind}: {both['scores']} scores of {both['rows']} rows differ, {most}")
        for count, what in (
            (both["only_then"], f"rows are only in {run}"),
            (both["only_now"], f"rows are only in {name}"),
            (both["labels"], "rows have other true labels"),
        ):
            lines += [f"  {kind}: {count} {what}"] if count else []
    for classes, where in ((result["classes_only_then"], run), (result["classes_only_now"], name)):
        lines += [f"  classes only in {where}: {short_list(classes)}"] if classes else []
    lines.append(f"  {result['predictions']} of {of_eval['rows']} eval rows get other labels")
    rows_of_metrics = [{"metric": metric, **pair} for metric, pair in result["metrics"].items()]
    since = ["changed since:", *changed] if changed else [NOTHING_CHANGED]
    return "\n".join([*lines, "", table_text(rows_of_metrics), "", *since])


NOTHING_CHANGED = (
    "nothing that is recorded has changed: vectors may have been encoded again, or the fit depends on time, "
    "threads or a GPU"
)
