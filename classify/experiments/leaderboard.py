"""The tables of `sweep` and `ablate`: on the terminal, as Markdown and as JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from encode_once.cache.format.atomic import replacing, write_json
from encode_once.cache.text_table import markdown_text, table_text
from encode_once.classify.evaluation.intervals import RANKING
from encode_once.classify.evaluation.tables import with_interval
from encode_once.classify.spec import FitSpec

Row = dict[str, Any]


def option(name: str, value: Any) -> str:
    """An option as `--set` takes it, numbers to four digits."""
    if isinstance(value, float):
        return f"{name}={value:.4g}"
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def title(spec: FitSpec) -> str:
    """What a trial is called: head, options and features, if named, and a seed other than 0."""
    options = map(option, spec.options, spec.options.values())
    seed = [f"seed={spec.seed}"] if spec.seed else []
    features = ["on", " + ".join(spec.features)] if spec.features else []
    return " ".join([spec.head, *options, *seed, *features])


def text(rows: Sequence[Row]) -> str:
    """For a terminal: a table for each set of eval rows, what they are, and the failures."""
    return "\n".join(_parts(rows, table_text))


def save(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write NAME.json and NAME.md."""
    write_json(folder / f"{name}.json", rows)
    with replacing(folder / f"{name}.md") as temporary:
        temporary.write_text("\n\n".join(_parts(rows, markdown_text)) + "\n", encoding="utf-8")


def _parts(rows: Sequence[Row], table: Any) -> Iterator[str]:
    """A table and what was measured, for each set of eval rows; then the failures."""
    measured = [row for row in rows if not row["error"]]
    for eval_rows in dict.fromkeys(row.get("eval_rows") for row in measured):
        of_table = [row for row in measured if row.get("eval_rows") == eval_rows]
        yield table(_cells(of_table))
        yield from dict.fromkeys(row["measured"] for row in of_table)
    failed = [row for row in rows if row["error"]]
    if not measured:
        yield table(_cells(failed))
    for row in failed:
        yield f"failed: {' '.join(filter(None, _about(row).values()))}: {row['error']}"


def _cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The cells of each row: what was fitted, each metric with its interval, its change, seconds."""
    names = (name for metric in RANKING for name in (metric, f"{metric}_change"))
    metrics = [name for name in names if any(name in row for row in rows)]
    return [
        _about(row)
        | {name: _figure(row, name) for name in metrics}
        | {"seconds": "–" if row["seconds"] is None else f"{row['seconds']:.1f}"}
        for row in rows
    ]


def _about(row: Row) -> dict[str, str]:
    if "changed" in row:
        return {"changed": row["changed"]}
    options = " ".join(option(name, value) for name, value in row["settings"].items())
    return {"head": row["head"], "features": " + ".join(row["features"]), "settings": options}


def _figure(row: Row, name: str) -> str:
    return with_interval(row.get(name), row.get(f"{name}_interval"), "+" if name.endswith("_change") else "")
