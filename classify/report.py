"""Metrics and comparisons of runs as text for a terminal."""

from collections.abc import Sequence
from typing import Any

from classify.decisions import Tuning
from classify.runs import Run
from classify.tuning import retune

SUMMARY = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall")
RULES = {"0.5": Tuning("none"), "global": Tuning("global-macro"), "per class": Tuning("macro")}


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of equal keys as an aligned table: numbers to three places, to the right."""

    names = list(rows[0])
    columns = [[name, *(_cell(row[name]) for row in rows)] for name in names]
    texts = [isinstance(rows[0][name], str) for name in names]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(
            value.ljust(width) if text else value.rjust(width)
            for value, width, text in zip(line, widths, texts, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown_text(rows: Sequence[dict[str, Any]]) -> str:
    """The same as a table of Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value).replace("|", "\\|") for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def metrics_text(metrics: dict[str, Any]) -> str:
    """A run's metrics: a line a class, then the averages."""
    averages = "  ".join(f"{name} {metrics[name]:.3f}" for name in SUMMARY)
    return f"{table_text(metrics['per_class'])}\n\n{about(metrics)}\n{averages}"


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
                "head": run.settings.head,
                "features": " + ".join(run.settings.features),
            }
            row |= {"thresholds": rule} | {
                name: metrics[name] for name in ("micro_f1", "macro_f1", "samples_f1")
            }
            rows.append(row)
    return rows
