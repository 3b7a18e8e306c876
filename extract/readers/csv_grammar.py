"""Read text tables exactly, character by character.

A table is UTF-8 with a header line. There are two grammars; the first that the whole file matches is used:

1. Strict CSV (RFC 4180): a quote inside a quoted field is doubled, and every row has as many fields as the
   header. Blank lines between rows are skipped.
2. Unescaped quotes, as in the captions of the COCO-19 competition; the caption is the last column:

       row    = (field ",")* caption
       field  = text without quotes, commas or line breaks, or such a text (commas allowed) between quotes
       caption = '"' anything '"' at the end of a line, before the next row or the end of the file
               | text without quotes, to the end of the line

   Everything between a caption's outer quotes is taken literally: quotes, doubled quotes and line breaks.
   It is an error if this is ambiguous, so that no row is lost in a caption and no caption is cut into rows.

Text that cannot be read raises a `DataError` with file and line. No row is ever dropped.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.cache.input_files import Limit, read_regular

REMEDY = "save the table with a CSV writer, which doubles the quotes inside a field"


@dataclass
class CsvRecord:
    line: int  # the first line of the record, counted from 1
    fields: list[str]


@dataclass
class Fault:
    """Why a file is not well-formed CSV, and the line where that is detected."""

    line: int
    reason: str


def read_lines(path: Path, limit: Limit | None = None) -> list[str]:
    """The file's lines including line breaks: \\n, \\r\\n or \\r, as for the csv module and in editors."""
    try:
        raw = read_regular(path, limit).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no such table; give the folder that contains it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = raw.decode()
        bad = raw.find(b"\0")  # valid UTF-8, but occurs only in UTF-16 and in binary files
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = len(raw[: bad + 1].splitlines())
        raise DataError(f"{path}:{line}: byte {raw[bad]:#04x} is not UTF-8 text; save the table as UTF-8")
    return list(io.StringIO(text, newline=""))


def read_csv(lines: list[str], delimiter: str = ",") -> tuple[list[CsvRecord], Fault | None]:
    """The records of a CSV file, header first, up to the first fault."""
    with _fields_up_to(sum(map(len, lines))):
        return _records(lines, delimiter)


@contextmanager
def _fields_up_to(size: int) -> Iterator[None]:
    """Raise csv's limit of field sizes, which is process-wide, for a while.

    It guards against unclosed quotes; strict mode and field counts detect those.
    """
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, size))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(lines: list[str], delimiter: str) -> tuple[list[CsvRecord], Fault | None]:
    records: list[CsvRecord] = []
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if records and fields and len(fields) != len(records[0].fields):
                return records, Fault(line, f"fields: {len(fields)}, in the header: {len(records[0].fields)}")
            if fields:
                records.append(CsvRecord(line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        return records, Fault(line, str(error))
    return records, None


class UnescapedReader:
    """A reader of the second grammar, for rows of `width` fields. Lines are indexed from 0 here."""

    def __init__(self, path: Path, lines: list[str], width: int, fault: Fault) -> None:
        field = r'("[^"\r\n]*"|[^",\r\n]*),'
        fields = field * (width - 1)
        self.field = re.compile(field)
        self.row = re.compile(fields + r'(?="|[^"]*\Z)')
        self.quoted_row = re.compile(fields + '(?=")')
        self.path, self.lines, self.fault = path, lines, fault

    def read(self, start: int) -> Iterator[CsvRecord]:
        """The records from line `start` on."""
        line = start
        while (begin := self._next(line)) is not None:
            row = self.row.match(self.lines[begin])
            if row is None:
                raise self._error(
                    begin, "no row begins here: a field or the caption's outer quotes are missing"
                )
            caption_at = row.end()
            quoted = self.lines[begin].startswith('"', caption_at)
            line = 1 + (self._closing(begin, caption_at) if quoted else begin)
            caption = "".join(self.lines[begin:line])[caption_at:].rstrip("\r\n")
            fields = [field.strip('"') for field in row.groups()]
            yield CsvRecord(begin + 1, [*fields, caption[1:-1] if quoted else caption])

    def _closing(self, begin: int, caption_at: int) -> int:
        """The last line of the quoted caption that begins at line `begin`, column `caption_at`."""
        for line in range(begin, len(self.lines)):
            if line > begin and self.quoted_row.match(self.lines[line]):
                raise self._error(line, f"a row seems to begin inside the caption of line {begin + 1}")
            text = self.lines[line].rstrip("\r\n")
            if not text.endswith('"') or (line == begin and len(text) == caption_at + 1):
                continue
            following = self._next(line + 1)
            if following is None or self.row.match(self.lines[following]):
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
