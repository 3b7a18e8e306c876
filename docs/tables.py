"""Writes the measured tables and figures of README.md and docs/*.md from docs/results.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. What systems reach is in `results.csv`, a
row for each system, which `compare` and `recipe run` write with `--results`; `tables.toml` says how the rows
of a table are shown:

    title
    [NAME.columns]  header → a template of a row's cells, as "{micro_f1:.3f}"; a cell is empty if one of the
                    template's is. `{micro_f1_shown}` has the deviation and the marks of the best, `{system}`
                    the head with its settings, `{fits}` is the number of runs
    names           what to write for parts of cells, as "image" for "efficientnet-lite0/pooled"
    per             a column, as "data": rows that differ in it are one, with cells as `{scene[micro_f1]:.3f}`
    rank            then `{rank}` is the mean rank by these metrics, and the lowest one comes first

All else that was measured is a JSON file: seconds of a part, draws of rows, figures of classes; and systems
whose figures are of another kind: differences of views (`docs/views.py`), and blends that no run has made:

    title, command, date, commit, machine    where the figures come from; a command of null is not shown
    columns                                  [{"name": …, "format": ".3f"}, …]; a column of text has no format
    rows                                     a list of cells each; null is an empty cell

A figure in a sentence stands between `<!-- value: NAME/KEY -->` and `<!-- end -->`. It is `values[KEY]` of
that table: a text, or the least and the greatest difference of two columns, in rows with these cells:

    {"range": ["shrunk", "0.5"], "rows": {"F1": "micro"}, "format": ".4f"}

    python docs/tables.py            rewrite the pages
    python docs/tables.py --check    exit with status 1 if a page differs from its results
"""

import argparse
import csv
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([\w-]+)/([\w-]+) -->).*?(<!-- end -->)")
METRICS = ("macro_f1", "micro_f1", "samples_f1", "mAP")
SOURCE = ("command", "machine", "date", "commit")
ALPHA = 0.05  # the p-value from which a system is not significantly different from the best

Row = dict[str, Any]


def pages() -> list[Path]:
    """The Markdown pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def layouts() -> dict[str, Row]:
    """The tables that are made of rows of results.csv, by name."""
    return tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))


def results(name: str) -> list[Row]:
    """The rows of a table in results.csv, with numbers in the columns of numbers; None for an empty cell."""
    with (RESULTS / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == name]
    return [{column: _parsed(column, text) for column, text in row.items()} for row in rows]


def result(name: str) -> Row:
    """A table as its JSON file has it; one that is made of rows of results.csv has texts as cells."""
    layout = layouts().get(name)
    if layout is None:
        content: Row = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        return content
    names = layout.get("names", {})
    rows = [{column: _named(cell, names) for column, cell in row.items()} for row in results(name)]
    for row in rows:
        of_data = [other for other in rows if other["data"] == row["data"]]
        row |= {f"{metric}_shown": _shown(row, metric, of_data) for metric in METRICS}
        row["system"] = " ".join(filter(None, [row["head"], row["settings"]]))
        row["fits"] = len((row["seed"] or "").split(", "))
    shown = _joined(rows, layout["per"]) if "per" in layout else rows
    if "rank" in layout:
        _rank(shown, rows, layout["rank"])
        shown.sort(key=lambda row: row["rank"])
    sources = {field: dict.fromkeys(row[field] for row in rows if row[field]) for field in SOURCE}
    return {
        **layout,
        **{field: ("` and `" if field == "command" else " and ").join(sources[field]) for field in SOURCE},
        "columns": [{"name": header} for header in layout["columns"]],
        "rows": [[_filled(template, row) for template in layout["columns"].values()] for row in shown],
    }


def table(name: str) -> str:
    """One table as Markdown, then where its figures come from."""
    content = result(name)
    columns = content["columns"]
    lines = [_line(column["name"] for column in columns), "|---" * len(columns) + "|"]
    lines += [_line(map(_cell, zip(row, columns, strict=True))) for row in content["rows"]]
    command = "Command: `{command}`; ".format(**content) if content["command"] else ""
    source = command + "{machine}; {date}, commit {commit}.".format(**content)
    return "\n".join(["", *lines, "", f"*{content['title']}.* {source}", ""])


def value(name: str, key: str) -> str:
    """One figure of a table as text."""
    content = result(name)
    figure = content["values"][key]
    if isinstance(figure, str):
        return figure
    names = [column["name"] for column in content["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in content["rows"]]
    rows = [row for row in rows if row.items() >= figure.get("rows", {}).items()]
    first, second = figure["range"]
    differences = [row[first] - row[second] for row in rows]
    return " to ".join(format(end(differences), figure["format"]) for end in (min, max))


def rendered(text: str) -> str:
    """A page with every table and figure in it written again."""
    text = BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)
    return VALUE.sub(lambda match: match[1] + value(match[2], match[3]) + match[4], text)


def _parsed(column: str, text: str) -> str | float | None:
    is_number = column == "seconds" or column.startswith(METRICS)
    return None if not text else float(text) if is_number else text


def _named(cell: Any, names: Mapping[str, str]) -> Any:
    for long, short in names.items():
        cell = cell.replace(long, short) if isinstance(cell, str) else cell
    return cell


def _shown(row: Row, metric: str, of_data: Sequence[Row]) -> str | None:
    """A figure, its deviation, and whether it is the best or not significantly different from the best."""
    if row[metric] is None:
        return None
    mean, p = f"{row[metric]:.3f}", row[f"{metric}_p"]
    is_best = p is None and any(other[f"{metric}_p"] is not None for other in of_data)
    deviation = row[f"{metric}_sd"]
    parts = [f"**{mean}**" if is_best else mean, "" if deviation is None else f"± {deviation:.3f}"]
    return " ".join(filter(None, [*parts, "†" if p is not None and p >= ALPHA else ""]))


def _joined(rows: Sequence[Row], per: str) -> list[Row]:
    """Rows of the same system that differ in a column, as one; its seconds are the sum."""
    joined: dict[str, Row] = {}
    for row in rows:
        of_system = joined.setdefault(row["system"], {**row, "seconds": 0.0})
        of_system[row[per]] = row
        of_system["seconds"] += row["seconds"] or 0.0
    return [*joined.values()]


def _rank(shown: Sequence[Row], rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Give each system its mean rank by these metrics over the data sets; equal ones share the mean."""
    for system in shown:
        ranks = []
        for own in (row for row in rows if row["system"] == system["system"]):
            for metric in metrics:
                others = [row[metric] for row in rows if row["data"] == own["data"]]
                ranks.append(sum(v > own[metric] for v in others) + (others.count(own[metric]) + 1) / 2)
        system["rank"] = sum(ranks) / len(ranks)


def _filled(template: str, row: Row) -> str | None:
    """A template with the cells of a row; None if one of them is empty."""
    fields = [field for _, field, _, _ in Formatter().parse(template) if field]
    try:
        cells = [Formatter().get_field(field, (), row)[0] for field in fields]
    except KeyError:  # a system has no row of this data set
        return None
    return None if None in cells else template.format_map(row)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: tuple[str | float | None, dict[str, str]]) -> str:
    value, column = cell
    if value is None:
        return ""
    return value if isinstance(value, str) else format(value, column["format"])


def main() -> int:
    """Rewrite or check the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the measured tables of the documents.")
    parser.add_argument("--check", action="store_true", help="Only report pages that would change.")
    check = parser.parse_args().check
    changed = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := rendered(text)) == text:
            continue
        changed += 1
        if not check:
            page.write_text(new, encoding="utf-8")
        outcome = "differs from docs/results" if check else "rewritten"
        sys.stderr.write(f"{page.relative_to(ROOT)}: {outcome}\n")
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main())
