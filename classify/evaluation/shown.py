"""Metrics as people see them at the prompt and in a notebook."""

from collections.abc import Mapping
from typing import Any

from encode_once.cache.representation import html_table
from encode_once.classify.evaluation.metrics import summary


class ShownMetrics(dict[str, Any]):
    """`Metrics` whose representation is the averages, rather than the figures of every class."""

    def __repr__(self) -> str:
        averages = ", ".join(f"{name}={_rounded(self[name])}" for name in summary(self))
        return f"<metrics of {self['n']:,} rows and {len(self['per_class'])} classes: {averages}>"

    def _repr_html_(self) -> str:
        return metrics_html(self)


def metrics_html(metrics: Mapping[str, Any]) -> str:
    """The averages as a table, and one of the classes, the most frequent first."""
    left_out = {"interval", "threshold"} if _has_no_threshold(metrics) else {"interval"}
    classes = sorted(metrics["per_class"], key=lambda row: -row["support"])
    rows = [{name: value for name, value in row.items() if name not in left_out} for row in classes]
    return html_table([{name: metrics[name] for name in ("n", *summary(metrics))}]) + html_table(rows)


def _has_no_threshold(metrics: Mapping[str, Any]) -> bool:
    return all(row.get("threshold") is None for row in metrics["per_class"])


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
