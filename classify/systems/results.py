"""A CSV file of results: a row for each system, and for each recipe, with all that its figures depend on.

A newer comparison replaces the rows of the same table, data and split, and of recipes only those of the same
ones; all other rows stay.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, UsageError
from encode_once.cache.csv_file import write_csv
from encode_once.cache.names import FeatureName
from encode_once.cache.views import split_view
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.experiments.recipes.tables import run_cells
from encode_once.classify.experiments.trial import option
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.run import Run
from encode_once.classify.systems.comparison import SystemFigure, SystemTables, compare_systems, data_name
from encode_once.classify.systems.grouping import group

REPLACED_BY = ("table", "data", "split", "recipe")  # rows that are equal in all of these
OWN_VIEW = "own"  # of an encoder without a view, next to others that have one
PARTS = ("", "_sd", "_low", "_high", "_p")  # of a metric: p is Holm's, and empty for the best system
COLUMNS = (
    *("table", "data", "encoder", "view", "head", "settings", "split", "seed", "rule"),
    *(f"{metric}{part}" for metric in METRICS for part in PARTS),
    *("seconds", "command", "commit", "machine", "date", "recipe", "reported", "note"),
)
DIGITS = ".6g"

Row = dict[str, str]


def system_rows(name: str, tables: SystemTables, runs: Iterable[Run]) -> Iterator[Row]:
    """The rows of a comparison.

    Args:
        name: of the table in which the systems stand.
        runs: those that were compared.
    """
    by_path = {str(run.path): run for run in runs}
    for table in tables["tables"]:
        for system in table["systems"]:
            row = {"table": name, "data": data_name(table)}
            row |= _about([by_path[path] for path in system["runs"]])
            for metric, figure in system["metrics"].items():
                if metric in METRICS and figure is not None:
                    numbers = zip(PARTS, _numbers(figure), strict=True)
                    row |= {f"{metric}{part}": _number(value) for part, value in numbers}
            yield row | {"seconds": f"{system['seconds']:.1f}"}


def recipe_rows(name: str, recipes: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of recipes that were run, from those that `RecipeRunner.run` returns."""
    for recipe in recipes:
        if recipe["run"]:
            run = load_run(recipe["run"])
            (row,) = system_rows(name, compare_systems([run], METRICS, anyway=True), [run])
            notes = ["contaminated", *recipe["differs"]] if recipe["contaminated"] else recipe["differs"]
            reported = run_cells(recipe)["reported"]
            yield row | {"recipe": recipe["recipe"], "reported": reported, "note": "; ".join(notes)}


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write rows into a file, in place of those that are equal in all columns of `REPLACED_BY`.

    Raises:
        DataError: the file is of another kind.
    """
    new = [*map(_key, rows)]
    kept = [row for row in read(path) if _key(row) not in new] if path.exists() else []
    write_csv(path, COLUMNS, ([row.get(column, "") for column in COLUMNS] for row in [*kept, *rows]))


def check(path: Path | None, table: str | None) -> None:
    """Raise if rows cannot be saved, before hours are spent on what they say.

    Raises:
        UsageError: the name of a table without a file.
        DataError: the file is of another kind.
    """
    if path is None and table:
        raise UsageError(f"--results-table {table} has no effect without --results FILE: name the file")
    if path is not None and path.exists():
        read(path)


def read(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        DataError: it is of another kind.
    """
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:  # as `write_csv`
        reader = csv.DictReader(file)
        with suppress(csv.Error):
            if tuple(reader.fieldnames or ()) == COLUMNS:
                return [*reader]
    raise DataError(f"{path} is not a file of --results: name a new one")


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row.get(column) or "" for column in REPLACED_BY)


def _about(runs: Sequence[Run]) -> Row:
    """What the runs of one system have in common, and where they come from."""
    (system,), _ = group(runs)
    spec, rule, origin = system.spec, system.spec.decision, runs[0].record.origin
    names = [FeatureName.parse(name) for name in runs[0].record.features]
    parsed = [split_view(name.encoder) for name in names]
    views = [str(view) or OWN_VIEW for _, view in parsed]
    encoders = [
        str(FeatureName(encoder, name.output, name.captions))
        for name, (encoder, _) in zip(names, parsed, strict=True)
    ]
    return {
        "encoder": " + ".join(encoders),
        "view": " + ".join(views) if {*views} != {OWN_VIEW} else "",
        "head": spec.head,
        "settings": " ".join(option(name, value) for name, value in spec.options.items()),
        "split": spec.split,
        "seed": ", ".join(str(run.spec.options.get("seed", run.spec.seed)) for run in runs),
        "rule": rule.objective if rule.decide == "thresholds" else rule.decide,
        "command": origin.command,
        "commit": origin.commit[:7],
        "machine": origin.shown_machine.rpartition("; ")[0],
        "date": runs[0].record.created[:10],
    }


def _numbers(figure: SystemFigure) -> list[float | None]:
    return [figure["mean"], figure["sd"], *(figure["interval"] or (None, None)), figure["p_holm"]]


def _number(value: float | None) -> str:
    return "" if value is None else format(value, DIGITS)
