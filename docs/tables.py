"""Writes the measured tables of README.md and docs/*.md from docs/results/*.json.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` and comes from `docs/results/NAME.json`:

    title, command, date, commit, machine    where the figures come from
    columns                                  [{"name": …, "format": ".3f"}, …]; a column of text has no format
    rows                                     a list of cells each; null is an empty cell

    python docs/tables.py            rewrite the pages
    python docs/tables.py --check    exit with status 1 if a page differs from its results
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """The Markdown pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def table(name: str) -> str:
    """One results file as Markdown: the table, then where its figures come from."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    columns = result["columns"]
    lines = [_line(column["name"] for column in columns), "|---" * len(columns) + "|"]
    lines += [_line(map(_cell, row, columns, strict=True)) for row in result["rows"]]
    source = f"Command: `{result['command']}`. {result['machine']}; {result['date']}, {result['commit']}."
    return "\n".join([*lines, "", source, ""])


def rendered(text: str) -> str:
    """A page with every table in it written again."""
    return BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: str | float | None, column: dict[str, str]) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else format(value, column["format"])


def main() -> int:
    """Rewrite or check the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the measured tables of the documents.")
    parser.add_argument("--check", action="store_true", help="Only report pages that would change.")
    check = parser.parse_args().check
    changed = [page for page in pages() if rendered(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    for page in changed:
        if not check:
            page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
        sys.stderr.write(f"{page.relative_to(ROOT)}: {'differs from docs/results' if check else 'rewritten'}\n")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
