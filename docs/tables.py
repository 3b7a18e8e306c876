"""Writes the measured tables and figures of README.md and docs/*.md from docs/results/*.json.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` and comes from `docs/results/NAME.json`:

    title, command, date, commit, machine    where the figures come from
    columns                                  [{"name": …, "format": ".3f"}, …]; a column of text has no format
    rows                                     a list of cells each; null is an empty cell

A figure in a sentence stands between `<!-- value: NAME/KEY -->` and `<!-- end -->`. It is `values[KEY]` of
that file: a text, or the least and the greatest difference of two columns, in rows with these cells:

    {"range": ["shrunk", "0.5"], "rows": {"F1": "micro"}, "format": ".4f"}

    python docs/tables.py            rewrite the pages
    python docs/tables.py --check    exit with status 1 if a page differs from its results
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([\w-]+)/([\w-]+) -->).*?(<!-- end -->)")


def pages() -> list[Path]:
    """The Markdown pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def table(name: str) -> str:
    """One results file as Markdown: the table, then where its figures come from."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    columns = result["columns"]
    lines = [_line(column["name"] for column in columns), "|---" * len(columns) + "|"]
    lines += [_line(map(_cell, zip(row, columns, strict=True))) for row in result["rows"]]
    source = "Command: `{command}`; {machine}; {date}, commit {commit}.".format(**result)
    return "\n".join(["", *lines, "", f"*{result['title']}.* {source}", ""])


def value(name: str, key: str) -> str:
    """One figure of a results file as text."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    figure = result["values"][key]
    if isinstance(figure, str):
        return figure
    names = [column["name"] for column in result["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in result["rows"]]
    rows = [row for row in rows if row.items() >= figure.get("rows", {}).items()]
    first, second = figure["range"]
    differences = [row[first] - row[second] for row in rows]
    return " to ".join(format(end(differences), figure["format"]) for end in (min, max))


def rendered(text: str) -> str:
    """A page with every table and figure in it written again."""
    text = BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)
    return VALUE.sub(lambda match: match[1] + value(match[2], match[3]) + match[4], text)


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
