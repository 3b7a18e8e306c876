"""The comparison of systems from Python: a table that notebooks show, a DataFrame and a picture."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encode_once.cache.errors import unknown_name
from encode_once.cache.representation import html_heading, html_notes, html_table
from encode_once.cache.terminal import printable
from encode_once.classify.runs.run import Run
from encode_once.classify.systems.comparison import (
    SystemFigure,
    SystemTables,
    compare_systems,
    data_name,
    metrics_named,
)
from encode_once.classify.systems.formats import TEXT_LEGEND, about, ranks_text, rows_of, text, text_cell
from encode_once.classify.systems.grouping import find_runs
from encode_once.classify.systems.picture import Picture, picture

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("mean", "sd", "low", "high", "difference", "p_holm", "best", "as_good")


@dataclass(frozen=True, repr=False)
class SystemComparison:
    """Many systems in one table; printed, it is the table of the command `compare`.

    Attributes:
        tables: all figures, as `compare --json` prints them.
        notes: what is left out.
    """

    tables: SystemTables
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        return printable("\n".join([text(self.tables), *self.notes]))

    def _repr_html_(self) -> str:
        parts = []
        for table in self.tables["tables"]:
            cells = rows_of(table, self.tables["metrics"])
            rows = [
                {"": str(n), "system": row["system"]}
                | dict(zip(self.tables["metrics"], map(text_cell, of_row), strict=True))
                for n, (row, of_row) in enumerate(zip(table["systems"], cells, strict=True), 1)
            ]
            lines = [*about(table), TEXT_LEGEND]
            parts += [html_heading(lines[0]), html_table(rows), html_notes(lines[1:])]
        ranks = ranks_text(self.tables["ranks"]) if self.tables["ranks"] else []
        return "".join([*parts, html_notes([*ranks, *self.notes])])

    def frame(self, *, per_class: bool = False) -> "pd.DataFrame":
        """A DataFrame by data set and system: `frame[METRIC]` has the mean, and what is known of it.

        `low` and `high` are the ends of the 95 % interval of a single run, `sd` is the deviation over seeds
        or folds, `difference` that from the best, `p_holm` its corrected p-value.

        per_class: instead, the mean F1 of each class, with a column for each.
        """
        import pandas as pd  # takes half a second

        rows = [(data_name(table), row) for table in self.tables["tables"] for row in table["systems"]]
        index = pd.MultiIndex.from_tuples(
            [(data, row["system"]) for data, row in rows], names=["data", "system"]
        )
        if per_class:
            return pd.DataFrame(
                [{of_class["label"]: of_class["f1"] for of_class in row["per_class"]} for _, row in rows],
                index,
            )
        frames = {
            metric: pd.DataFrame([_statistics(row["metrics"][metric]) for _, row in rows], index, STATISTICS)
            for metric in self.tables["metrics"]
        }
        return pd.concat(frames, axis=1)

    def plot(self, metric: str | None = None) -> Picture:
        """A picture of one metric with a line for each system; by default of the first, which ranks.

        Raises:
            UsageError: the table has no such metric.
        """
        metrics = self.tables["metrics"]
        if metric is None:
            return picture(self.tables, metrics[0])
        names = {str(name): name for name in metrics}
        if metric not in names:
            raise unknown_name("metric of the table", metric, names)
        return picture(self.tables, names[metric])


def _statistics(shown: SystemFigure | None) -> dict[str, Any]:
    if shown is None:
        return {}
    low, high = shown["interval"] or (nan, nan)
    return {**shown, "low": low, "high": high, "sd": nan if shown["sd"] is None else shown["sd"]}


def compare(
    runs: Iterable[Run | str | os.PathLike[str]],
    metrics: str | Sequence[str] = (),
    *,
    anyway: bool = False,
) -> SystemComparison:
    """Compare many systems in one table; runs that differ in their seeds, splits or folds are one system.

    Args:
        runs: runs, or the folders of runs, or folders that hold these.
        metrics: the columns, of which the first ranks; by default macro F1 and three others.
        anyway: compare runs with different eval rows on what they share, and runs tuned on these rows.

    Raises:
        UsageError: there is no such metric.
        DataError: no runs; classes or labels differ; without `anyway` rows differ or thresholds were tuned on
            them.

    Examples:
        >>> table = encode_once.compare(["runs/linear", "runs/mlp"])   # doctest: +SKIP
        >>> table.plot("mAP").save("mAP.svg")                          # doctest: +SKIP
    """
    columns = metrics_named([metrics] if isinstance(metrics, str) else metrics)
    loaded, notes = list[Run](), list[str]()
    for run in [runs] if isinstance(runs, Run | str | os.PathLike) else runs:
        if isinstance(run, Run):
            loaded.append(run)
        else:
            in_folder, left_out = find_runs([Path(run)])
            loaded, notes = [*loaded, *in_folder], [*notes, *left_out]
    by_folder = {run.path.resolve(): run for run in loaded}
    tables = compare_systems([*by_folder.values()], columns, anyway)
    return SystemComparison(tables, [*notes, *tables["notes"]])
