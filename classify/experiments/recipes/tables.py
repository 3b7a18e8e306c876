"""Rows of recipes as cells of a table."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
AVERAGES = {"micro": "micro_f1", "macro": "macro_f1", "samples": "samples_f1"}
SHORT = {name: average for average, name in AVERAGES.items()} | {
    "weighted_f1": "weighted",
    "weighted_swapped": "weighted swapped",
    "f1": "F1",
}


def listed_cells(row: Row) -> dict[str, str]:
    """A row of `recipe list`."""
    return {
        "recipe": row["recipe"],
        "source": row["source"],
        "head": row["head"],
        "": "contaminated" if row["contaminated"] else "",
        "runs": "yes" if row["runs"] else "no",
        "with": f"lacks {row['lacks']}" if row["lacks"] else _what_is_used(row),
    }


def _what_is_used(row: Row) -> str:
    replaces = {used: name for name, used in row["instead"].items()}
    return ", ".join(
        name
        + (f" for {replaces[name]}" if name in replaces else "")
        + (" (to be encoded)" if name in row["to_encode"] else "")
        for name in row["features"]
    )


def run_cells(row: Row) -> dict[str, Any]:
    """A row of `recipe run`."""
    metrics = row["metrics"]
    measured = {average: metrics[name] if metrics else None for average, name in AVERAGES.items()}
    compared = [(SHORT.get(name, name), figures) for name, figures in row["compared"].items()]
    reported = [(SHORT.get(name, name), value) for name, value in row["reported"].items()]
    return {
        "recipe": row["recipe"],
        "reported": ", ".join(f"{name} {value:.3f}" for name, value in reported) or "–",
        **measured,
        "difference": ", ".join(f"{name} {figures['difference']:+.3f}" for name, figures in compared) or "–",
        "contaminated": "contaminated" if row["contaminated"] else "",
        "seconds": None if row["seconds"] is None else round(row["seconds"], 1),
        "remarks": f"cannot run: {row['lacks']}" if row["lacks"] else "; ".join(row["differs"]),
    }
