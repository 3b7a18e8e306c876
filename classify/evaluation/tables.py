"""Metrics and comparisons of runs as text for a terminal."""

from collections.abc import Sequence

from encode_once.cache.terminal import short_list
from encode_once.cache.text_table import cell_text, interval_text, table_text
from encode_once.classify.decisions.ranking import ALWAYS, NEVER
from encode_once.classify.evaluation.compare import Comparison, MetricChange
from encode_once.classify.evaluation.metrics import (
    OF_SEVERAL_CLASSES,
    SUMMARY,
    MetricName,
    Metrics,
    applies,
    summary,
)

ERRORS: tuple[MetricName, ...] = (
    "subset_accuracy", "hamming_loss", "coverage_error", "ranking_loss", "calibration_error",
)  # fmt: skip
COMPARED = SUMMARY[:5]
MAX_MATRIX = 12  # classes of which the whole confusion matrix is printed
MAX_CONFUSIONS = 10  # the most frequent confusions that are printed of others


def shown(metrics: Metrics) -> tuple[list[MetricName], list[MetricName]]:
    """The names of the averages and of the errors that apply to the labels."""
    return summary(metrics), [name for name in ERRORS if applies(metrics, name)]


def compared(runs: Sequence[Metrics]) -> list[MetricName]:
    """The names of the metrics that are shown with intervals: those that apply to the labels of all runs."""
    names: tuple[MetricName, ...] = ("accuracy", "balanced_accuracy", *COMPARED)
    return [name for name in names if all(applies(metrics, name) for metrics in runs)]


def with_interval(value: float | None, ends: Sequence[float] | None, sign: str = "") -> str:
    """A figure and its interval; sign: "+" for a difference."""
    return "–" if value is None or ends is None else f"{value:{sign}.3f} ({interval_text(ends, sign)})"


def metrics_text(metrics: Metrics) -> str:
    """A run's metrics: a line per class, then the averages, and their intervals if there are any."""
    classes = [
        {**row, "threshold": threshold_cell(row["threshold"]), "interval": _interval_cell(row["interval"])}
        for row in metrics["per_class"]
    ]
    if all(row["threshold"] is None for row in classes):  # labels did not come from one threshold per class
        left_out = ("threshold", "interval")
        classes = [{name: row[name] for name in row if name not in left_out} for row in classes]
    lines = [table_text(classes), "", about(metrics)]
    lines += ["  ".join(f"{name} {cell_text(metrics[name])}" for name in names) for names in shown(metrics)]
    lines += confusion_lines(metrics)
    if "levels" in metrics:
        lines += ["", *table_text(metrics["levels"]).split("\n")]
    lines += [metrics["guarantee"]] if metrics.get("guarantee") else _never_predicted(metrics)
    lines += [*without_positives(metrics), *of_one_class(metrics)]
    if unknown := metrics.get("unknown"):
        entries = metrics["n"] * len(classes)
        lines.append(f"{unknown:,} of {entries:,} label entries are unknown, and not measured")
    if "intervals" in metrics:
        intervals = (f"{name} {interval_text(metrics['intervals'][name])}" for name in compared([metrics]))
        lines.append("95 % intervals: " + "  ".join(intervals))
    return "\n".join(lines)


def without_positives(metrics: Metrics) -> list[str]:
    """A line about the classes that macro F1 and mAP leave out."""
    names = [row["label"] for row in metrics["per_class"] if not row["support"]]
    if not names:
        return []
    return [
        f"macro F1 and mAP leave out {len(names)} of {len(metrics['per_class'])} classes, without a positive "
        f"row to measure on: {short_list(names)}"
    ]


def of_one_class(metrics: Metrics) -> list[str]:
    """A line about the metrics that do not apply to a single class."""
    if len(metrics["per_class"]) > 1:
        return []
    names = ", ".join(title(name) for name in OF_SEVERAL_CLASSES)
    return [
        f"{names} compare the classes of a row: with one class they are left out; its F1 is micro, macro and "
        "weighted F1"
    ]


def title(name: str) -> str:
    """A metric's name in words."""
    return name.replace("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC")


def confusion_lines(metrics: Metrics) -> list[str]:
    """The confusion matrix, or the most frequent confusions of many classes; nothing if there is none."""
    cells = metrics.get("confusion")
    if cells is None:
        return []
    names = [row["label"] for row in metrics["per_class"]]
    names = names if len(names) > 1 else [f"not {names[0]}", names[0]]
    if len(names) <= MAX_MATRIX:
        counts = {(cell["true"], cell["predicted"]): cell["rows"] for cell in cells}
        rows = [
            {"true \\ predicted": true, **{name: counts.get((true, name), 0) for name in names}}
            for true in names
        ]
        return ["", *table_text(rows).split("\n")]
    wrong = [cell for cell in cells if cell["true"] != cell["predicted"]]
    if not wrong:
        return []
    shown = table_text([dict(cell) for cell in wrong[:MAX_CONFUSIONS]])
    return ["", f"the most frequent of {len(wrong)} kinds of confusion:", *shown.split("\n")]


def threshold_cell(value: float | None) -> float | str | None:
    """A threshold; in words if every score reaches it, or none does."""
    if value is None:
        return None
    return "never" if value >= NEVER else "always" if value <= ALWAYS else value


def _interval_cell(ends: list[float] | None) -> str | None:
    if ends is None:
        return None
    low, high = (cell_text(threshold_cell(end)) for end in ends)
    return f"{low} … {high}"


def _never_predicted(metrics: Metrics) -> list[str]:
    """A line about the classes for which no threshold has the precision or recall that was asked for."""
    names = [row["label"] for row in metrics["per_class"] if threshold_cell(row["threshold"]) == "never"]
    objective = metrics["objective"]
    if not names or not objective.removeprefix("global-").startswith(("precision:", "recall:")):
        return []
    return [f"{objective} is out of reach for {short_list(names)}: never predicted"]


def comparison_text(comparison: Comparison) -> str:
    """The runs of a comparison, how they differ from the first, and in which classes."""
    runs, differences = comparison["runs"], comparison["differences"]
    names = compared(runs)
    figures = [
        {"run": run["run"] + (" (tuned on these rows)" if run["tuned_on_these_rows"] else "")}
        | {name: with_interval(run[name], run["intervals"][name]) for name in names}
        for run in runs
    ]
    changes = [
        {f"minus {difference['to']}": difference["run"]}
        | {name: _change_text(difference["metrics"][name]) for name in names}
        for difference in differences
    ]
    counts = [
        {
            "": difference["run"],
            "classes better": len(difference["better"]),
            "worse": len(difference["worse"]),
            "rows that differ": difference["rows_differing"],
            "closer": difference["closer"],
            "further": difference["further"],
        }
        for difference in differences
    ]
    named = []
    for difference in differences:
        for word, labels in (("better", difference["better"]), ("worse", difference["worse"])):
            named += [f"{difference['run']} is {word} in {', '.join(labels)}"] if labels else []
    c = len(runs[0]["per_class"])
    lines = [f"caveat: {caveat}" for caveat in comparison["caveats"]]
    lines += [f"{comparison['n']} rows; brackets: 95 % intervals (paired for differences)"]
    lines += [table_text(figures), "", table_text(changes), "", table_text(counts), "", *named]
    lines += without_positives(runs[0])
    return "\n".join([*lines, f"expect about {c / 20:.1f} of {c} classes to differ by chance"])


def _change_text(change: MetricChange) -> str:
    return with_interval(change["difference"], change["interval"], "+")


def about(metrics: Metrics) -> str:
    """The rows that metrics are of, and what their thresholds were tuned for and on."""
    rows, split, decided, tuned_on = (metrics["n"], metrics["split"], metrics["decided"], metrics["tuned_on"])
    return f"{rows} rows ({split}); {decided}; tuned on {tuned_on}"
