"""Reading a user's data folder: `train.csv`, optionally `test.csv`, and the images in `data/` or `images/`.

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
import os
import posixpath
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cache.errors import DataError, MissingDataError
from cache.tables import Table

LAYOUT = (
    "a data folder holds train.csv (ImageID,Labels,Caption), test.csv (ImageID,Caption) or both, "
    "and the images in data/ or images/"
)
REMEDY = "save the table with a CSV writer, which doubles the quotes inside a field"
KNOWN_COLUMNS = ("imageid", "labels", "caption")  # casefolded: names are matched so
# Only for telling pictures from other files: an id that names a file in full may have any suffix.
IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_folder(data: Path, *, label_separator: str | None = None) -> tuple[dict[str, Table], list[str]]:
    """The tables of a data folder, by the names "train" and "test", and a line for each kind of oddity.

    `train.csv` must have labels; `test.csv` may, separated as those of `train.csv` are. Without `data/` or
    `images/` the tables have captions alone. Raises `MissingDataError` where there is no table, and
    `DataError` where one cannot be read or none of the rows has an image.
    """
    paths = {split: path for split in ("train", "test") if (path := data / f"{split}.csv").is_file()}
    if not paths:
        raise MissingDataError(f"{data}: neither train.csv nor test.csv is there; {LAYOUT}")
    sources: dict[str, _Source] = {}
    for split, path in paths.items():
        required = ("ImageID", "Labels") if split == "train" else ("ImageID",)
        sources[split] = _read(path, required, label_separator)
        label_separator = sources[split].table.label_separator
    images = next((data / name for name in ("data", "images") if (data / name).is_dir()), None)
    unnamed = _find_images(list(sources.values()), images)
    warnings = [line for source in sources.values() for line in source.warnings] + unnamed
    return {split: source.table for split, source in sources.items()}, warnings


def read_table(
    path: Path, images: Path | None, *, label_separator: str | None = None
) -> tuple[Table, list[str]]:
    """One table, labelled or not, its images in the folder `images`, and a line for each kind of oddity.

    `label_separator` is decided by the label column where it is None; " " stands for any whitespace.
    Raises `MissingDataError` where the table or the folder is not there, `DataError` as `read_folder`.
    """
    source = _read(path, ("ImageID",), label_separator)
    unnamed = _find_images([source], images)
    return source.table, source.warnings + unnamed


@dataclass
class _Source:
    """A table with the line on which each row begins, to say where something was found."""

    path: Path
    lines: list[int]
    table: Table
    warnings: list[str]

    def where(self, row: int) -> str:
        return f"{self.path}:{self.lines[row]}"

    def count(self, what: str, rows: list[int], then: str) -> None:
        """Adds the warning that these rows are odd, if there are any."""
        if rows:
            first = f"{self.where(rows[0])}, id {self.table.ids[rows[0]]!r}"
            self.warnings.append(f"{what}: {len(rows)} (first: {first}); {then}")


@dataclass
class _Record:
    line: int  # as an editor shows it, from 1: the first of the lines the record takes
    fields: list[str]


@dataclass
class _Fault:
    """Why a file is not well-formed CSV, and where that first shows."""

    line: int
    reason: str


# ---------------------------------------------------------------------------------------------- the file


def _read_lines(path: Path) -> list[str]:
    """The file's lines with their ends: \\n, \\r\\n or \\r, the breaks that csv knows and editors count."""
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such table; {LAYOUT}") from None
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


def _read_csv(lines: list[str]) -> tuple[list[_Record], _Fault | None]:
    """The records of a well-formed CSV, header first, up to the first fault."""
    # A process-wide limit that guards against runaway quotes; strict mode and the field count find those.
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines))))
    records: list[_Record] = []
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for fields in reader:
            if records and fields and len(fields) != len(records[0].fields):
                return records, _Fault(
                    line, f"fields: {len(fields)}, in the header: {len(records[0].fields)}"
                )
            if fields:
                records.append(_Record(line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        return records, _Fault(line, str(error))
    return records, None


class _UnescapedReader:
    """The module's second grammar, for rows of `width` fields. Lines are indexed from 0 here."""

    def __init__(self, path: Path, lines: list[str], width: int, fault: _Fault) -> None:
        field = r'("[^"\r\n]*"|[^",\r\n]*),'
        fields = field * (width - 1)
        self.field = re.compile(field)
        self.row = re.compile(fields + r'(?="|[^"]*\Z)')
        self.quoted_row = re.compile(fields + '(?=")')
        self.path, self.lines, self.fault = path, lines, fault

    def read(self, at: int) -> Iterator[_Record]:
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
            yield _Record(begin + 1, [*fields, caption[1:-1] if quoted else caption])

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


def _read_records(path: Path, required: Sequence[str]) -> tuple[list[_Record], dict[str, int], list[str]]:
    """All records, header first; the index of each column by its casefolded name; the warnings."""
    lines = _read_lines(path)
    records, fault = _read_csv(lines)
    if not records:
        what = f"the header cannot be read: {fault.reason}" if fault else "the table is empty"
        raise DataError(f"{path}:1: {what}; {LAYOUT}")
    header = records[0]
    columns = _columns(path, header, required)
    warnings: list[str] = []
    if fault:
        if columns.get("caption") != len(header.fields) - 1:
            raise DataError(
                f"{path}:{fault.line}: not well-formed CSV ({fault.reason}), and unescaped quotes "
                f"can be told apart only where Caption is the last column; {REMEDY}"
            )
        records = [header, *_UnescapedReader(path, lines, len(header.fields), fault).read(header.line)]
        warnings.append(_unescaped_warning(path, fault, records))
    if len(records) == 1:
        raise DataError(f"{path}:{header.line}: the table has a header and no rows; {LAYOUT}")
    return records, columns, warnings


def _unescaped_warning(path: Path, fault: _Fault, records: list[_Record]) -> str:
    warning = (
        f"{path}:{fault.line}: not well-formed CSV ({fault.reason}); "
        "the captions' inner quotes were read literally, doubled ones too"
    )
    split = [record.line for record in records if re.search(r"[\r\n]", record.fields[-1])]
    if split:
        warning += f"; captions over several lines: {len(split)} (first: {path}:{split[0]})"
    return warning


def _columns(path: Path, header: _Record, required: Sequence[str]) -> dict[str, int]:
    """The index of each column by its casefolded name."""
    names = [name.strip().casefold() for name in header.fields]
    shown = textwrap.shorten(",".join(header.fields), 200)
    missing = [name for name in required if name.casefold() not in names]
    if missing:
        raise DataError(
            f"{path}:{header.line}: no column {' and no column '.join(missing)} in the header '{shown}'; "
            f"expected {','.join(required)} and, for text, Caption, separated by commas"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path}:{header.line}: two columns share a name in '{shown}'; rename one of them")
    return {name: i for i, name in enumerate(names)}


# --------------------------------------------------------------------------------------------- the columns


def _read(path: Path, required: Sequence[str], label_separator: str | None) -> _Source:
    """A table without its images yet."""
    (header, *records), columns, warnings = _read_records(path, required)
    names = [name.strip() for name in header.fields]
    cells = {key: [record.fields[i] for record in records] for key, i in columns.items()}
    table = Table(
        source=str(path.resolve()),
        ids=cells["imageid"],
        images=[""] * len(records),
        captions=cells.get("caption", [""] * len(records)),
        labels=None,
        id_column=names[columns["imageid"]],
        label_separator=label_separator or " ",
        columns={names[i]: cells[key] for key, i in columns.items() if key not in KNOWN_COLUMNS},
    )
    source = _Source(path, [record.line for record in records], table, warnings)
    _check_ids(source)
    if "labels" in cells:
        _split_labels(source, cells["labels"], label_separator)
    if "caption" in cells:
        _blank_captions(source)
    return source


def _check_ids(source: _Source) -> None:
    first: dict[str, int] = {}
    for row, row_id in enumerate(source.table.ids):
        if not row_id.strip():
            raise DataError(
                f"{source.where(row)}: the row has no id; give each row an {source.table.id_column}"
            )
        if row_id in first:
            raise DataError(
                f"{source.where(row)}: the id {row_id!r} is already that of line "
                f"{source.lines[first[row_id]]}; rename or remove one of the two rows"
            )
        first[row_id] = row


def _split_labels(source: _Source, cells: list[str], separator: str | None) -> None:
    if separator == "":
        raise DataError("the label separator is empty; give a character, or a space for any whitespace")
    if separator is None:
        used = {mark: [row for row, cell in enumerate(cells) if mark in cell] for mark in "|;"}
        if used["|"] and used[";"]:
            raise DataError(
                f"{source.where(used['|'][0])}: the labels hold '|', and ';' in line "
                f"{source.lines[used[';'][0]]}; say with --label-separator which of the two separates them"
            )
        separator = next((mark for mark, rows in used.items() if rows), " ")
    labels = []
    for cell in cells:
        names = (name.strip() for name in cell.split(None if separator == " " else separator))
        labels.append(tuple(dict.fromkeys(name for name in names if name)))
    source.table.labels, source.table.label_separator = labels, separator
    bare = [row for row, names in enumerate(labels) if not names]
    source.count("rows without a label", bare, "they are kept as negatives of every class")


def _blank_captions(source: _Source) -> None:
    captions = source.table.captions
    blank = [row for row, caption in enumerate(captions) if not caption.strip()]
    for row in blank:
        captions[row] = ""
    source.count("rows with an empty caption", blank, "they are kept without one")


# ---------------------------------------------------------------------------------------------- the images


@dataclass
class _Folder:
    """The files directly in a folder, from one listing: no file is looked at by itself."""

    files: dict[str, str]  # name → path

    @classmethod
    def listed(cls, path: Path) -> "_Folder":
        try:
            with os.scandir(path) as entries:
                return cls({entry.name: entry.path for entry in entries if entry.is_file()})
        except (FileNotFoundError, NotADirectoryError):
            return cls({})  # an id led here: its row is reported as one without image
        except OSError as error:
            raise DataError(
                f"{path}: cannot be listed ({error.strerror}); make the folder readable"
            ) from error

    @cached_property
    def pictures(self) -> dict[str, list[str]]:
        """The names of the image files, by stem."""
        pictures: dict[str, list[str]] = {}
        for name in self.files:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):  # "._0.jpg" is macOS's own
                pictures.setdefault(stem, []).append(name)
        return pictures


class _Images:
    """An image folder in which ids are looked up; subfolders are listed when an id leads there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.folders = {"": _Folder.listed(self.root)}
        self.found: set[str] = set()  # paths

    def find(self, row_id: str, where: str) -> str:
        """The path of an id's image, added to `found`, or the path where it was expected."""
        relative = posixpath.normpath(row_id)
        if relative.startswith(("/", "../")) or relative == "..":
            raise DataError(
                f"{where}: the id {row_id!r} leads out of the image folder {self.root}; name a file in it"
            )
        parent, name = posixpath.split(relative)
        if parent not in self.folders:
            self.folders[parent] = _Folder.listed(self.root / parent)
        folder = self.folders[parent]
        if name not in folder.files and posixpath.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            names = sorted(folder.pictures.get(name, [name]))
            if len(names) > 1:
                raise DataError(
                    f"{where}: the id {row_id!r} may stand for {' or '.join(names)} in {self.root / parent}; "
                    f"give the suffix in the table, or remove one of the files"
                )
            name = names[0]
        if name not in folder.files:
            return str(self.root / relative)
        self.found.add(folder.files[name])
        return folder.files[name]

    def unnamed(self) -> list[str]:
        """The image files that no id has led to, by their paths in the root."""
        pictures = (
            (posixpath.join(parent, name), folder.files[name])
            for parent, folder in self.folders.items()
            for names in folder.pictures.values()
            for name in names
        )
        return sorted(relative for relative, path in pictures if path not in self.found)


def _find_images(sources: Sequence[_Source], folder: Path | None) -> list[str]:
    """Fills in the tables' images; the warnings about the folder itself."""
    if folder is None:
        for source in sources:
            if not any(source.table.captions):
                raise DataError(f"{source.path}:1: there are neither captions nor an image folder; {LAYOUT}")
        return []
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: there is no such image folder; {LAYOUT}")
    images = _Images(folder)
    for source in sources:
        table = source.table
        table.images = [images.find(row_id, source.where(row)) for row, row_id in enumerate(table.ids)]
        missing = [row for row, path in enumerate(table.images) if path not in images.found]
        source.count("rows without an image file", missing, f"their images were expected in {folder}")
    unnamed = images.unnamed()
    if not images.found:
        raise DataError(
            f"{sources[0].where(0)}: no row has an image in {folder}: the id is {sources[0].table.ids[0]!r}, "
            + (f"a file there is {unnamed[0]!r}" if unnamed else "and no image file is there")
            + "; ids must be the names of the image files"
        )
    if not unnamed:
        return []
    return [
        f"{folder}: images that no row names: {len(unnamed)} (such as {unnamed[0]!r}); they are not encoded"
    ]
