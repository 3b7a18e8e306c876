"""Find the table row that each imported vector belongs to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.keys import KEY_BYTES, NO_KEY, KeyIndex, Keys, RowIndex, content_key, pack, present
from encode_once.cache.large_arrays import concatenated, gathered, new_array, row_slices, rows_where
from encode_once.cache.packed_columns import Texts
from encode_once.cache.row_names import IDS, row_names
from encode_once.cache.table import Table
from encode_once.cache.terminal import short_list
from encode_once.extract.imports.vector_files import VectorFile

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
    cells = {column: _Cells(texts) for column, texts in file.columns.items()}
    kind, column, places = IDS, "", np.empty(0, np.intp)
    count = 0
    for of_kind, index in _indices(tables):
        for name, texts in cells.items():
            by_column = texts.find(index)
            if (joins := _count(by_column)) > count:  # of equals the first: ids before names
                kind, column, places, count = of_kind, name, by_column, joins
    if not count:
        raise _nothing_matches(file, tables)
    if kind == IDS:
        _refuse_ambiguous(cells[column].keys, tables)
    rows = _one_vector_each(file, column, places)
    return Joined(
        rows,
        gathered(concatenated([table.keys("row") for table in tables]), places[rows]),
        f"column {column} = {kind}",
        file.shape[0] - count,
        [name for name in file.columns if name != column],
        [],
    )


class _Names:
    """Finds the row, counted through all tables, that has a name; by keys, which take less than texts."""

    def __init__(self, names: Sequence[Sequence[str]], *, may_repeat: bool) -> None:
        self.keys = concatenated([_keys(of_table) for of_table in names])
        self._index = KeyIndex(self.keys)
        self.first = self._index.find(self.keys)
        self.repeated = rows_where((self.first != np.arange(len(self.keys))) & present(self.keys))
        self._is_name = present(self.keys)  # by the first row of a name
        if not may_repeat:
            self._is_name[self.first[self.repeated]] = False

    def find(self, keys: Keys) -> RowIndex:
        """The first row of each name, (n,); -1 for those of no row or, unless they may repeat, of several."""
        rows = self._index.find(keys)
        rows[(rows >= 0) & ~self._is_name[rows]] = -1
        return rows


class _Cells:
    """Cells of a column, which may be names of rows or paths that end in them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.keys = _keys(texts)
        self._of_last_parts = _keys(Texts.of(PurePath(text).name for text in texts))

    def find(self, names: _Names) -> RowIndex:
        """The row of each cell, (n,), by the cell itself or, if that joins more, by its last part; or -1."""
        return max(names.find(self.keys), names.find(self._of_last_parts), key=_count)


def _keys(texts: Sequence[str]) -> Keys:
    """A key for each text, (n, 16); `NO_KEY` for an empty one."""
    keys: Keys = new_array((len(texts), KEY_BYTES), np.uint8)
    for rows in row_slices(len(texts)):
        encoded = (text.encode("utf-8", "surrogateescape") for text in texts[rows])
        keys[rows] = pack(content_key(text) if text else NO_KEY for text in encoded)
    return keys


def _count(places: RowIndex) -> int:
    return int(np.count_nonzero(places >= 0))


def _indices(tables: Sequence[Table]) -> Iterator[tuple[str, _Names]]:
    """Each kind of name, and what finds the rows that have one."""
    names = [row_names(table) for table in tables]
    for kind in names[0] if names else ():
        yield kind, _Names([of_table[kind] for of_table in names], may_repeat=kind == IDS)


def _refuse_ambiguous(cells: Keys, tables: Sequence[Table]) -> None:
    """Raise if an id of the file is in several tables."""
    ids = _Names([table.ids for table in tables], may_repeat=True)
    in_file = KeyIndex(cells).has(gathered(ids.keys, ids.repeated))
    starts = np.cumsum([0, *map(len, tables)])
    for row in ids.repeated[in_file].tolist():
        first, second = np.searchsorted(starts, [ids.first[row], row], "right") - 1
        if first != second:
            row_id = tables[second].ids[row - int(starts[second])]
            raise UsageError(
                f"the id {row_id!r} is in {tables[first].source} and in {tables[second].source}: choose one "
                "with --table"
            )


def _one_vector_each(file: VectorFile, column: str, places: RowIndex) -> RowIndex:
    """The rows of the file to import: of several for one row of a table the first, if all are equal.

    Raises:
        DataError: they are not.
    """
    rows = rows_where(places >= 0)
    _, firsts, numbers = np.unique(places[rows], return_index=True, return_inverse=True)
    before = rows[firsts][numbers]
    for row, first in zip(rows[before != rows].tolist(), before[before != rows].tolist(), strict=True):
        if (file.values[[first]] != file.values[[row]]).sum():
            name = file.columns[column][row]
            raise DataError(
                f"{file.path}: rows {first} and {row} are both {name!r} in column {column}, with different "
                "vectors: keep one of them"
            )
    firsts_only: RowIndex = rows[before == rows]
    return firsts_only


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


def _nothing_matches(file: VectorFile, tables: Sequence[Table]) -> DataError:
    in_file = "; ".join(f"{name}: {short_list(cells[:EXAMPLES])}" for name, cells in file.columns.items())
    in_tables = "; ".join(f"{Path(t.source).name}: {short_list(t.ids[:EXAMPLES])}" for t in tables[:EXAMPLES])
    return DataError(
        f"{file.path}: no row belongs to a row of a table. Its columns have {in_file}; ids of the tables are "
        f"{in_tables}. --ids FILE names its rows"
    )
