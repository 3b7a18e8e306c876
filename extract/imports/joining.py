"""Find the table row that each imported vector belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.keys import KEY_BYTES, Keys, RowIndex
from encode_once.cache.row_names import IDS, row_names
from encode_once.cache.table import Table
from encode_once.cache.terminal import short_list
from encode_once.extract.imports.vector_files import VectorFile

Place = tuple[int, int]  # the number of a table, and of a row in it
EXAMPLES = 3


@dataclass(frozen=True)
class Joined:
    """Which vectors of a file belong to which rows of the tables."""

    rows: RowIndex  # (m,): rows of the file
    keys: Keys  # (m, 16): the keys of the tables' rows
    by: str  # what the rows were joined by, for the user
    left_over: int  # rows of the file that belong to no row of a table
    unused: list[str]  # columns of the file that are neither vectors nor used to join
    warnings: list[str]


def join(file: VectorFile, tables: Sequence[Table]) -> Joined:
    """Join the rows of a file with those of tables.

    Of the file's columns and the tables' ids, names of image files and these without suffix, the pair is
    taken that joins most rows. A file without columns is joined by the order of its rows.

    Raises:
        DataError: no row has a vector, or two vectors belong to the same row.
        UsageError: ids that are in several tables, or a file without ids that does not have one table's
            number of rows.
    """
    if not file.columns:
        return _by_order(file, tables)
    names = dict(_names(tables))
    matches = {
        (kind, column): places
        for kind, by_name in names.items()
        for column, cells in file.columns.items()
        if (places := _places(cells, by_name))
    }
    if not matches:
        raise _nothing_matches(file, tables)
    kind, column = max(matches, key=lambda pair: len(matches[pair]))  # of equals the first: ids before names
    places = matches[kind, column]
    if kind == IDS:
        _refuse_ambiguous(file.columns[column], tables)
    rows = _one_vector_each(file, column, places)
    return Joined(
        rows,
        _keys(tables, [places[row] for row in rows.tolist()]),
        f"column {column} = {kind}",
        file.shape[0] - len(places),
        [name for name in file.columns if name != column],
        [],
    )


def _names(tables: Sequence[Table]) -> Iterable[tuple[str, dict[str, Place]]]:
    """Kind of name → name → the row that has it; names of several rows are left out."""
    names = [row_names(table) for table in tables]
    for kind in names[0] if names else ():
        by_name: dict[str, Place] = {}
        repeated: set[str] = set()
        for number, names_of_table in enumerate(names):
            for row, name in enumerate(names_of_table[kind]):
                if name and by_name.setdefault(name, (number, row)) != (number, row):
                    repeated.add(name)
        yield kind, {name: place for name, place in by_name.items() if name not in repeated or kind == IDS}


def _places(cells: Sequence[str], by_name: Mapping[str, Place]) -> dict[int, Place]:
    """Row of the file → row of a table, by the cell itself or, if that joins more, by its last part."""

    def by(names: Iterable[str]) -> dict[int, Place]:
        return {row: by_name[name] for row, name in enumerate(names) if name in by_name}

    return max(by(cells), by(PurePath(cell).name for cell in cells), key=len)


def _refuse_ambiguous(cells: Sequence[str], tables: Sequence[Table]) -> None:
    """Raise if an id of the file is in several tables."""
    seen: dict[str, int] = {}
    of_file = {*cells}
    for number, table in enumerate(tables):
        for row_id in of_file.intersection(table.ids):
            if seen.setdefault(row_id, number) != number:
                raise UsageError(
                    f"the id {row_id!r} is in {tables[seen[row_id]].source} and in {table.source}: choose "
                    "one with --table"
                )


def _one_vector_each(file: VectorFile, column: str, places: Mapping[int, Place]) -> RowIndex:
    """The rows of the file to import: of several for one row of a table the first, if all are equal.

    Raises:
        DataError: they are not.
    """
    first: dict[Place, int] = {}
    for row, place in places.items():
        before = first.setdefault(place, row)
        if before != row and (file.values[[before]] != file.values[[row]]).sum():
            name = file.columns[column][row]
            raise DataError(
                f"{file.path}: rows {before} and {row} are both {name!r} in column {column}, with different "
                "vectors: keep one of them"
            )
    return np.fromiter(first.values(), np.intp, len(first))


def _by_order(file: VectorFile, tables: Sequence[Table]) -> Joined:
    sizes = [f"{len(table)} in {table.source}" for table in tables]
    of_size = [number for number, table in enumerate(tables) if len(table) == file.shape[0]]
    if len(of_size) != 1:
        raise UsageError(
            f"{file.path} has {file.shape[0]} vectors and no ids, for rows that are {'; '.join(sizes)}: name "
            "its rows with --ids FILE, a line for each, or choose a table of that many rows with --table"
        )
    table, rows = tables[of_size[0]], np.arange(file.shape[0])
    return Joined(
        rows,
        table.keys("row"),
        "the order of the rows",
        0,
        [],
        [f"{file.path} has no ids: its rows are those of {table.source} in order (--ids FILE names them)"],
    )


def _keys(tables: Sequence[Table], places: Sequence[Place]) -> Keys:
    keys = [table.keys("row") for table in tables]
    return np.stack([keys[number][row] for number, row in places]).reshape(-1, KEY_BYTES)


def _nothing_matches(file: VectorFile, tables: Sequence[Table]) -> DataError:
    in_file = "; ".join(f"{name}: {short_list(cells[:EXAMPLES])}" for name, cells in file.columns.items())
    in_tables = "; ".join(f"{Path(t.source).name}: {short_list(t.ids[:EXAMPLES])}" for t in tables[:EXAMPLES])
    return DataError(
        f"{file.path}: no row belongs to a row of a table. Its columns have {in_file}; ids of the tables are "
        f"{in_tables}. --ids FILE names its rows"
    )
