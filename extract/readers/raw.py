"""What a container yields: tables of raw cells, without a decision about what their columns mean.

To add a layout, write a module with `ABOUT`, `recognises(data, options)` and `read(data, options)`, which
returns a `RawTable` for each split, and add it to `readers.CONTAINERS`. All else follows from the columns:
which are ids, images, captions or labels, how labels are written, which rows belong to one image, where image
files are, and what is reported.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, overload

from encode_once.cache.errors import DataError, brief

Cells = Sequence[Any]  # of a column: texts, numbers, booleans, None, lists or dicts, as the file has them


@dataclass(frozen=True, repr=False)
class CodedCells(Sequence[str]):
    """The cells of a column of few different values, in one byte each."""

    codes: bytes | bytearray  # of each row
    values: list[str]  # by code

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return map(self.values.__getitem__, self.codes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        if isinstance(row, slice):
            return CodedCells(self.codes[row], self.values)
        return self.values[self.codes[row]]


@dataclass(frozen=True)
class Roles:
    """The columns of a table by their meaning; None or () if there is no such column."""

    id: str | None = None
    image: str | None = None
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unknown: str | None = None  # lists of labels that a row may or may not have

    @property
    def used(self) -> set[str]:
        """The names of all these columns."""
        names = (self.id, self.image, *self.captions, *self.labels, self.unknown)
        return {name for name in names if name is not None}


@dataclass
class RawTable:
    """The rows of a split, as columns of raw cells.

    A column that no role is found for is kept with the table if it is in `plain`, and reported otherwise.
    """

    split: str
    files: list[Path]  # from which the rows were read
    n_rows: int
    column_names: list[str]
    read: Callable[[str], Cells]  # name → cells, (rows,); raises DataError
    where: Callable[[int], str]  # a row's position, for messages: "train.csv:12"
    plain: list[str] = field(default_factory=list)  # names of the columns of texts and numbers
    # Columns whose cells are images' sources, as a path or `shard.tar::…`, instead of names to be looked up
    # → a function that returns the names of the image files, (rows,), from which ids are made.
    sources: Mapping[str, Callable[[], Cells]] = field(default_factory=dict)
    # Set by containers whose format says what a column means; the rest is decided from the columns.
    roles: Roles = field(default_factory=Roles)
    folders: list[Path] = field(default_factory=list)  # where image files may be, the best first
    warnings: list[str] = field(default_factory=list)
    also_read: list[Path] = field(default_factory=list)  # files that say where the rows are, such as listings
    unused: list[str] = field(default_factory=list)  # what else is in the files, and how to use it
    first_row: int = 0  # the number of its first row, if it is a piece of a table
    is_piece: bool = False
    # Of a table that is too large for memory, its rows in several tables; `read` then has none.
    pieces: Callable[[], Iterator["RawTable"]] | None = None

    @classmethod
    def of_columns(
        cls,
        split: str,
        files: Sequence[Path],
        columns: Mapping[str, Cells],
        where: Callable[[int], str],
        **more: Any,
    ) -> "RawTable":
        """A table whose columns are in memory; columns of texts and numbers are plain."""
        rows = len(next(iter(columns.values()), ()))
        if "plain" not in more:
            more["plain"] = [
                name
                for name, cells in columns.items()
                if not any(isinstance(cell, list | dict) for cell in cells)
            ]
        return cls(split, list(files), rows, list(columns), columns.__getitem__, where, **more)

    def rows(self, start: int, stop: int) -> "RawTable":
        """The table of these rows."""
        return replace(
            self,
            n_rows=stop - start,
            read=lambda name: self.read(name)[start:stop],
            where=lambda row: self.where(start + row),
            sources={
                name: lambda names=names: names()[start:stop]  # type: ignore[misc]
                for name, names in self.sources.items()
            },
            first_row=self.first_row + start,
        )

    def release(self) -> None:
        """Free the memory of the cells, which cannot be read any more."""
        nothing: dict[str, Cells] = {}
        self.read = nothing.__getitem__


def refuse_equal_names(place: object, names: Sequence[str]) -> None:
    """Raise if two columns of a table have one name."""
    for name, number in Counter(names).items():
        if number > 1:
            raise DataError(f"{place}: two columns share the name {brief(repr(name))}; rename one of them")


def concatenated(split: str, tables: Sequence[RawTable], folders: Sequence[Path] = ()) -> RawTable:
    """The rows of several files as one table. A column is plain if it is so in all of them.

    Raises:
        DataError: their columns differ, or what the format says of them.
    """
    first = tables[0]
    for table in tables:
        if sorted(table.column_names) != sorted(first.column_names):
            raise DataError(
                f"{table.files[0]}: its columns differ from those of {first.files[0]}; "
                "give them the same names"
            )
        if table.roles != first.roles or table.sources.keys() != first.sources.keys():
            raise DataError(
                f"{table.files[0]}: its columns are of other kinds than those of {first.files[0]}; "
                "write both files in the same way"
            )
    ends = list(accumulate(table.n_rows for table in tables))

    def where(row: int) -> str:
        number = bisect.bisect_right(ends, row)
        return tables[number].where(row - (ends[number - 1] if number else 0))

    def image_names(name: str) -> Cells:
        return list(chain.from_iterable(table.sources[name]() for table in tables))

    def read(name: str) -> Cells:
        if len(tables) == 1:
            return first.read(name)
        return list(chain.from_iterable(table.read(name) for table in tables))

    return RawTable(
        split=split,
        files=[path for table in tables for path in table.files],
        n_rows=ends[-1],
        column_names=first.column_names,
        read=read,
        where=where,
        plain=[name for name in first.plain if all(name in table.plain for table in tables)],
        sources={name: lambda name=name: image_names(name) for name in first.sources},  # type: ignore[misc]
        roles=first.roles,
        folders=list(folders) or first.folders,
        warnings=[line for table in tables for line in table.warnings],
        also_read=[path for table in tables for path in table.also_read],
        first_row=first.first_row,
        is_piece=first.is_piece,
        unused=[*dict.fromkeys(line for table in tables for line in table.unused)],
    )
