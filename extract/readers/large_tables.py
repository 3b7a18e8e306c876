"""Tables too large for memory: their rows are read, checked and understood in pieces, and gathered on disk.

What the first piece shows decides about all rows: the columns, how their cells are written, and what
separates labels. Pieces that show something else are refused, or reported with their number of rows and the
option that decides. All else is as if the table was read as a whole.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import xxhash

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.keys import RowIndex, buckets
from encode_once.cache.packed import GZIP, suffix_of
from encode_once.cache.packed_columns import Texts, taken
from encode_once.cache.table import Table
from encode_once.cache.table_spool import ArrayFile, LabelFile, TableSpool
from encode_once.cache.terminal import short_list
from encode_once.extract.readers import separators
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.columns import Choice
from encode_once.extract.readers.csv_grammar import read_csv_in_pieces
from encode_once.extract.readers.image_lookup import ImageFinder
from encode_once.extract.readers.label_notation import EVERY
from encode_once.extract.readers.label_separation import (
    doubts,
    expanded,
    label_cells,
    report_separator,
    separator_to_write,
)
from encode_once.extract.readers.label_sets import NamedColumns
from encode_once.extract.readers.meaning import UnknownColumnsError, choice_of, understood
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, concatenated
from encode_once.extract.readers.separators import Separator
from encode_once.extract.readers.split_files import USUAL_SPLITS
from encode_once.extract.readers.split_rows import SplitRows
from encode_once.extract.readers.table_builder import (
    WITHOUT_FILE,
    build_piece,
    nothing_readable,
    nothing_to_encode,
)
from encode_once.extract.readers.table_files import (
    is_known,
    json_lines_in_pieces,
    parquet_in_pieces,
    parquet_rows,
    text_table,
)

LARGE_BYTES = 100_000_000  # of a text table; in memory, its rows take ten times as much
LARGE_ROWS = 1_000_000  # of a parquet table
GZIP_RATIO = 4  # bytes of a text table for each of its .gz file, about
PIECE_ROWS, PIECE_BYTES = 50_000, 1 << 25  # in memory at a time
TEXTS, LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
MOST_LINES = 50  # different warnings or notes that are kept
COUNTED = re.compile(r"(?P<problem>.*?: )(?P<number>[\d,]+)(?P<rest> \(first: .*)")
COUNTS = (
    re.compile(r"([\d,]+)( rows are of )([\d,]+)( images, .*)"),
    re.compile(r"([\d,]+)( of )([\d,]+)( label entries .*)"),
    re.compile(r"([\d,]+)( (?:rows|cells|blank cells|equal captions) .*)"),
)


def is_large(files: Sequence[Path]) -> bool:
    """Whether the files of a split are too large to be read as a whole."""
    suffix = suffix_of(files[0])
    if suffix == ".parquet":
        return sum(map(parquet_rows, files)) >= LARGE_ROWS
    nbytes = sum(path.stat().st_size * (GZIP_RATIO if path.suffix.lower() == GZIP else 1) for path in files)
    return suffix in TEXTS + LINES and nbytes >= LARGE_BYTES


def large_table(split: str, files: Sequence[Path], folders: Sequence[Path], bad_rows: BadRows) -> RawTable:
    """The table of a split, which is read in pieces."""

    def no_cells(name: str) -> Cells:
        raise DataError(f"{files[0]}: the column {name!r} is in its pieces")

    def pieces() -> Iterator[RawTable]:
        first_row = 0
        for path in files:
            for piece in _pieces_of(path, bad_rows):
                yield replace(
                    piece, split=split, files=[*files], folders=[*folders], first_row=first_row, is_piece=True
                )
                first_row += piece.n_rows

    return RawTable(
        split,
        [*files],
        0,
        [],
        no_cells,
        lambda row: f"{files[0]}, row {row}",
        folders=[*folders],
        pieces=pieces,
    )


def _pieces_of(path: Path, bad_rows: BadRows) -> Iterator[RawTable]:
    suffix = suffix_of(path)
    if suffix == ".parquet":
        yield from parquet_in_pieces(path, PIECE_ROWS, PIECE_BYTES)
    elif suffix in LINES:
        yield from json_lines_in_pieces(path, bad_rows, PIECE_ROWS, PIECE_BYTES)
    else:
        for number, table in enumerate(read_csv_in_pieces(path, is_known, PIECE_ROWS, PIECE_BYTES)):
            if table.lines or not number:  # the last piece may have no rows
                yield text_table(path, table)


def read_large(
    raw: Sequence[RawTable],
    options: ParsedOptions,
    label_separator: str | None,
    finder: ImageFinder,
    *,
    needs_content: bool = True,
) -> tuple[list[SplitRows], list[Table], list[str], list[str]]:
    """The tables of raw ones, at least one of which is read in pieces; see `build_tables`.

    Returns:
        What was understood of each split, but for its rows; its table; warnings about images; a line for each
        table without a known column next to others that have one.

    Raises:
        DataError: as there, or pieces contradict each other.
    """
    if label_separator == "":
        raise DataError("the label separator is empty; give a character, or a space for any whitespace")
    parts, tables, labels = list[SplitRows](), list[Table](), _LabelSeparator(label_separator)
    errors: dict[Path, UnknownColumnsError] = {}
    problems = list[str]()
    for table in raw:
        split = _Split(table, options, labels, finder, needs_content=needs_content)
        try:
            built = split.read(parts[0].choice if parts else None)
        except UnknownColumnsError as error:
            errors[table.files[0]] = error
            if table.split in USUAL_SPLITS:
                raise
            continue
        parts.append(split.part(built))
        tables.append(built)
        problems += split.problems
    if not parts:
        raise next(iter(errors.values()))
    _finish_labels(parts, tables, labels, label_separator)
    _check_contents(parts, tables, problems, finder, needs_content=needs_content)
    unread = [f"{path.name}: no column has a known name; --data {path} reads it alone" for path in errors]
    return parts, tables, problems + finder.unused(), unread


def without_label_sets(data: Path, columns: Sequence[NamedColumns]) -> list[str]:
    """A warning about label sets of an earlier extract, which a table that is read in pieces cannot have.

    Raises:
        UsageError: the user asks for new ones.
    """
    if new := next((named for named in columns if named.is_new), None):
        raise UsageError(
            f"--label-set {new.name}: {data} has a table that is read in pieces, for which there are no "
            "label sets: --label-column reads these labels instead"
        )
    if not columns:
        return []
    names = short_list([named.name for named in columns])
    return [
        f"{data}: label sets of an earlier extract are left out: {names}; a table that is read in pieces "
        "has none"
    ]


class _LabelSeparator:
    """What separates labels, as the first piece with labels shows."""

    def __init__(self, of_user: str | None) -> None:
        self._of_user = of_user
        self.decided = separators.chosen(of_user) if of_user else None
        self.otherwise: Counter[str] = Counter()  # how else pieces separate labels → rows

    def of(self, part: SplitRows) -> Separator:
        """The separator for a piece; another one that it speaks for is counted."""
        counts = label_cells(part)
        if self.decided is None:
            if not counts:
                return Separator(None, "")
            shared, (self.decided,) = separators.decide_each([counts])
            report_separator(part, self.decided, shared, counts)
        elif counts and not self._of_user:
            other, _ = separators.decide_each([counts])
            if other.text is None and len(counts) <= separators.FEW:
                return self.decided
            differing = {
                cell: rows
                for cell, rows in counts.items()
                if other.text != self.decided.text and other.split(cell)[0] != self.decided.split(cell)[0]
            }
            if differing:
                self.otherwise[other.shown] += sum(differing.values())
        return self.decided


class _Tally:
    """Lines about pieces: counts of equal lines are added up."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[list[int], str]] = {}  # template → counts, text with places for them
        self._others = 0

    def add(self, lines: Sequence[str]) -> None:
        for line in lines:
            key, counts, text = _template(line)
            if key in self._lines:
                before, text = self._lines[key]
                counts = [a + b for a, b in zip(before, counts, strict=True)]
            elif len(self._lines) == MOST_LINES:
                self._others += 1
                continue
            self._lines[key] = counts, text

    def complete(self, images: int) -> None:
        """Add the rows of pieces in which no rows are of one image to the line about joined rows."""
        for key, (counts, text) in self._lines.items():
            if key.startswith(" rows are of "):
                self._lines[key] = [counts[0] - counts[1] + images, images], text

    def lines(self) -> list[str]:
        shown = [
            text.format(*(f"{count:,}" for count in counts)) if counts else text
            for counts, text in self._lines.values()
        ]
        return [*shown, f"{self._others:,} further lines of this kind"] if self._others else shown


def _template(line: str) -> tuple[str, list[int], str]:
    """What makes a line equal to another one, its counts, and the line with {} for these, if it has any."""

    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    if match := COUNTED.fullmatch(line):
        counts = [int(match["number"].replace(",", ""))]
        return match["problem"], counts, f"{escaped(match['problem'])}{{}}{escaped(match['rest'])}"
    for pattern in COUNTS:
        if match := pattern.fullmatch(line):
            numbers, texts = match.groups()[::2], match.groups()[1::2]
            counts = [int(number.replace(",", "")) for number in numbers]
            return "#".join(texts), counts, "".join(f"{{}}{escaped(text)}" for text in texts)
    return line, [], line


class _Split:
    """Reads the pieces of one split."""

    def __init__(
        self,
        table: RawTable,
        options: ParsedOptions,
        labels: _LabelSeparator,
        finder: ImageFinder,
        *,
        needs_content: bool,
    ) -> None:
        self._table, self._options, self._labels = table, options, labels
        self._finder, self._needs_content = finder, needs_content
        self._spool, self._problem = TableSpool(), ""
        self._ids = ArrayFile(np.uint64)
        self._first: SplitRows | None = None
        self._formats: dict[str, str] = {}
        self._found = 0  # images
        self._warnings, self._of_images, self._notes = _Tally(), _Tally(), dict[str, _Tally]()
        self._late: Counter[str] = Counter()  # columns that the first piece lacks → rows that have them

    def read(self, train: Choice | None) -> Table:
        """The table of all rows; `train` as in `understood`.

        Raises:
            DataError: a row or a piece cannot be read.
        """
        pieces = self._table.pieces() if self._table.pieces else iter([self._table])
        first = next(pieces)
        choice = choice_of(first, self._options, train)
        key = choice.roles.id or choice.roles.image
        aligned = chain([first], (self._aligned(piece, first) for piece in pieces))
        for piece in _groups_together(aligned, key) if key and key not in first.sources else aligned:
            self._table.unused = [*dict.fromkeys([*self._table.unused, *piece.unused])]
            self._add(understood(piece, self._options, before=choice))
        if self._first is None:
            raise nothing_readable(self._table.files[0])
        table = self._spool.table()
        if not self._found:
            table.images = Texts.of(repeat("", len(table)))
        self._check_ids(table.ids, choice)
        return table

    def _aligned(self, piece: RawTable, first: RawTable) -> RawTable:
        """A piece with the columns of the first one."""
        if piece.column_names == first.column_names:
            return replace(piece, plain=first.plain)
        own, rows = {*piece.column_names}, piece.n_rows
        if suffix_of(piece.files[0]) not in LINES:
            raise DataError(
                f"{piece.where(0)}: the columns differ from those of {first.files[0]}; give them the same "
                "names"
            )
        for name in own - {*first.column_names}:
            self._late[name] += sum(cell is not None for cell in piece.read(name))
        return replace(
            piece,
            column_names=first.column_names,
            plain=first.plain,
            read=lambda name: piece.read(name) if name in own else [None] * rows,
        )

    def _add(self, part: SplitRows) -> None:
        for name, written in part.formats.items():
            before = self._formats.setdefault(name, written)
            if before != written:
                raise DataError(
                    f"{part.where(0)}: from here on the cells of the column {name!r} are {written}, and "
                    f"those before {before}: a table of this size must write all in one way"
                )
        if not part.ids:
            return
        built, problem = build_piece(part, self._labels.of(part), self._finder, self._options.unknown)
        images = 0 if part.without_image is None else len(built) - part.without_image
        has_content = images or any(built.captions) or not self._needs_content
        self._found += images
        if self._first is None:
            self._first = part
            if not has_content:
                raise DataError(problem or nothing_to_encode(part))
        self._problem = self._problem or problem
        self._spool.append(built)
        ids = (xxhash.xxh3_64_intdigest(row_id.encode("utf-8", "surrogateescape")) for row_id in built.ids)
        self._ids.append(np.fromiter(ids, np.uint64, len(built)))
        for line in part.warnings:
            (self._of_images if line.startswith(WITHOUT_FILE) else self._warnings).add([line])
        for role, lines in part.notes.items():
            self._notes.setdefault(role, _Tally()).add(lines)

    def _check_ids(self, ids: Sequence[str], choice: Choice) -> None:
        """Raise if rows of different pieces have one id."""
        hashes = self._ids.mapped()
        for rows in buckets(hashes):
            ordered = rows[np.argsort(hashes[rows], kind="stable")]
            of_bucket = hashes[ordered]
            for place in np.flatnonzero(of_bucket[1:] == of_bucket[:-1]).tolist():
                self._refuse_equal(ids, ordered[place : place + 2], choice)

    def _refuse_equal(self, ids: Sequence[str], rows: RowIndex, choice: Choice) -> None:
        first, second = taken(ids, rows)
        if first == second:
            column = choice.roles.id or choice.roles.image or "id"
            raise DataError(
                f"{self._table.files[0]}: the id {first!r} is in rows {rows[0] + 1:,} and {rows[1] + 1:,}; "
                f"rows of one id are joined if they follow each other: sort the table by {column}, or rename "
                "one"
            )

    @property
    def problems(self) -> list[str]:
        """What is wrong with the images, if there are none."""
        return [self._problem] if self._problem and not self._found else []

    def part(self, table: Table) -> SplitRows:
        """What was understood of all pieces, without their rows, which are in the table."""
        assert self._first is not None, "at least one row can be read"
        if self._late:
            self._warnings.add(
                [
                    f"{self._table.files[0]}: values that the first {PIECE_ROWS:,} rows lack: {name}, in "
                    f"{rows:,} rows; they are not read: a first row that has all names changes that"
                    for name, rows in self._late.items()
                ]
            )
        if joined_rows := self._notes.get("rows"):
            joined_rows.complete(len(table))
        return replace(
            self._first,
            warnings=[*self._warnings.lines(), *(self._of_images.lines() if self._found else [])],
            notes={role: tally.lines() for role, tally in self._notes.items()},
            ids=[],
            captions=None,
            labels=None,
            unknown=None,
            image_names=None,
            images=None,
            columns={name: [] for name in table.columns},
            without_image=len(table) - self._found if self._found else None,
        )


def _groups_together(pieces: Iterator[RawTable], key: str) -> Iterator[RawTable]:
    """The pieces, divided so that rows that follow each other with one value of a column are in the same."""
    tail: list[RawTable] = []
    for piece in pieces:
        whole = concatenated(piece.split, [*tail, piece], piece.folders) if tail else piece
        whole = replace(whole, files=piece.files)
        cells = whole.read(key)
        start = whole.n_rows
        while start and cells[start - 1] == cells[-1]:
            start -= 1
        if start:
            yield whole.rows(0, start)
        tail = [_detached(whole.rows(start, whole.n_rows))]
    yield from tail


def _detached(table: RawTable) -> RawTable:
    """The table with cells of its own, so that it does not hold the piece that it is a part of."""
    cells = {name: [*table.read(name)] for name in table.column_names}
    places = [table.where(row) for row in range(table.n_rows)]
    names = {name: [*of_rows()] for name, of_rows in table.sources.items()}
    return replace(
        table,
        read=cells.__getitem__,
        where=places.__getitem__,
        sources={name: partial(names.__getitem__, name) for name in names},
    )


def _finish_labels(
    parts: Sequence[SplitRows], tables: Sequence[Table], labels: _LabelSeparator, of_user: str | None
) -> None:
    """Decide what needs the names of all labels."""
    names = {name for table in tables for name in _names(table.labels)}
    unknown = {name for table in tables for name in _names(table.unknown)} - {*EVERY}
    path = parts[0].files[0]
    written = of_user or (labels.decided.text if labels.decided else None)
    separator = separator_to_write(path, names, written, of_user)
    for table in tables:
        table.label_separator = separator
        if EVERY[0] in _names(table.unknown):
            rows = expanded(table.unknown, table.labels or (), sorted(names))
            file = LabelFile()
            while block := [*islice(rows, PIECE_ROWS)]:
                file.extend(block)
            table.unknown = file.mapped()
    if labelled := [part for part, table in zip(parts, tables, strict=True) if table.labels is not None]:
        labelled[0].warnings += doubts(labelled[0].files[0], names, unknown)
    for shown, rows_otherwise in labels.otherwise.items():
        assert labels.decided is not None, "others are compared with it"
        labelled[0].warnings.append(
            f"{path}: labels that seem to be {shown}: {rows_otherwise:,} rows; all are read as "
            f"{labels.decided.shown}, as the first rows are: --label-separator sets one for all"
        )


def _names(labels: object) -> Sequence[str]:
    return getattr(labels, "names", ())


def _check_contents(
    parts: Sequence[SplitRows],
    tables: Sequence[Table],
    problems: Sequence[str],
    finder: ImageFinder,
    *,
    needs_content: bool,
) -> None:
    """Raise as `build_tables` does if there is nothing to encode."""
    if any(any(table.images) for table in tables):
        return
    captioned = [any(table.captions) or not needs_content for table in tables]
    if problems and (finder.is_chosen or not all(captioned)):
        raise DataError(problems[0])
    if not problems and not all(captioned):
        raise DataError(nothing_to_encode(parts[0]))
