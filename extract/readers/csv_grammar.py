"""Text tables, read to the character.

A table is UTF-8 with a header line. Two grammars are known, and the first that the whole file fits is used:

1. CSV (RFC 4180), strictly: a quote inside a quoted field is doubled, and every row has the header's number
   of fields. Blank lines between rows are skipped.
2. Unescaped quotes, as the COCO-19 competition distributes its captions; the caption is the last column:

       row    = (field ",")* caption
       field  = text without quotes, commas or line breaks, or such a text (commas allowed) between quotes
       caption = '"' anything '"' at the end of a line, before the next row or the end of the file
               | text without quotes, to the end of the line

   Everything between a caption's outer quotes is taken literally: quotes, doubled quotes and line breaks.
   Where that could be read in two ways, a row lost in a caption or a caption cut into rows, it is an error.

What cannot be read is a `DataError` that names file and line; what can is read whole, and every oddity is
counted in a warning. No row is ever dropped.
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

REMEDY = "save the table with a CSV writer, which doubles the quotes inside a field"


@dataclass
class Record:
    line: int  # as an editor shows it, from 1: the first of the lines the record takes
    fields: list[str]


@dataclass
class Fault:
    """Why a file is not well-formed CSV, and where that first shows."""

    line: int
    reason: str


def read_lines(path: Path) -> list[str]:
    """The file's lines with their ends: \\n, \\r\\n or \\r, the breaks that csv knows and editors count."""
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such table; name the folder that holds it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from error
    try:
        text = raw.decode()
        bad = raw.find(b"\0")  # valid UTF-8, but only ever seen in UTF-16 and in files that are no text
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = len(raw[: bad + 1].splitlines())
        raise DataError(f"{path}:{line}: byte {raw[bad]:#04x} is not UTF-8 text; save the table as UTF-8")
    return list(io.StringIO(text, newline=""))


def read_csv(lines: list[str], delimiter: str = ",") -> tuple[list[Record], Fault | None]:
    """The records of a well-formed CSV, header first, up to the first fault."""
    with _fields_up_to(sum(map(len, lines))):
        return _records(lines, delimiter)


@contextmanager
def _fields_up_to(size: int) -> Iterator[None]:
    """csv's process-wide limit guards against runaway quotes; strict mode and the field count find those."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, size))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(lines: list[str], delimiter: str) -> tuple[list[Record], Fault | None]:
    records: list[Record] = []
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if records and fields and len(fields) != len(records[0].fields):
                return records, Fault(line, f"fields: {len(fields)}, in the header: {len(records[0].fields)}")
            if fields:
                records.append(Record(line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        return records, Fault(line, str(error))
    return records, None


class UnescapedReader:
    """The module's second grammar, for rows of `width` fields. Lines are indexed from 0 here."""

    def __init__(self, path: Path, lines: list[str], width: int, fault: Fault) -> None:
        field = r'("[^"\r\n]*"|[^",\r\n]*),'
        fields = field * (width - 1)
        self.field = re.compile(field)
        self.row = re.compile(fields + r'(?="|[^"]*\Z)')
        self.quoted_row = re.compile(fields + '(?=")')
        self.path, self.lines, self.fault = path, lines, fault

    def read(self, at: int) -> Iterator[Record]:
        """The records from line `at` on."""
        while (begin := self._next(at)) is not None:
            row = self.row.match(self.lines[begin])
            if row is None:
                raise self._error(
                    begin, "no row begins here: a field is missing, or the caption's outer quotes"
                )
            caption_at = row.end()
            quoted = self.lines[begin].startswith('"', caption_at)
            at = 1 + (self._closing(begin, caption_at) if quoted else begin)
            caption = "".join(self.lines[begin:at])[caption_at:].rstrip("\r\n")
            fields = [simple.strip('"') for simple in row.groups()]
            yield Record(begin + 1, [*fields, caption[1:-1] if quoted else caption])

    def _closing(self, begin: int, caption_at: int) -> int:
        """The line that ends the quoted caption beginning in line `begin`, column `caption_at`."""
        for at in range(begin, len(self.lines)):
            if at > begin and self.quoted_row.match(self.lines[at]):
                raise self._error(at, f"a row seems to begin inside the caption of line {begin + 1}")
            text = self.lines[at].rstrip("\r\n")
            if not text.endswith('"') or (at == begin and len(text) == caption_at + 1):
                continue
            following = self._next(at + 1)
            if following is None or self.row.match(self.lines[following]):
                return at
            if self.field.match(self.lines[following]):
                raise self._error(
                    following, f"a row with a fault, or more of the caption of line {begin + 1}?"
                )
        raise self._error(begin, "the caption's closing quote is missing")

    def _next(self, at: int) -> int | None:
        """The first line from `at` on that is not blank."""
        return next((i for i in range(at, len(self.lines)) if self.lines[i].rstrip("\r\n")), None)

    def _error(self, at: int, what: str) -> DataError:
        fault = f"CSV is well-formed until line {self.fault.line}: {self.fault.reason}"
        return DataError(f"{self.path}:{at + 1}: {what} ({fault}); {REMEDY}")
