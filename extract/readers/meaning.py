"""Decide what the columns of a raw table mean: its ids, images, captions and labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from encode_once.cache.errors import DataError
from encode_once.extract.readers.columns import ReadOptions, roles
from encode_once.extract.readers.raw import RawTable
from encode_once.extract.readers.samples import SplitRows, captions_of, labels_of, text_of

Cell = TypeVar("Cell")


class _Columns:
    """The converted columns of a table, and the rows with a cell that its column does not allow."""

    def __init__(self, table: RawTable, options: ReadOptions) -> None:
        self._table, self._bad_rows = table, options.bad_rows
        self.bad: set[int] = set()

    def __call__(self, name: str, convert: Callable[[Any], Cell]) -> list[Cell]:
        """The cells of a column, converted; those of bad rows as if they were empty.

        Raises:
            DataError: a row is bad, and bad rows are not left out.
        """
        converted = []
        for row, cell in enumerate(self._table.read(name)):
            try:
                converted.append(convert(cell))
            except DataError as error:
                if row not in self.bad:
                    self._bad_rows.add(DataError(f"{self._table.where(row)}: the column {name!r} {error}"))
                self.bad.add(row)
                converted.append(convert(None))
        return converted


def understood(table: RawTable, options: ReadOptions) -> SplitRows:
    """The rows of a table by the meaning of its columns.

    Raises:
        UsageError: the user's names do not fit, or several columns have names of one meaning.
        DataError: the table has no rows, or a cell that its column does not allow.
    """
    if not table.rows:
        raise DataError(f"{table.files[0]}: the table has no rows")
    columns, role = _Columns(table, options), roles(table, options.columns)
    embedded = role.image in table.sources
    names = columns(role.image, text_of) if role.image else None
    if role.id:
        ids = columns(role.id, text_of)
    elif embedded:
        ids = _file_names(table.sources[str(role.image)]())
    else:
        ids = names or list(map(str, range(table.rows)))
    captions = [columns(name, captions_of) for name in role.captions]
    label = role.labels[0] if role.labels else None
    rows = SplitRows(
        files=table.files,
        split=table.split,
        where=table.where,
        ids=ids,
        captions=[sum(cells, ()) for cells in zip(*captions, strict=True)] if captions else None,
        labels=columns(label, labels_of) if label else None,
        id_column=role.id or (role.image if not embedded and role.image else "ImageID"),
        columns={name: columns(name, text_of) for name in table.plain if name not in role.used},
        warnings=[*table.warnings],
    )
    if embedded:
        rows.images = names
    elif role.image or role.id:
        rows.names, rows.folders = names, table.folders
    return rows.without(columns.bad) if columns.bad else rows


def _file_names(paths: Sequence[object]) -> list[str]:
    """Ids of embedded images: their file names if complete and unique, else row numbers."""
    names = [Path(path).name for path in paths if path and isinstance(path, str)]
    return names if len(set(names)) == len(paths) else list(map(str, range(len(paths))))
