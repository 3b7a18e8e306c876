"""Read large CSV files by pandas' parser, three times as fast as by the csv module.

Only columns of 0 and 1 are parsed as numbers. All bytes of the file are accounted for afterwards: each is in
a text, is a digit of such a column, a quote, a delimiter or a line break; and each quote stands where strict
CSV has one. So the cells are exactly those that the csv module reads, or the file is left to it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encode_once.cache.input_files import open_regular
from encode_once.extract.readers.raw import CodedCells

CHUNK = 1 << 20  # bytes that are counted at a time
ROWS = 100_000  # that are parsed at a time
ENOUGH = 4  # columns of 0 and 1 that make it worth while
DIGITS = ("0", "1")
QUOTE, BREAKS = ord('"'), b"\r\n"


def read_plain(
    path: Path, delimiter: str, header_line: str, first_rows: Sequence[Sequence[str]]
) -> tuple[list[Sequence[str]], int] | None:
    """The columns of a file, and its number of rows; None if it is not plain enough to be sure.

    Args:
        header_line: the first line, with its line break; a byte order mark is not allowed.
        first_rows: some rows, which show which columns have only 0 and 1.
    """
    width = len(first_rows[0]) if first_rows else 0
    if any(len(row) != width for row in first_rows):
        return None
    digits = [i for i in range(width) if all(row[i] in DIGITS for row in first_rows)]
    if len(digits) < ENOUGH:
        return None
    counts = _count_bytes(path, delimiter)
    header = header_line.encode()
    if counts.quotes % 2 or not counts.strict_quotes or counts.nulls or not counts.delimiters:
        return None
    if counts.returns and counts.returns != counts.line_feeds:
        return None
    parsed = _parsed(path, delimiter, width, digits)
    if parsed is None:
        return None
    columns, rows, texts = parsed
    if texts.breaks:  # rows over several lines
        return None
    delimiters = rows * (width - 1)
    # Doubled quotes are in the texts once; all others are two around a field.
    quotes = counts.quotes - header.count(b'"') - texts.quotes
    breaks = counts.line_feeds + counts.returns - header.count(b"\n") - header.count(b"\r")
    if counts.delimiters - header.count(delimiter.encode()) != delimiters + texts.delimiters:
        return None
    if counts.size - len(header) != texts.size + quotes + rows * len(digits) + delimiters + breaks:
        return None
    return columns, rows


@dataclass
class _FileCounts:
    """What a file consists of."""

    size: int = 0  # bytes
    quotes: int = 0
    nulls: int = 0
    delimiters: int = 0
    line_feeds: int = 0
    returns: int = 0
    strict_quotes: bool = True  # whether each is at an end of its field, or doubled inside of one


@dataclass
class _TextCounts:
    """What the texts in cells consist of."""

    size: int = 0  # bytes
    quotes: int = 0
    delimiters: int = 0
    breaks: int = 0

    def add(self, text: str, delimiter: str) -> None:
        self.size += len(text) if text.isascii() else len(text.encode())
        self.quotes += text.count('"')
        self.delimiters += text.count(delimiter)
        self.breaks += text.count("\n") + text.count("\r")


def _count_bytes(path: Path, delimiter: str) -> _FileCounts:
    """Count the bytes of a file that matter in CSV."""
    counts = _FileCounts()
    before = b"\n"  # the last byte of the chunk before
    with open_regular(path) as file:
        chunk = file.read(CHUNK)
        while chunk:
            following = file.read(CHUNK)
            after = following[:1] or b"\n"
            quotes = chunk.count(b'"')
            if quotes and not _are_strict(before + chunk + after, counts.quotes, delimiter):
                counts.strict_quotes = False
            counts.size += len(chunk)
            counts.quotes += quotes
            counts.nulls += chunk.count(b"\0")
            counts.delimiters += chunk.count(delimiter.encode())
            counts.line_feeds += chunk.count(b"\n")
            counts.returns += chunk.count(b"\r")
            before, chunk = chunk[-1:], following
    return counts


def _are_strict(content: bytes, quotes_before: int, delimiter: str) -> bool:
    """Whether each quote opens a field, closes one, or is one of two inside of it (RFC 4180).

    Quotes open and close in turn; two inside of a field close it and open it again.

    Args:
        content: some bytes of a file, with the byte before them and the one after them, which are not judged.
        quotes_before: the number of quotes before these bytes.
    """
    codes = np.frombuffer(content, np.uint8)
    places = 1 + np.flatnonzero(codes[1:-1] == QUOTE)
    opening, closing = places[quotes_before % 2 :: 2], places[1 - quotes_before % 2 :: 2]
    may_be_beside = np.zeros(256, np.bool_)
    may_be_beside[[QUOTE, *BREAKS, *delimiter.encode()]] = True
    return bool(may_be_beside[codes[opening - 1]].all() and may_be_beside[codes[closing + 1]].all())


def _parsed(
    path: Path, delimiter: str, width: int, digits: Sequence[int]
) -> tuple[list[Sequence[str]], int, _TextCounts] | None:
    """The columns, the number of rows, and what the texts consist of; None if a column is not of digits."""
    import pandas as pd  # takes a second, which small tables need not

    texts: dict[int, list[str]] = {i: [] for i in range(width) if i not in set(digits)}
    codes = {i: bytearray() for i in digits}
    rows, counts = 0, _TextCounts()
    try:
        with (
            warnings.catch_warnings(action="error", category=pd.errors.ParserWarning),
            pd.read_csv(
                path,
                sep=delimiter,
                header=None,
                names=list(range(width)),
                index_col=False,
                skiprows=1,
                skip_blank_lines=False,
                na_filter=False,
                dtype={i: np.uint8 if i in codes else object for i in range(width)},
                encoding="utf-8",
                chunksize=ROWS,
            ) as chunks,
        ):
            for chunk in chunks:
                rows += len(chunk)
                for i, cells in texts.items():
                    new = chunk[i].tolist()
                    counts.add("".join(new), delimiter)
                    cells += new
                for i, of_column in codes.items():
                    values = chunk[i].to_numpy()
                    if values.max(initial=0) > 1:
                        return None
                    of_column += values.tobytes()
    except (ValueError, OverflowError, pd.errors.ParserWarning):  # ValueErrors are pandas' errors, too
        return None
    columns: list[Sequence[str]] = [
        CodedCells(codes[i], list(DIGITS)) if i in codes else texts[i] for i in range(width)
    ]
    return columns, rows, counts
