"""Aligned tables for a terminal, and the same tables as Markdown.

`tabulate` would save ten of these lines and `rich` none; to import them takes 0.2 s and 0.1 s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from encode_once.cache.terminal import one_line

Row = Mapping[str, Any]  # column → text, number, None, or an interval as a list of two floats


def table_text(rows: Sequence[Row], header: bool = True) -> str:
    """Rows with equal keys as aligned columns: text flush left; numbers flush right, with three decimals."""
    columns = []
    for name in rows[0]:
        cells = [cell_text(row[name]) for row in rows]
        is_text = all(isinstance(row[name], str) for row in rows) and any(map(str.isalpha, "".join(cells)))
        cells = [name, *cells] if header else cells
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if is_text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def markdown_text(rows: Sequence[Row]) -> str:
    """Rows with equal keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell_text(value).replace("|", "\\|") for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell_text(value: Any) -> str:
    """A value as tables show it."""
    if isinstance(value, list):
        return interval_text(value)
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else one_line(str(value))


def interval_text(ends: Sequence[float] | None, sign: str = "") -> str:
    """The ends of an interval; sign: "+" for an interval of a difference."""
    return "–" if ends is None else f"{ends[0]:{sign}.3f} … {ends[1]:{sign}.3f}"
