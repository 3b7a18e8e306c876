"""Aligned tables for a terminal, and the same tables as Markdown.

`tabulate` would save ten of these lines and `rich` none; to import them takes 0.2 s and 0.1 s.
"""

import sys
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import Any

from encode_once.cache.terminal import one_line

LEAST_WIDTH = 12  # of a column of text that is shortened

Row = Mapping[str, Any]  # column → text, number, None, or an interval as a list of two floats


def table_text(rows: Sequence[Row], header: bool = True) -> str:
    """Rows with equal keys as aligned columns: text flush left; numbers flush right, with three decimals.

    On a terminal the widest columns of text are shortened until the table fits.
    """
    names = [*rows[0]]
    columns = [[cell_text(row[name]) for row in rows] for name in names]
    is_text = [
        all(isinstance(row[name], str) for row in rows) and any(map(str.isalpha, "".join(cells)))
        for name, cells in zip(names, columns, strict=True)
    ]
    if header:
        columns = [[name, *cells] for name, cells in zip(names, columns, strict=True)]
    widths = [max(map(len, cells)) for cells in columns]
    if sys.stdout.isatty():
        widths = _fitting(widths, is_text, get_terminal_size().columns)
    aligned = [
        [_shortened(cell, width).ljust(width) if left else cell.rjust(width) for cell in cells]
        for cells, width, left in zip(columns, widths, is_text, strict=True)
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def _fitting(widths: Sequence[int], is_text: Sequence[bool], most: int) -> list[int]:
    """The widths of columns, those of text reduced until a line has at most that many characters."""
    fitting = [*widths]
    while sum(fitting) + 2 * (len(fitting) - 1) > most:
        reducible = [k for k, width in enumerate(fitting) if is_text[k] and width > LEAST_WIDTH]
        if not reducible:
            break
        fitting[max(reducible, key=fitting.__getitem__)] -= 1
    return fitting


def _shortened(cell: str, width: int) -> str:
    """A cell of at most that many characters; what is left out is in the middle, where names differ least."""
    if len(cell) <= width:
        return cell
    end = (width - 1) // 2
    return f"{cell[: width - 1 - end]}…{cell[len(cell) - end :]}"


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
