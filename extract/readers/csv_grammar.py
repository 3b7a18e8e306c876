"""Read text tables exactly, character by character.

A table is UTF-8, or UTF-16 with a byte order mark, with a header line; a line `sep=;`, comments and titles
may precede it. The delimiter is the comma, semicolon, tab or bar with which header and first row have the
same number of fields. A row is read by the first grammar that it matches:

1. Strict CSV (RFC 4180): a quote inside a quoted field is doubled, and every row has as many fields as the
   header. Blank rows are skipped.
2. Unescaped quotes, as in the captions of the COCO-19 competition; the caption is the last column:

       row    = (field ",")* caption
       field  = text without quotes, commas or line breaks, or such a text (commas allowed) between quotes
       caption = '"' anything '"' at the end of a line, before the next row or the end of the file
               | text without quotes, to the end of the line

   Everything between a caption's outer quotes is taken literally: quotes, doubled quotes and line breaks.
   It is an error if this is ambiguous, so that no row is lost in a caption and no caption is cut into rows.
   With other delimiters than the comma, the fields of such a line are taken literally.

Rows of the second grammar are counted. Text that cannot be read raises a `DataError` with file and line. No
row is ever dropped.
"""

import codecs
import csv
import io
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from encode_once.cache.errors import DataError, MissingDataError, brief
from encode_once.cache.input_files import Limit, read_regular
from encode_once.cache.packed import GZIP, open_packed, suffix_of
from encode_once.extract.readers.plain_csv import read_plain
from encode_once.extract.readers.raw import CodedCells

REMEDY = "save the table with a CSV writer, which doubles the quotes inside a field"
DELIMITERS = ",;\t|"
SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE | re.DOTALL)  # Excel's first line
HEAD = 1 << 16  # characters in which the header and the first row end
MOST_BEFORE = 20  # lines before a header
LARGE = 1 << 22  # bytes of a file from which on the fastest parser is worth while
BATCH = 20_000  # rows that become columns at a time
MOST_VALUES = 256  # different values in a column that is held as one byte a cell
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CsvFaultError(Exception):
    """Why a file is not strict CSV, and the line where that is detected."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


@dataclass
class CsvTable:
    """A text table as columns."""

    header: list[str]  # the names as they are in the file
    line: int  # of the header, counted from 1
    columns: list[Sequence[str]]
    lines: Sequence[int]  # the first line of each row
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    skipped: int  # lines before the header
    blank_after: bool  # whether each delimiter is followed by a blank, which belongs to it
    titles: tuple[str, ...] = ()  # what is in the lines before the header, unless it is `sep=`

    def reader(self, lines: Iterable[str]) -> Any:
        return csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.blank_after)


class _Column:
    """The cells of a column: one byte each as long as they have few different values."""

    def __init__(self) -> None:
        self.codes, self.values = bytearray(), dict[str, int]()
        self.cells: list[str] | None = None

    def extend(self, cells: Sequence[str]) -> None:
        if self.cells is not None:
            self.cells.extend(cells)
            return
        for value in set(cells):
            self.values.setdefault(value, len(self.values))
        if len(self.values) > MOST_VALUES:
            self.cells = [*CodedCells(self.codes, [*self.values]), *cells]
            return
        if all(len(value) == 1 and value.isascii() for value in self.values):
            translated = bytearray(256)
            for value, code in self.values.items():
                translated[ord(value)] = code
            self.codes += "".join(cells).encode().translate(translated)  # four times as fast as a lookup
        else:
            self.codes += bytes(map(self.values.__getitem__, cells))

    def finished(self) -> Sequence[str]:
        return CodedCells(self.codes, [*self.values]) if self.cells is None else self.cells


def read_csv(path: Path, caption_last: Callable[[str], bool], is_known: Callable[[str], bool]) -> CsvTable:
    """Read a text table.

    Args:
        caption_last: whether a last column of this name holds captions, whose quotes may be unescaped.
        is_known: whether a column may have this name, by which a header after other lines is recognised.

    Raises:
        DataError: the text fits neither grammar, or is not UTF-8.
    """
    encoding = _encoding(path)
    try:
        with io.TextIOWrapper(open_packed(path), encoding, newline="") as file:
            head = file.read(HEAD)
            dialect = _dialect(head, is_known, prefers_tab=suffix_of(path) == ".tsv")
        if len(head) == HEAD and encoding == "utf-8-sig" and (table := _plain(path, head, dialect)):
            return table
        with (
            io.TextIOWrapper(open_packed(path), encoding, newline="") as file,
            _any_field_size(),
        ):
            return _strict(path, file, dialect)
    except UnicodeDecodeError:
        read_lines(path)  # raises an error that names the line
        raise
    except CsvFaultError as fault:
        return _repaired(path, dialect, fault, caption_last)


def _plain(path: Path, head: str, dialect: _Dialect) -> CsvTable | None:
    """A large table of strict CSV with columns of 0 and 1, by a faster parser; None if it is none."""
    lines = io.StringIO(head, newline="").readlines()[:-1]
    if (
        path.suffix.lower() == GZIP
        or not lines
        or dialect.skipped
        or dialect.blank_after
        or path.stat().st_size < LARGE
    ):
        return None
    try:
        header, *first_rows = dialect.reader(lines)
    except csv.Error:
        return None
    if not header or not all(map(str.strip, header)) or any(len(row) != len(header) for row in first_rows):
        return None
    plain = read_plain(path, dialect.delimiter, lines[0], first_rows)
    if plain is None:
        return None
    columns, rows = plain
    return CsvTable(header, 1, columns, range(2, rows + 2))


def _encoding(path: Path) -> str:
    """UTF-16 if it is marked so, else UTF-8.

    Raises:
        DataError: a null byte, which is valid UTF-8 but occurs only in UTF-16 and in binary files.
    """
    with open_packed(path) as file:
        chunk = file.read(HEAD)
        if chunk.startswith(UTF16):
            return "utf-16"
        while chunk:
            if b"\0" in chunk:
                read_lines(path)
            chunk = file.read(HEAD)
    return "utf-8-sig"


def read_lines(path: Path, limit: Limit | None = None) -> list[str]:
    """The file's lines including line breaks: \\n, \\r\\n or \\r, as for the csv module and in editors."""
    try:
        if path.suffix.lower() == GZIP:
            with open_packed(path) as file:
                raw = file.read().removeprefix(codecs.BOM_UTF8)
        else:
            raw = read_regular(path, limit).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no such table; give the folder that contains it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    marked = raw.startswith(UTF16)
    try:
        text = raw.decode("utf-16" if marked else "utf-8")
        bad = -1 if marked else raw.find(b"\0")
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = len(raw[: bad + 1].splitlines())
        raise DataError(f"{path}:{line}: byte {raw[bad]:#04x} is not UTF-8 text; save the table as UTF-8")
    return list(io.StringIO(text, newline=""))


def _dialect(head: str, is_known: Callable[[str], bool], *, prefers_tab: bool) -> _Dialect:
    """The delimiter by the header and the first row."""
    lines = io.StringIO(head, newline="").readlines()
    skipped = next((i for i, line in enumerate(lines) if line.strip("\r\n")), 0)
    if lines and (sep := SEP.fullmatch(lines[skipped])):
        return _Dialect(sep[1], skipped + 1, blank_after=False)
    before = _lines_before_header(lines, is_known)
    titles = tuple(line.strip() for line in lines[:before] if line.strip())
    best = _Dialect(",", before, blank_after=False, titles=titles)
    score = (False, 1)
    for delimiter in sorted(DELIMITERS, key="\t".__ne__) if prefers_tab else DELIMITERS:
        records = [record for record in _first_records(lines[before:], delimiter) if any(record)][:2]
        header, row = (records * 2)[:2] if records else ([], [])
        width = min(len(header), len(row))
        fits = not any([*header[width:], *row[width:]])  # empty fields at the end do not count
        if width > 1 and (fits, len(header)) > score:
            after = [cell for cell in (*header[1:], *row[1:]) if cell]
            best = _Dialect(delimiter, before, all(cell.startswith(" ") for cell in after), titles)
            score = fits, len(header)
    return best


def _lines_before_header(lines: Sequence[str], is_known: Callable[[str], bool]) -> int:
    """How many lines are comments or titles, before a header that has a known name; else 0."""
    for number, line in enumerate(lines[:MOST_BEFORE]):
        records = [next(_first_records([line], delimiter), []) for delimiter in DELIMITERS]
        filled = [[cell for cell in record if cell.strip()] for record in records]
        if any(len(cells) > 1 and any(map(is_known, cells)) for cells in filled):
            return number
        is_header = any(len(cells) > 1 or any(map(is_known, cells)) for cells in filled)
        if is_header and not line.startswith("#"):
            return 0
    return 0


def _first_records(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error:
        return


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Raise csv's limit of field sizes, which is process-wide, for a while.

    It guards against unclosed quotes; strict mode and field counts detect those.
    """
    before = csv.field_size_limit()
    csv.field_size_limit((1 << 31) - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_csv_in_pieces(
    path: Path, is_known: Callable[[str], bool], rows: int, characters: int
) -> Iterator[CsvTable]:
    """The rows of a text table of the first grammar, of which only some are in memory.

    Args:
        is_known: as in `read_csv`.
        rows, characters: in a piece, at most but for its last row.

    Raises:
        DataError: the text has another grammar, or is not UTF-8.
    """
    encoding, line = _encoding(path), 1
    try:
        with io.TextIOWrapper(open_packed(path), encoding, newline="") as file:
            dialect = _dialect(file.read(HEAD), is_known, prefers_tab=suffix_of(path) == ".tsv")
        with io.TextIOWrapper(open_packed(path), encoding, newline="") as file, _any_field_size():
            for table in _strict_pieces(path, file, dialect, rows, characters):
                line = table.lines[-1] if table.lines else line
                yield table
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: after line {line}, byte {error.object[error.start]:#04x} is not UTF-8 text; save the "
            "table as UTF-8"
        ) from error
    except CsvFaultError as fault:
        raise DataError(
            f"{path}:{fault.line}: not well-formed CSV ({fault.reason}), as a table of this size must be; "
            f"{REMEDY}"
        ) from fault


def _strict(path: Path, file: IO[str], dialect: _Dialect) -> CsvTable:
    """Read the first grammar.

    Raises:
        CsvFaultError: the text has another.
    """
    (table,) = _strict_pieces(path, file, dialect)
    return table


def _strict_pieces(
    path: Path, file: IO[str], dialect: _Dialect, rows: float = math.inf, characters: float = math.inf
) -> Iterator[CsvTable]:
    for _ in range(dialect.skipped):
        file.readline()
    reader = dialect.reader(file)
    builder, count = _Builder(dialect), 0
    start = builder.next_line
    try:
        for fields in reader:
            builder.add(start, fields)
            start = dialect.skipped + reader.line_num + 1
            count += sum(map(len, fields)) if characters < math.inf else 0
            if len(builder.lines) >= rows or count > characters:
                yield builder.finished(path)
                builder, count = builder.following(), 0
    except csv.Error as error:
        raise CsvFaultError(start, str(error)) from error
    yield builder.finished(path)


class _Builder:
    """Makes columns of records, which are added header first."""

    def __init__(self, dialect: _Dialect) -> None:
        self.next_line = dialect.skipped + 1
        self.titles = dialect.titles
        self.header: list[str] | None = None
        self.line = 0
        self.lines = array("Q")
        self.batch: list[list[str]] = []
        self.columns: list[_Column] = []
        self.blank: list[int] = []  # lines of blank rows
        self.is_fitted = False

    def following(self) -> "_Builder":
        """A builder of the rows that follow."""
        builder = copy(self)
        builder.titles, builder.lines, builder.blank = (), array("Q"), []
        builder.columns = [_Column() for _ in self.columns]
        return builder

    def add(self, line: int, fields: list[str]) -> None:
        """Add a record that begins at a line.

        Raises:
            CsvFaultError: it has not as many fields as the header.
        """
        if self.header is None:
            if fields:
                self.header, self.line = fields, line
            return
        if not fields:
            return
        if not fields[0].strip() and not any(map(str.strip, fields)):
            self.blank.append(line)
            return
        if not self.is_fitted:
            self._fit(fields)
        if len(fields) != len(self.header):
            raise CsvFaultError(line, f"fields: {len(fields)}, in the header: {len(self.header)}")
        self.lines.append(line)
        self.batch.append(fields)
        if len(self.batch) == BATCH:
            self._flush()

    def _fit(self, fields: list[str]) -> None:
        """Add or remove columns without a name and, in the first row, without content."""
        assert self.header is not None, "the header is the first record"
        self.is_fitted = True
        width = len(fields)
        if not any(fields[len(self.header) :]):
            self.header += [""] * (width - len(self.header))
        if not any(map(str.strip, self.header[width:])):
            del self.header[width:]
        self.columns = [_Column() for _ in self.header]

    def _flush(self) -> None:
        for column, cells in zip(self.columns, zip(*self.batch, strict=True), strict=False):
            column.extend(cells)
        self.batch = []

    def finished(self, path: Path) -> CsvTable:
        self._flush()
        warnings = []
        if self.titles:
            first = brief(repr(self.titles[0]))
            warnings.append(
                f"{path}: lines before the header: {len(self.titles)} ({first}); they are skipped"
            )
        if self.blank:
            warnings.append(
                f"rows without any content: {len(self.blank)} (first: {path}:{self.blank[0]}); "
                "they are skipped"
            )
        columns = [column.finished() for column in self.columns] or [[] for _ in self.header or ()]
        return CsvTable(self.header or [], self.line, columns, self.lines, warnings)


def _repaired(
    path: Path, dialect: _Dialect, fault: CsvFaultError, caption_last: Callable[[str], bool]
) -> CsvTable:
    """Read a file with rows of the second grammar.

    Raises:
        DataError: rows fit neither grammar.
    """
    lines = read_lines(path)
    builder = _Builder(dialect)
    rest = iter(lines[dialect.skipped :])
    header = dialect.reader(rest)
    with _any_field_size():
        try:
            while builder.header is None:
                builder.add(dialect.skipped + header.line_num + 1, next(header))
        except (csv.Error, StopIteration):
            raise DataError(f"{path}:1: the header cannot be read: {fault.reason}") from None
        names = builder.header
        if dialect.delimiter == "," and not caption_last(names[-1]):
            raise DataError(
                f"{path}:{fault.line}: not well-formed CSV ({fault.reason}), and unescaped quotes "
                f"and commas can be read only where captions are the last column; {REMEDY}"
            )
        reader = _UnescapedReader(path, lines, dialect, len(names), fault)
        for line, fields in reader.read(dialect.skipped + header.line_num):
            builder.add(line, fields)
    table = builder.finished(path)
    table.warnings.append(reader.warning(table))
    return table


class _UnescapedReader:
    """A reader of the second grammar, for rows of `width` fields. Lines are indexed from 0 here."""

    def __init__(
        self, path: Path, lines: list[str], dialect: _Dialect, width: int, fault: CsvFaultError
    ) -> None:
        field = r'("[^"\r\n]*"|[^",\r\n]*),'
        fields = field * (width - 1)
        self.field = re.compile(field)
        self.row = re.compile(fields + r'(?="|[^"]*\Z)')
        self.quoted_row = re.compile(fields + '(?=")')
        strict = rf'("(?:[^"]|"")*"|[^"{re.escape(dialect.delimiter)}\r\n]*)'
        self.strict_row = re.compile(rf"{strict}(?:{re.escape(dialect.delimiter)}{strict}){{{width - 1}}}\s*")
        self.path, self.lines, self.dialect, self.width, self.fault = path, lines, dialect, width, fault
        self.repaired: list[int] = []  # lines of rows that are not strict

    def read(self, start: int) -> Iterator[tuple[int, list[str]]]:
        """The first line, counted from 1, and the fields of each record from line `start` on."""
        line = start
        while (begin := self._next(line)) is not None:
            following = self._next(begin + 1)
            fields = self._strict(begin, begin + 1)
            if fields and (following is None or self._begins_row(following)):
                line = begin + 1
            elif self.dialect.delimiter != ",":
                line, fields = begin + 1, self._literal(begin)
            else:
                line, fields = self._unescaped(begin)
            yield begin + 1, fields

    def _strict(self, begin: int, end: int) -> list[str] | None:
        """The fields of lines that are one record of strict CSV, else None."""
        if not self.strict_row.fullmatch("".join(self.lines[begin:end])):  # csv allows quotes within fields
            return None
        (fields,) = self.dialect.reader(self.lines[begin:end])
        return list(fields)

    def _begins_row(self, line: int) -> bool:
        return self.dialect.delimiter != "," or bool(
            self.row.match(self.lines[line]) or self._strict(line, line + 1)
        )

    def _literal(self, line: int) -> list[str]:
        fields = self.lines[line].rstrip("\r\n").split(self.dialect.delimiter)
        if len(fields) != self.width:
            raise self._error(line, f"fields: {len(fields)}, in the header: {self.width}")
        self.repaired.append(line)
        return fields

    def _unescaped(self, begin: int) -> tuple[int, list[str]]:
        """The line after the record that begins at a line, and its fields."""
        row = self.row.match(self.lines[begin])
        if row is None:
            raise self._error(begin, "no row begins here: a field or the caption's outer quotes are missing")
        caption_at = row.end()
        quoted = self.lines[begin].startswith('"', caption_at)
        end = 1 + (self._closing(begin, caption_at) if quoted else begin)
        if fields := self._strict(begin, end):
            return end, fields
        self.repaired.append(begin)
        caption = "".join(self.lines[begin:end])[caption_at:].rstrip("\r\n")
        fields = [field.strip('"') for field in row.groups()]
        return end, [*fields, caption[1:-1] if quoted else caption]

    def _closing(self, begin: int, caption_at: int) -> int:
        """The last line of the quoted caption that begins at line `begin`, column `caption_at`."""
        for line in range(begin, len(self.lines)):
            if line > begin and self.quoted_row.match(self.lines[line]):
                raise self._error(line, f"a row seems to begin inside the caption of line {begin + 1}")
            text = self.lines[line].rstrip("\r\n")
            if not text.endswith('"') or (line == begin and len(text) == caption_at + 1):
                continue
            following = self._next(line + 1)
            if following is None or self._begins_row(following):
                return line
            if self.field.match(self.lines[following]):
                raise self._error(
                    following, f"either a faulty row, or part of the caption of line {begin + 1}"
                )
        raise self._error(begin, "the caption's closing quote is missing")

    def _next(self, start: int) -> int | None:
        """The first line from `start` on that is not blank."""
        return next((i for i in range(start, len(self.lines)) if self.lines[i].rstrip("\r\n")), None)

    def _error(self, line: int, problem: str) -> DataError:
        fault = f"CSV is well-formed until line {self.fault.line}: {self.fault.reason}"
        return DataError(f"{self.path}:{line + 1}: {problem} ({fault}); {REMEDY}")

    def warning(self, table: CsvTable) -> str:
        """The rows that were read literally."""
        warning = (
            f"{self.path}:{self.fault.line}: not well-formed CSV ({self.fault.reason}); rows whose quotes or "
            f"commas were read literally: {len(self.repaired)} (first: line {self.repaired[0] + 1})"
        )
        cells = zip(table.lines, table.columns[-1], strict=True)
        split = [line for line, cell in cells if re.search(r"[\r\n]", cell)]
        if split:
            warning += f"; captions over several lines: {len(split)} (first: {self.path}:{split[0]})"
        return warning
