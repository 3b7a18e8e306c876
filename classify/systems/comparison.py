"""The table of systems: mean and deviation of each metric, and which systems are not worse than the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TypedDict

import numpy as np

from encode_once.cache import DataError
from encode_once.classify.arrays import FloatArray
from encode_once.classify.data.labels import class_names
from encode_once.classify.data.rows import content_order
from encode_once.classify.evaluation.compare import (
    check_classes,
    check_tuning,
    on_shared_rows,
    with_shared_groups,
)
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.evaluation.intervals import ALL, METRICS, interval, metric_named
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.evaluation.significance import (
    ALPHA,
    TestedDifference,
    holm,
    of_rows,
    of_sets,
    rank_test,
)
from encode_once.classify.runs.asked import check_labels
from encode_once.classify.runs.run import Run
from encode_once.classify.systems.grouping import (
    EvalSet,
    SystemRuns,
    are_named_by_features,
    by_data,
    group,
    labels,
)

EVAL_SETS, DATA_SETS = "eval sets of one data set", "data sets"  # blocks of ranks
LOWER_IS_BETTER = {"hamming_loss", "coverage_error", "ranking_loss"}


class MeasuredValue(TypedDict):
    """A metric of one run, on its eval rows or on one fold of them."""

    run: str
    fold: int | None
    value: float


class SystemFigure(TypedDict):
    """A metric of a system, and how it differs from the best system."""

    mean: float
    sd: float | None  # None for a single value
    interval: list[float] | None  # 95 %, of the choice of eval rows; None if there are several sets of them
    values: list[MeasuredValue]
    best: bool
    difference: float | None  # from the best system; None for the best one, and where nothing can be tested
    difference_interval: list[float] | None
    p: float | None
    p_holm: float | None  # corrected for the number of systems
    as_good: bool  # the best, or not significantly different from it


class ClassFigure(TypedDict):
    """The mean F1 of a class over the runs of a system."""

    label: str
    f1: float
    sd: float | None
    support: int


class SystemRow(TypedDict):
    """A system: its runs, and each metric."""

    system: str
    runs: list[str]
    metrics: dict[MetricName, SystemFigure | None]
    per_class: list[ClassFigure]
    seconds: float  # mean time to fit


class Ranks(TypedDict):
    """Systems by their mean ranks in data sets or eval sets."""

    metric: MetricName
    blocks: int
    of: str  # what the blocks are
    mean_ranks: dict[str, float]
    friedman_p: float | None
    critical_difference: float
    cliques: list[list[str]]
    wilcoxon_holm: list[tuple[str, str, float]]


class DataTable(TypedDict):
    """The systems of one data set, the best first."""

    data: str
    rows: int  # eval rows of a set
    sets: int
    test: str  # in words
    caveats: list[str]
    systems: list[SystemRow]


class SystemTables(TypedDict):
    """A table for each data set, and the ranks, if there are several data sets or eval sets."""

    metrics: list[MetricName]
    tables: list[DataTable]
    ranks: Ranks | None
    notes: list[str]


def metrics_named(names: Sequence[str]) -> list[MetricName]:
    """Metrics by name; by default those of tables of several runs, macro F1 first.

    Raises:
        UsageError: a name is no metric with intervals.
    """
    usual = sorted(METRICS, key=lambda metric: metric != "macro_f1")
    return [metric_named(name, ALL) for name in dict.fromkeys(names)] or usual


@dataclass(frozen=True)
class Entry:
    """A system with the eval sets on which it is compared."""

    label: str
    system: SystemRuns
    sets: Sequence[EvalSet]

    def values(self, metric: MetricName) -> dict[str, float] | None:
        """The mean of a metric over runs, by eval set; None if a set has none."""
        values: dict[str, list[float]] = {}
        for eval_set in self.sets:
            value = eval_set.evaluation.metrics.get(metric)
            if value is None:
                return None
            values.setdefault(eval_set.key, []).append(value)
        return {key: fmean(of_set) for key, of_set in values.items()}


def compare_systems(runs: Sequence[Run], metrics: Sequence[MetricName], anyway: bool = False) -> SystemTables:
    """Compare the systems of runs, data set by data set.

    Args:
        metrics: the first ranks.
        anyway: compare runs with different eval rows on what they share, and runs tuned on these rows.

    Raises:
        DataError: no runs; classes or labels differ; without `anyway` rows differ or thresholds were tuned on
            them.
    """
    systems, notes = group(runs)
    tables, entries = list[DataTable](), list[Entry]()
    data_sets = by_data(systems)
    features = are_named_by_features(data_sets.values())
    for data, of_data in data_sets.items():
        table, entries = _table(data, of_data, labels(of_data, features=features), metrics, anyway)
        tables.append(table)
    return {
        "metrics": [*metrics],
        "tables": tables,
        "ranks": _ranks_of_data(tables, metrics[0])
        if len(tables) > 1
        else _ranks_of_sets(entries, metrics[0]),
        "notes": notes,
    }


def _table(
    data: str,
    systems: Sequence[SystemRuns],
    names: Sequence[str],
    metrics: Sequence[MetricName],
    anyway: bool,
) -> tuple[DataTable, list[Entry]]:
    evaluations = [evaluation for system in systems for evaluation in system.evaluations]
    check_labels([run for system in systems for run in system.runs])
    check_classes(evaluations)
    entries, caveats = _comparable(systems, names, anyway)
    caveats += check_tuning(evaluations, anyway)
    keys = {eval_set.key for eval_set in entries[0].sets}
    tested = _SetTests(entries) if len(keys) > 1 else _RowTests(entries)
    figures = {metric: _figures(entries, metric, tested) for metric in metrics}
    rows: list[SystemRow] = [
        {
            "system": entry.label,
            "runs": [str(run.path) for run in entry.system.runs],
            "metrics": {metric: figures[metric][k] for metric in metrics},
            "per_class": _per_class(entry),
            "seconds": fmean(run.record.seconds for run in entry.system.runs),
        }
        for k, entry in enumerate(entries)
    ]
    sign = -1 if metrics[0] in LOWER_IS_BETTER else 1
    order = sorted(range(len(rows)), key=lambda k: -sign * _mean(rows[k], metrics[0]))
    return {
        "data": data,
        "rows": len(entries[0].sets[0].evaluation.rows.ids),
        "sets": len(keys),
        "test": tested.words,
        "caveats": caveats,
        "systems": [rows[k] for k in order],
    }, [entries[k] for k in order]


def _mean(row: SystemRow, metric: MetricName) -> float:
    figure = row["metrics"][metric]
    return figure["mean"] if figure else float("-inf")


def _comparable(
    systems: Sequence[SystemRuns], names: Sequence[str], anyway: bool
) -> tuple[list[Entry], list[str]]:
    """The systems on eval sets that all have: those of each, those that all share, or the rows they share."""
    sets = [system.eval_sets for system in systems]
    keys = [{eval_set.key for eval_set in of_system} for of_system in sets]
    shared = set.intersection(*keys)
    caveats = []
    if any(own != shared for own in keys):
        if not anyway:
            other = next(k for k, own in enumerate(keys) if own != keys[0])
            raise DataError(
                f"{names[other]} and {names[0]} were measured on different rows: fit them with the same "
                "--split and seeds, or pass --anyway"
            )
        if not shared:
            return _on_rows(systems, names)
        caveats = [f"compared on the {len(shared)} sets of eval rows that all systems have"]
        sets = [[eval_set for eval_set in own if eval_set.key in shared] for own in sets]
    entries = [Entry(*entry) for entry in zip(names, systems, sets, strict=True)]
    return entries, caveats


def _on_rows(systems: Sequence[SystemRuns], names: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """All runs on the rows that all of them have."""
    evaluations = [evaluation for system in systems for evaluation in system.evaluations]
    subsets, caveats = on_shared_rows(evaluations, anyway=True)
    remaining = iter(subsets)
    entries = []
    for name, system in zip(names, systems, strict=True):
        sets = [EvalSet(str(run.path), None, "shared", next(remaining), 0.0) for run in system.runs]
        entries.append(Entry(name, system, sets))
    return entries, caveats


class _RowTests:
    """Tests of systems on one set of eval rows: by paired draws of the rows, and by seeds."""

    words = "paired bootstrap of the eval rows, and the variance between seeds; Holm's correction"

    def __init__(self, entries: Sequence[Entry]) -> None:
        evaluations = [eval_set.evaluation for entry in entries for eval_set in entry.sets]
        aligned, _ = on_shared_rows(evaluations, anyway=False)
        draws = iter(_draws(with_shared_groups(aligned)))
        self._entries = entries
        self._draws = [_averaged([next(draws) for _ in entry.sets]) for entry in entries]

    def interval(self, k: int, metric: MetricName, mean: float) -> list[float] | None:
        """Of the mean of a metric of the k-th entry, by the choice of rows."""
        return interval(self._draws[k][metric], mean)

    def test(self, k: int, best: int, metric: MetricName) -> TestedDifference:
        """The k-th entry minus the best one."""
        sides = [self._entries[k].sets, self._entries[best].sets]
        values = [[s.evaluation.metrics[metric] or 0.0 for s in sets] for sets in sides]
        seeds = [(float(np.var(own, ddof=1)) if len(own) > 1 else 0.0, len(own)) for own in values]
        draws = self._draws[k][metric] - self._draws[best][metric]
        return of_rows(fmean(values[0]) - fmean(values[1]), draws, seeds)


def _draws(evaluations: Sequence[Evaluation]) -> list[dict[str, FloatArray]]:
    """Of each evaluation, over the same draws of the same rows."""
    order = content_order(evaluations[0].rows.keys, evaluations[0].rows.ids)
    return [evaluation.draws(order) for evaluation in evaluations]


def _averaged(draws: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    return {name: np.mean([of_run[name] for of_run in draws], axis=0) for name in draws[0]}


class _SetTests:
    """Tests of systems on several eval sets: folds or redrawn splits."""

    words = "corrected resampled t-test (Nadeau and Bengio) over the eval sets; Holm's correction"

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._ratio = fmean(eval_set.ratio for entry in entries for eval_set in entry.sets)

    def interval(self, k: int, metric: MetricName, mean: float) -> None:
        """None: the sets share rows."""

    def test(self, k: int, best: int, metric: MetricName) -> TestedDifference:
        """The k-th entry minus the best one."""
        own, other = (self._entries[side].values(metric) for side in (k, best))
        assert own is not None
        assert other is not None
        return of_sets(np.array([own[key] - other[key] for key in own]), self._ratio)


def _figures(
    entries: Sequence[Entry], metric: MetricName, tested: "_RowTests | _SetTests"
) -> list[SystemFigure | None]:
    """A metric of each system; None for all if an eval set has none."""
    by_set = [entry.values(metric) for entry in entries]
    if any(values is None for values in by_set):
        return [None] * len(entries)
    means = [fmean(values.values()) for values in by_set if values]
    best = int(np.argmin(means) if metric in LOWER_IS_BETTER else np.argmax(means))
    tests = {k: tested.test(k, best, metric) for k in range(len(entries)) if k != best}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    figures: list[SystemFigure | None] = []
    for k, entry in enumerate(entries):
        values: list[MeasuredValue] = [
            {"run": s.run, "fold": s.fold, "value": s.evaluation.metrics[metric] or 0.0} for s in entry.sets
        ]
        test = tests.get(k)
        figures.append(
            {
                "mean": means[k],
                "sd": stdev(value["value"] for value in values) if len(values) > 1 else None,
                "interval": tested.interval(k, metric, means[k]),
                "values": values,
                "best": k == best,
                "difference": test.difference if test else None,
                "difference_interval": test.interval if test else None,
                "p": test.p if test else None,
                "p_holm": corrected.get(k),
                "as_good": k == best or corrected[k] >= ALPHA,
            }
        )
    return figures


def _per_class(entry: Entry) -> list[ClassFigure]:
    """F1 of each class, the mean over the eval sets that have it."""
    figures: list[ClassFigure] = []
    for label in class_names([entry.sets[0].evaluation.classes]):
        rows = [row for s in entry.sets for row in s.evaluation.metrics["per_class"] if row["label"] == label]
        measured = [row for row in rows if row["support"]] or rows
        values = [row["f1"] for row in measured]
        figures.append(
            {
                "label": label,
                "f1": fmean(values),
                "sd": stdev(values) if len(values) > 1 else None,
                "support": round(fmean(row["support"] for row in rows)),
            }
        )
    return figures


def _ranks_of_sets(entries: Sequence[Entry], metric: MetricName) -> Ranks | None:
    """Ranks of systems in the eval sets of one data set."""
    by_set = [entry.values(metric) for entry in entries]
    if len(entries) < 2 or not by_set[0] or len(by_set[0]) < 2 or any(values is None for values in by_set):
        return None
    table = np.array([[values[key] for values in by_set if values] for key in by_set[0]])
    return _ranks(table, [entry.label for entry in entries], metric, EVAL_SETS)


def _ranks_of_data(tables: Sequence[DataTable], metric: MetricName) -> Ranks | None:
    """Ranks of the systems that all data sets have."""
    means = [{row["system"]: _mean(row, metric) for row in table["systems"]} for table in tables]
    names = [name for name in means[0] if all(name in of_data for of_data in means)]
    if len(names) < 2:
        return None
    return _ranks(
        np.array([[of_data[name] for name in names] for of_data in means]), names, metric, "data sets"
    )


def _ranks(table: FloatArray, names: Sequence[str], metric: MetricName, what: str) -> Ranks:
    tested = rank_test(-table if metric in LOWER_IS_BETTER else table)
    mean_ranks = dict(zip(names, tested.mean_ranks, strict=True))
    return {
        "metric": metric,
        "blocks": len(table),
        "of": what,
        "mean_ranks": dict(sorted(mean_ranks.items(), key=lambda item: item[1])),
        "friedman_p": tested.friedman,
        "critical_difference": tested.critical,
        "cliques": [[names[k] for k in clique] for clique in tested.cliques],
        "wilcoxon_holm": [(names[i], names[j], p) for i, j, p in tested.pairs],
    }


def data_name(table: DataTable) -> str:
    """The last two parts of a table's path; the rest is the machine's."""
    return "/".join(Path(table["data"]).parts[-2:])
