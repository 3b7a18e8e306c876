"""Write CSV files that a CSV reader reads back exactly, and that a spreadsheet does not run."""

import csv
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from encode_once.cache.format.atomic import replacing

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how cells begin that a spreadsheet takes for a formula
QUOTE = "'"  # before such a cell, for a spreadsheet to take it for text


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, excel_safe: bool = False
) -> None:
    """Write a file in UTF-8, completely or not at all; bytes of names that are not UTF-8 stay as they are.

    Args:
        path: the file, which is replaced.
        header: names of the columns.
        rows: cells of each row.
        excel_safe: put a quote before each text that a spreadsheet would take for a formula. Without, cells
            keep their exact text.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        plain = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain([header], rows):
            cells = list(map(_safe, row)) if excel_safe else row
            # The csv module quotes a line break only if it is that of its own lines.
            has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
            (quoted if has_return else plain).writerow(cells)


def _safe(cell: object) -> object:
    return QUOTE + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell
