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
from collections.abc import Iterable
from pathlib import Path

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
    lines += [_line(map(_cell, zip(row, columns, strict=True))) for row in result["rows"]]
    source = "Command: `{command}`; {machine}; {date}, commit {commit}.".format(**result)
    return "\n".join(["", *lines, "", f"*{result['title']}.* {source}", ""])


def rendered(text: str) -> str:
    """A page with every table in it written again."""
    return BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)


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
