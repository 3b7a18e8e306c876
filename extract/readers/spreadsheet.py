"""Excel's .xlsx: the first sheet, whose first row that is not empty has the names of the columns."""

import io
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import open_regular
from encode_once.cache.packed import ENOUGH, MOST
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.column_names import kind_of
from encode_once.extract.readers.raw import Cells, RawTable, refuse_equal_names


def open_spreadsheet(path: Path, bad_rows: BadRows) -> RawTable:
    """Read a table. Empty rows, and columns without a name, are left out and reported.

    Raises:
        DataError: it is not a spreadsheet, has no table, or openpyxl is missing.
    """
    rows, others = _rows(path)
    filled = [(line, row) for line, row in rows if any(cell not in (None, "") for cell in row)]
    if len(filled) < 2:
        raise DataError(f"{path}: the first sheet has no table with a header and rows")
    before = _titles(filled)
    (_, header), *records = filled[before:]
    names = ["" if cell is None else str(cell).strip() for cell in header]
    named = [name for name in names if name]
    refuse_equal_names(path, named)
    lines = [line for line, _ in records]
    columns: dict[str, Cells] = {
        name: [row[place] if place < len(row) else None for _, row in records]
        for place, name in enumerate(names)
        if name
    }
    table = RawTable.of_columns(
        path.stem, [path], columns, lambda row: f"{path}, row {lines[row]}", plain=named
    )
    nameless = [place for place, name in enumerate(names) if not name]
    if used := sum(
        any(row[place] is not None for _, row in records if place < len(row)) for place in nameless
    ):
        table.unused.append(f"{used} column{'s' * (used > 1)} without a name in {path.name}")
    if before:
        title = brief(repr(next(str(cell) for cell in filled[0][1] if cell is not None)))
        table.warnings.append(f"{path}: rows before the header: {before} ({title}); they are skipped")
    if others:
        table.unused.append(f"{len(others)} further sheets of {path.name} ({brief(', '.join(others))})")
    return table


def _titles(rows: Sequence[tuple[int, Sequence[Any]]]) -> int:
    """How many rows are titles, of one cell, before a header that has a known name; else 0."""
    for number, (_, row) in enumerate(rows):
        cells = [str(cell).strip() for cell in row if cell not in (None, "")]
        if len(cells) > 1:
            return number if any(map(kind_of, cells)) else 0
        if any(map(kind_of, cells)):
            return 0
    return 0


def _rows(path: Path) -> tuple[list[tuple[int, tuple[Any, ...]]], list[str]]:
    """The numbered rows of the first sheet, and the names of the others."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            f"{path}: needs openpyxl: pip install 'encode-once[excel]', or save it as CSV"
        ) from error
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{path}: not an .xlsx file ({brief(error)}); save it again, or as CSV"
            ) from error
        if size > max(ENOUGH, MOST * path.stat().st_size):
            raise DataError(f"{path}: becomes far larger than a table does; save it as CSV")
        # Warnings are of styles and the like, which are not read; of some, openpyxl prints a line.
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            book = load_workbook(file, read_only=True, data_only=True)
            first, *others = book.worksheets
            rows = [(line, tuple(row)) for line, row in enumerate(first.iter_rows(values_only=True), start=1)]
        return rows, [sheet.title for sheet in others]
