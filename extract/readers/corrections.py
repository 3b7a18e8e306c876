"""Corrections of labels, applied to the tables as they are read; their source stays as it is.

A file of corrections is CSV with the columns `split`, `id`, `label` and `decision`. `add` and `remove` change
a label of a row; `keep` records that a person looked at a label and found it right.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from encode_once.cache import DataError, Store, Table
from encode_once.cache.errors import collected
from encode_once.cache.packed_columns import LabelLists, PackedColumn
from encode_once.cache.places import is_gone
from encode_once.cache.table import TableHeader
from encode_once.cache.terminal import short_list
from encode_once.extract.readers.csv_grammar import read_csv
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.understanding import Reading

COLUMNS = ("split", "id", "label", "decision")
ADD, REMOVE, KEEP = DECISIONS = ("add", "remove", "keep")
COMPARED = 2000  # ids among which the nearest to an unknown one is looked for


class Correction(NamedTuple):
    """A line of the file."""

    line: int  # counted from 1
    split: str
    id: str
    label: str
    decision: str  # of DECISIONS


class _Cell(NamedTuple):
    """A label of a row: what a correction is about."""

    split: str
    row: int
    label: str


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """The lines of a file of corrections, in any order of its columns.

    Raises:
        DataError: it cannot be read, lacks a column, or a decision is none of DECISIONS.
    """
    with file_errors(Path(path)):
        table = read_csv(Path(path), lambda name: False, COLUMNS.__contains__)
    header = [name.strip().lower() for name in table.header]
    if missing := [name for name in COLUMNS if name not in header]:
        where = f"{path}:{max(table.line, 1)}"
        raise DataError(
            f"{where}: no column {', '.join(missing)}; a file of corrections has {', '.join(COLUMNS)}"
        )
    columns = [table.columns[header.index(name)] for name in COLUMNS]
    corrections = [Correction(*cells) for cells in zip(table.lines, *columns, strict=True)]
    for line, *_, decision in corrections:
        if decision not in DECISIONS:
            raise DataError(
                f"{path}:{line}: decision {decision!r}: write {', '.join(DECISIONS[:-1])} or {KEEP}"
            )
    return corrections


def correct(reading: Reading, path: str | os.PathLike[str] | None) -> None:
    """Apply a file of corrections to the tables that were read, and add the counts to what was understood.

    All labelled tables then have the file among their sources: they are outdated when it changes. Without a
    file, labels stay as they are.

    Raises:
        DataError: a line is wrong or contradicts another; no table is changed.
    """
    if path is None:
        return
    decided = _resolve(reading.tables, read_corrections(path), path)
    counts = {split: Counter[str]() for split in reading.tables}
    lists = {
        split: (_Edited(table.labels or ()), _Edited(table.unknown))
        for split, table in reading.tables.items()
    }
    for cell, decision in decided.items():
        labels, unknown = lists[cell.split]
        done, was_unknown = decision, bool(unknown.rows) and cell.label in unknown[cell.row]
        if was_unknown and decision != KEEP:  # it is known now
            unknown[cell.row] = tuple(label for label in unknown[cell.row] if label != cell.label)
        if decision != KEEP and not was_unknown and (cell.label in labels[cell.row]) == (decision == ADD):
            done = "already so"
        elif decision == ADD:
            labels[cell.row] += (cell.label,)
        elif decision == REMOVE:
            labels[cell.row] = tuple(label for label in labels[cell.row] if label != cell.label)
        counts[cell.split][done] += 1
    for understood in reading.understood:
        table = reading.tables[understood.split]
        if table.labels is not None:
            table.labels, table.unknown = (edited.result() for edited in lists[table.split])
            table.corrections = str(Path(path).resolve())
            table.more_sources.append(table.corrections)
            number = counts[understood.split]
            understood.decisions["corrections"] = (
                f"{path}: labels added {number[ADD]}, removed {number[REMOVE]}, already so "
                f"{number['already so']}, kept {number[KEEP]}"
            )


class _Edited:
    """The labels of rows, of which some are changed."""

    def __init__(self, rows: Sequence[tuple[str, ...]]) -> None:
        self.rows, self._changed = rows, dict[int, tuple[str, ...]]()

    def __getitem__(self, row: int) -> tuple[str, ...]:
        return self._changed[row] if row in self._changed else self.rows[row]

    def __setitem__(self, row: int, labels: tuple[str, ...]) -> None:
        self._changed[row] = labels

    def result(self) -> Sequence[tuple[str, ...]]:
        """All rows; packed if they were."""
        if not self._changed:
            return self.rows
        rows = (self._changed.get(number, labels) for number, labels in enumerate(self.rows))
        return self.rows.of(rows) if isinstance(self.rows, PackedColumn) else [*rows]


def dropped(tables: Iterable[Table], store: Store) -> list[str]:
    """A warning for each table that was last extracted with other corrections than now."""
    warnings = []
    for table in tables:
        before = ""
        with collected([]):  # a damaged table is replaced
            header = store.saved_header(table) or _before_it_moved(table, store)
            before = header.corrections if header else ""
        if table.labels is not None and before and before != table.corrections:
            now = (
                f"corrected by {table.corrections} alone"
                if table.corrections
                else "those of the source again"
            )
            warnings.append(
                f"{table.source}: labels are {now}, without the corrections of {before}; "
                f"--corrections {before} brings them back"
            )
    return warnings


def _before_it_moved(table: Table, store: Store) -> TableHeader | None:
    """The saved table with corrections, the same ids and captions, and a source that is gone, if any."""
    for header in store.headers():
        alike = header.corrections and (header.split, header.rows) == (table.split, len(table))
        if not alike or not is_gone(header.source):
            continue
        saved = store.load(header)
        if (saved.ids, saved.captions) == (table.ids, table.captions):
            return header
    return None


def _resolve(
    tables: Mapping[str, Table], corrections: Sequence[Correction], path: str | os.PathLike[str]
) -> dict[_Cell, str]:
    """The decision about each cell, in the order of the file.

    Raises:
        DataError: a split, id or label does not exist, or two decisions differ.
    """
    named = {row_id for _, split, row_id, *_ in corrections for row_id in _names_of(row_id, split)}
    rows = {
        split: {row_id: row for row, row_id in enumerate(table.ids) if row_id in named}
        for split, table in tables.items()
    }
    labels = {label for table in tables.values() for label in LabelLists.of(table.labels or ()).distinct()}
    first: dict[_Cell, Correction] = {}
    for correction in corrections:
        line, split, row_id, label, decision = correction
        where = f"{path}:{line}"
        if split not in tables:
            raise DataError(f"{where}: no table {split!r}; the data has {', '.join(tables)}")
        if tables[split].labels is None:
            raise DataError(f"{where}: the table {split} has no labels to correct; remove the line")
        row = next((rows[split][name] for name in _names_of(row_id, split) if name in rows[split]), None)
        if row is None:
            hint = _nearest(row_id, tables[split].ids) or "is it of other data?"
            raise DataError(f"{where}: no row of {split} has the id {row_id!r}; {hint}")
        if label not in labels:
            hint = _nearest(label, labels) or f"the labels are {short_list(sorted(labels))}"
            raise DataError(f"{where}: no row has the label {label!r}; {hint}")
        earlier = first.setdefault(_Cell(split, row, label), correction)
        if earlier.decision != decision:
            raise DataError(
                f"{where}: {decision} {label} of {row_id}, but line {earlier.line} has {earlier.decision}; "
                "remove one of the two lines"
            )
    return {cell: correction.decision for cell, correction in first.items()}


def _names_of(row_id: str, split: str) -> tuple[str, str]:
    """The id, and what it is without the split: a run on tables with equal ids has it before each."""
    return row_id, row_id.removeprefix(f"{split}/")


def _nearest(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(islice(names, COMPARED)), 1)
    return f"did you mean {close[0]!r}?" if close else ""
