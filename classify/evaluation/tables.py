"""Metrics and comparisons of runs as text for a terminal."""

from collections.abc import Sequence
from typing import Any

from encode_once.cache.text_table import cell_text, interval_text, table_text
from encode_once.classify.decisions.ranking import ALWAYS, NEVER
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.retune import retune
from encode_once.classify.runs.run import Run

SUMMARY = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall")
ERRORS = ("subset_accuracy", "hamming_loss", "coverage_error", "ranking_loss", "calibration_error")
COMPARED = SUMMARY[:5]
RULES = {
    "0.5": DecisionSpec("none"),
    "global": DecisionSpec("global-macro"),
    "per class": DecisionSpec("macro"),
    "expected F1": DecisionSpec(decide="expected-f1"),
}


def with_ends(value: float | None, ends: Sequence[float] | None, sign: str = "") -> str:
    """A figure with its interval; sign: "+" for one that is a difference."""
    return "–" if value is None or ends is None else f"{value:{sign}.3f} ({interval_text(ends, sign)})"


def metrics_text(metrics: dict[str, Any]) -> str:
    """A run's metrics: a line a class, then the averages, then their intervals where there are any."""
    lines = ["  ".join(f"{name} {cell_text(metrics[name])}" for name in names) for names in (SUMMARY, ERRORS)]
    lines += [metrics["guarantee"]] if metrics.get("guarantee") else []
    if "intervals" in metrics:
        told = (f"{name} {interval_text(metrics['intervals'][name])}" for name in COMPARED)
        lines.append("95 % intervals: " + "  ".join(told))
    rows = [row | {"threshold": _threshold(row["threshold"])} for row in metrics["per_class"]]
    return "\n".join([table_text(rows), "", about(metrics), *lines])


def _threshold(value: float | None) -> Any:
    """A threshold, or in words what one outside the scores comes to."""
    if value is None:
        return None
    return "never" if value >= NEVER else "always" if value <= ALWAYS else value


def comparison_text(found: dict[str, Any]) -> str:
    """What `comparing.against_first` found: the runs, how far they are from the first, in which classes."""
    runs, others = found["runs"], found["differences"]
    reached = [
        {"run": one["run"] + " (tuned on these rows)" * one["tuned_on_these_rows"]}
        | {name: with_ends(one[name], one["intervals"][name]) for name in COMPARED}
        for one in runs
    ]
    changes = [
        {f"less {one['to']}": one["run"]}
        | {name: with_ends(change["difference"], change["interval"], "+") for name, change in _compared(one)}
        for one in others
    ]
    rows = [
        {
            "": one["run"],
            "classes better": len(one["better"]),
            "worse": len(one["worse"]),
            "rows that differ": one["rows_differing"],
            "closer": one["closer"],
            "further": one["further"],
        }
        for one in others
    ]
    named = [
        f"{one['run']} is {how} in {', '.join(one[how])}"
        for one in others
        for how in ("better", "worse")
        if one[how]
    ]
    c = len(runs[0]["per_class"])
    lines = [f"caveat: {line}" for line in found["caveats"]]
    lines += [
        f"{found['n']} rows; in brackets 95 % intervals, of differences paired ones",
        table_text(reached),
    ]
    lines += ["", table_text(changes), "", table_text(rows), "", *named]
    return "\n".join([*lines, f"of equal runs, too, about {c / 20:.1f} of {c} classes seem better or worse"])


def _compared(difference: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, difference["metrics"][name]) for name in COMPARED]


def about(metrics: dict[str, Any]) -> str:
    """Which rows metrics are of, and what their thresholds were tuned for and on."""
    rows, split, decided, tuned_on = (metrics[name] for name in ("n", "split", "decided", "tuned_on"))
    return f"{rows} rows ({split}); {decided}; tuned on {tuned_on}"


def compare(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a run and threshold rule. The runs given are left with the last rule's thresholds."""
    rows = []
    for run in runs:
        for rule, tuning in RULES.items():
            metrics, _ = retune(run, tuning)
            row = {
                "run": str(run.path),
                "head": run.spec.head,
                "features": " + ".join(run.record.features),
            }
            row |= {"thresholds": rule} | {
                name: metrics[name] for name in ("micro_f1", "macro_f1", "samples_f1")
            }
            rows.append(row)
    return rows
