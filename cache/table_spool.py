"""Gather the rows of a table piece by piece in temporary files, from which its columns are mapped.

As with `large_arrays`, TMPDIR names the folder of the files, and nothing is left of them.
"""

import mmap
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from encode_once.cache.large_arrays import map_file, temporary_files
from encode_once.cache.packed_columns import LabelLists, Lengths, Texts
from encode_once.cache.table import Table

TABLE = "the table"  # in messages


class ArrayFile:
    """An array that grows in a temporary file."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        with temporary_files(TABLE):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 — closed when mapped

    def append(self, values: NDArray[Any]) -> None:
        """Add values, (m,)."""
        with temporary_files(TABLE):
            self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def mapped(self) -> NDArray[Any]:
        """All values; nothing can be added any more."""
        with temporary_files(TABLE), self._file as file:
            file.flush()
            if not file.tell():
                return np.empty(0, self._dtype)
            return np.frombuffer(map_file(file, mmap.ACCESS_READ), self._dtype)


class _ColumnFile:
    """The values and offsets of a packed column."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._values, self._offsets, self._end = ArrayFile(dtype), ArrayFile(np.uint64), 0
        self._offsets.append(np.zeros(1))

    def append(self, values: NDArray[Any], lengths: Lengths) -> None:
        self._values.append(values)
        self._offsets.append(self._end + np.cumsum(lengths))
        self._end += len(values)

    def mapped(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._values.mapped(), self._offsets.mapped()


class TextFile:
    """A column of texts."""

    def __init__(self) -> None:
        self._file = _ColumnFile(np.uint8)

    def extend(self, texts: Iterable[str]) -> None:
        """Add texts."""
        for values, lengths in Texts.of(texts).blocks():
            self._file.append(values, lengths)

    def mapped(self) -> Texts:
        """The column; nothing can be added any more."""
        return Texts(*self._file.mapped())


class LabelFile:
    """A column of lists of labels."""

    def __init__(self) -> None:
        self._file, self._numbers = _ColumnFile(np.uint32), dict[str, int]()

    def extend(self, rows: Iterable[Sequence[str]]) -> None:
        """Add the labels of rows."""
        labels = LabelLists.of(rows)
        numbers = (self._numbers.setdefault(name, len(self._numbers)) for name in labels.names)
        number_of = np.fromiter(numbers, np.uint32, len(labels.names))
        for values, lengths in labels.blocks():
            self._file.append(number_of[values], lengths)

    def mapped(self) -> LabelLists:
        """The column; nothing can be added any more."""
        return LabelLists([*self._numbers], *self._file.mapped())


class TableSpool:
    """Tables of consecutive rows, without keys and label sets, as one.

    Other columns are kept if all tables have them; a table with fewer captions or without unknown labels has
    empty ones.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._first: Table | None = None
        self._ids, self._images, self._captions = TextFile(), TextFile(), TextFile()
        self._more: list[TextFile] = []
        self._columns: dict[str, TextFile] = {}
        self._labels, self._unknown = LabelFile(), LabelFile()
        self.without: dict[str, None] = {}  # the columns that some table lacks

    def __len__(self) -> int:
        return self._rows

    def append(self, table: Table) -> None:
        """Add the rows of a table; they must be labelled if those before were."""
        if self._first is None:
            self._first = table.take(np.arange(0))
            self._columns = {name: TextFile() for name in table.columns}
        self._ids.extend(table.ids)
        self._images.extend(table.images)
        self._captions.extend(table.captions)
        while len(self._more) < len(table.more_captions):
            self._more.append(TextFile())
            self._more[-1].extend([""] * self._rows)
        blank = [""] * len(table)
        for number, file in enumerate(self._more):
            file.extend(table.more_captions[number] if number < len(table.more_captions) else blank)
        self.without |= dict.fromkeys(self._columns.keys() ^ table.columns.keys())
        for name in self._columns.keys() - self.without.keys():
            self._columns[name].extend(table.columns[name])
        self._labels.extend(table.labels or [()] * len(table))
        self._unknown.extend(table.unknown or [()] * len(table))
        self._rows += len(table)

    def table(self) -> Table:
        """All rows; none can be added any more."""
        assert self._first is not None, "there is at least one table"
        unknown = self._unknown.mapped()
        labels = self._labels.mapped()
        return replace(
            self._first,
            ids=self._ids.mapped(),
            images=self._images.mapped(),
            captions=self._captions.mapped(),
            more_captions=[file.mapped() for file in self._more],
            columns={name: file.mapped() for name, file in self._columns.items() if name not in self.without},
            labels=None if self._first.labels is None else labels,
            unknown=unknown if unknown.total() else [],
        )
