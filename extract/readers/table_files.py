"""Table files: CSV, TSV, JSON lines, parquet and arrow, with columns that are read on demand.

In a column of images, stored as bytes or as the struct of `bytes` and `path` of Hugging Face's libraries,
cells are the sources of the images: their bytes are not read.
"""

import codecs
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import Any, BinaryIO

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import TEXT_MB, check_regular, limit_mb, open_regular, read_regular
from encode_once.cache.packed import GZIP, open_packed, stem_of, suffix_of
from encode_once.extract.images import containers
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.cells import BadCell
from encode_once.extract.readers.column_names import is_caption, kind_of
from encode_once.extract.readers.csv_grammar import CsvTable, read_csv
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.json_text import HEAD, holds_records, parse
from encode_once.extract.readers.limits import SPARSE, is_too_sparse
from encode_once.extract.readers.raw import RawTable, refuse_equal_names
from encode_once.extract.readers.spreadsheet import open_spreadsheet

MUCH_TEXT = 1 << 30  # bytes in a column that no file is too small for


def is_table(path: Path) -> bool:
    """Whether a file has a suffix of tables; a .json file must hold records, a .txt file have a header."""
    suffix = suffix_of(path)
    if suffix == ".txt":
        return path.suffix.lower() != GZIP and _has_header(path)
    return (
        suffix in OPENERS
        and (path.suffix.lower() != GZIP or suffix in GZIPPED)
        and (suffix != ".json" or holds_records(path))
    )


def _has_header(path: Path) -> bool:
    """Whether the first line of a text names an image and a caption or labels, as that of a .csv file."""
    try:
        with open_regular(path) as file:
            line = file.readline(HEAD).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    names = [name.strip() for name in re.split("[,;\t|]", line)]
    kinds = {kind for name in names if (kind := kind_of(name))}
    return "image" in kinds and len(kinds) > 1


def open_table(path: Path, bad_rows: BadRows) -> RawTable:
    """Open a file; its suffix determines the format.

    Raises:
        DataError: the file is not well-formed, or pyarrow is missing.
    """
    with file_errors(path):
        check_regular(path)
        return OPENERS[suffix_of(path)](path, bad_rows)


def _open_text(path: Path, bad_rows: BadRows) -> RawTable:
    return text_table(path, read_csv(path, is_caption, is_known))


def is_known(name: str) -> bool:
    """Whether a header's name says what is in the column."""
    return kind_of(name.strip()) is not None


def text_table(path: Path, table: CsvTable) -> RawTable:
    """A text table, or a piece of one.

    Raises:
        DataError: it has no rows, or two columns of one name.
    """
    names = [name.strip() for name in table.header]
    if not names:
        raise DataError(f"{path}:1: the table is empty; expected a line of column names")
    if not table.lines:
        raise DataError(f"{path}:{table.line}: the table has a header and no rows")
    named = [name for name in names if name]
    refuse_equal_names(f"{path}:{table.line}", named)
    without_name = [cells for name, cells in zip(names, table.columns, strict=True) if not name]
    unused = []
    if filled := sum(any(map(str.strip, cells)) for cells in without_name):
        unused.append(f"{filled} column{'s' * (filled > 1)} without a name in {path.name}")
    return RawTable.of_columns(
        stem_of(path),
        [path],
        {name: cells for name, cells in zip(names, table.columns, strict=True) if name},
        lambda row: f"{path}:{table.lines[row]}",
        warnings=table.warnings,
        unused=unused,
        plain=named,
    )


@dataclass
class _Records:
    """Objects with named values, as columns."""

    cells: dict[str, list[Any]] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)  # the line or the number of each record
    values: int = 0

    def add(self, record: dict[str, Any], place: int, shown: str) -> None:
        """Add a record; `shown` is its position for messages."""
        for name in record.keys() - self.cells.keys():
            self.cells[name] = [None] * len(self.places)
        self.places.append(place)
        self.values += len(record)
        if is_too_sparse(len(self.places), len(self.cells), self.values):
            raise DataError(f"{shown}: {len(self.cells):,} names so far; give all rows the same names")
        for name, column in self.cells.items():
            column.append(record.get(name))


def _open_json_lines(path: Path, bad_rows: BadRows) -> RawTable:
    (table,) = json_lines_in_pieces(path, bad_rows)
    return table


def json_lines_in_pieces(
    path: Path, bad_rows: BadRows, rows: float = math.inf, size: float = math.inf
) -> Iterator[RawTable]:
    """The objects of a file of JSON lines, `rows` or `size` bytes of text in a piece.

    Raises:
        DataError: a line is not an object, and such rows are not left out.
    """
    records, count = _Records(), 0
    with open_packed(path) as file:
        for number, line in enumerate(_lines(file), 1):
            if line is None or line.strip():
                try:
                    record = _object(path, number, line)
                except DataError as error:
                    bad_rows.add(error)
                    continue
                records.add(record, number, f"{path}:{number}")
                count += len(line or b"")
            if len(records.places) >= rows or count > size:
                yield _of_lines(path, records)
                records, count = _Records(), 0
    yield _of_lines(path, records)


def _of_lines(path: Path, records: _Records) -> RawTable:
    lines = records.places
    return RawTable.of_columns(stem_of(path), [path], records.cells, lambda row: f"{path}:{lines[row]}")


def _open_json(path: Path, bad_rows: BadRows) -> RawTable:
    """A list of records, or JSON lines in a file named .json."""
    with open_regular(path) as file:
        start = file.read(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()
    if not start.startswith(b"["):
        return _open_json_lines(path, bad_rows)
    try:
        listed = parse(read_regular(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({brief(error)}); expected a list of objects") from error
    records = _Records()
    for number, record in enumerate(listed):
        if isinstance(record, dict):
            records.add(record, number, f"{path}, record {number}")
        else:
            bad_rows.add(DataError(f"{path}, record {number}: not an object with named values"))
    numbers = records.places
    return RawTable.of_columns(path.stem, [path], records.cells, lambda row: f"{path}, record {numbers[row]}")


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None for a line that is longer than the limit."""
    most = limit_mb(TEXT_MB) << 20
    while line := file.readline(most + 1):
        if len(line) <= most:
            yield line
        else:
            yield None
            while line and not line.endswith(b"\n"):
                line = file.readline(most)


def _object(path: Path, number: int, line: bytes | None) -> dict[str, Any]:
    if line is None:
        name, _ = TEXT_MB
        raise DataError(
            f"{path}:{number}: a line of more than {limit_mb(TEXT_MB)} MB; {name} raises the limit"
        )
    try:
        record = parse(line.rstrip())
    except ValueError as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, JSONDecodeError) else brief(error)
        raise DataError(f"{path}:{number}: not JSON ({reason}); each line must be an object") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: not an object; each line must be an object with named values")
    return record


def _open_parquet(path: Path, bad_rows: BadRows) -> RawTable:
    file, schema, texts = _with_texts_once(path)
    rows = file.metadata.num_rows

    def read(column: str, part: str = "") -> list[Any]:
        cells = file.read(columns=[f"{column}.{part}" if part else column])[column]
        if column in texts:
            cells = _expanded(path, column, cells)
        return [cell[part] if cell else None for cell in cells.to_pylist()] if part else cells.to_pylist()

    return _of_arrow(path, rows, schema, read)


def parquet_rows(path: Path) -> int:
    """The number of rows of a parquet file.

    Raises:
        DataError: the file is damaged, or too small for so many rows, or pyarrow is missing.
    """
    rows: int = _parquet_file(path).metadata.num_rows
    return rows


def parquet_in_pieces(path: Path, rows: int, size: int) -> Iterator[RawTable]:
    """The rows of a parquet file, about `rows` or `size` bytes in a piece; images stored in it are not read.

    Raises:
        DataError: the file is damaged, or pyarrow is missing.
    """
    pa = import_pyarrow(path)
    file, schema, texts = _with_texts_once(path)
    metadata = file.metadata
    columns = []
    for column in schema:
        if pa.types.is_struct(column.type) and {"bytes", "path"} <= {part.name for part in column.type}:
            columns.append(f"{column.name}.path")
        elif not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            columns.append(column.name)
    names = tuple(columns)
    chunks = (
        group.column(number)
        for group in map(metadata.row_group, range(metadata.num_row_groups))
        for number in range(group.num_columns)
    )
    nbytes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.startswith(names))
    batch_rows = max(1, min(rows, size * metadata.num_rows // max(1, nbytes)))
    first = 0
    with file_errors(path):
        for batch in file.iter_batches(batch_rows, columns=columns):

            def read(column: str, part: str = "", batch: Any = batch) -> list[Any]:
                cells = batch[column].field(part) if part else batch[column]
                if column in texts:
                    cells = _expanded(path, column, pa.chunked_array([cells]))
                return list(cells.to_pylist())

            yield _of_arrow(path, len(batch), schema, read, first)
            first += len(batch)


def _with_texts_once(path: Path) -> tuple[Any, Any, list[str]]:
    """An open parquet file, its schema, and its columns of texts, which are read as dictionaries.

    So a text that many rows share is in memory once.
    """
    pa = import_pyarrow(path)
    schema = _parquet_file(path).schema_arrow
    texts = [column.name for column in schema if pa.types.is_string(column.type)]
    return _parquet_file(path, read_dictionary=texts), schema, texts


def _parquet_file(path: Path, **options: Any) -> Any:
    import_pyarrow(path)
    from pyarrow.parquet import ParquetFile

    with file_errors(path):
        check_regular(path)
    try:
        file = ParquetFile(path, **options)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a parquet file, or damaged ({brief(error)}); get it again") from error
    if is_too_sparse(rows := file.metadata.num_rows, 1, path.stat().st_size):
        raise DataError(f"{path}: declares {rows:,} rows, more than a file of its size has; get it again")
    return file


def _expanded(path: Path, column: str, cells: Any) -> Any:
    """A column of texts, each of which is stored once, with a text in each row.

    Raises:
        DataError: it would take far more memory than the file.
    """
    from pyarrow import compute, string

    lengths = (compute.binary_length(chunk.dictionary).take(chunk.indices) for chunk in cells.chunks)
    nbytes = sum(compute.sum(of_chunk).as_py() or 0 for of_chunk in lengths)
    if nbytes > max(MUCH_TEXT, SPARSE * path.stat().st_size):
        raise DataError(
            f"{path}: the column {column!r} repeats long texts, {nbytes >> 20:,} MB in all; shorten them"
        )
    return cells.cast(string())


def open_arrow(path: Path) -> RawTable:
    """Open an arrow file by memory mapping."""
    pyarrow = import_pyarrow(path)
    with file_errors(path):
        batches = containers.arrow_batches(path)
    if not batches:
        raise DataError(f"{path}: the table has no rows")
    table = pyarrow.Table.from_batches(batches)

    def read(column: str, part: str = "") -> list[Any]:
        cells = table[column].combine_chunks().field(part) if part else table[column]
        return list(cells.to_pylist())

    return _of_arrow(path, len(table), table.schema, read)


def import_pyarrow(path: Path) -> Any:
    """Import pyarrow, which is optional."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError(f"{path}: needs pyarrow: pip install 'encode-once[parquet]'") from error
    return pa


def _of_arrow(path: Path, rows: int, schema: Any, read: Callable[..., list[Any]], first: int = 0) -> RawTable:
    """A table with an arrow schema; `read(column)` returns cells, `read(column, part)` a field of structs.

    first: the number in the file of its first row.
    """
    pa = import_pyarrow(path)
    try:
        metadata = parse((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = dict(metadata.get("info", {}).get("features", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: its metadata of Hugging Face datasets is damaged ({brief(error)})"
        ) from error
    refuse_equal_names(path, schema.names)
    class_names = {name: _class_names(path, name, features.get(name)) for name in schema.names}
    embedded: dict[str, Callable[[], list[Any]]] = {}
    plain = []
    for column_field in schema:
        name, kind = column_field.name, column_field.type
        if pa.types.is_struct(kind) and {"bytes", "path"} <= {part.name for part in kind}:
            embedded[name] = partial(read, name, "path")
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            embedded[name] = lambda: [None] * rows
        elif not pa.types.is_nested(kind):
            plain.append(name)

    source = str(path.resolve())

    def column(name: str) -> list[Any]:
        if name in embedded:
            return [containers.cell(source, name, row) for row in range(first, first + rows)]
        names = class_names[name]
        with file_errors(path):
            return [_class_labels(cell, names) for cell in read(name)] if names else read(name)

    def file_names(name: str) -> list[Any]:
        with file_errors(path):
            return embedded[name]()

    return RawTable(
        path.stem,
        [path],
        rows,
        schema.names,
        column,
        lambda row: f"{path}, row {first + row}",
        plain=plain,
        sources={name: partial(file_names, name) for name in embedded},
    )


def _class_names(path: Path, column: str, feature: Any) -> list[str] | None:
    """The class names of a ClassLabel feature, or of a list of ClassLabels.

    Raises:
        DataError: they are not a list of texts.
    """
    while isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the class names of the column {column!r} are not a list of texts")
    return names


def _class_labels(cell: Any, names: list[str]) -> list[str] | BadCell:
    """The names of the class numbers in a cell; None and -1 mean no label."""
    numbers = [number for number in (cell if isinstance(cell, list) else [cell]) if number is not None]
    for number in numbers:
        if type(number) is not int or not -1 <= number < len(names):
            return BadCell(f"has the class {brief(repr(number))}, where there are {len(names)} classes")
    return [names[number] for number in numbers if number >= 0]


OPENERS: dict[str, Callable[[Path, BadRows], RawTable]] = {
    ".csv": _open_text,
    ".tsv": _open_text,
    ".txt": _open_text,
    ".jsonl": _open_json_lines,
    ".json": _open_json,
    ".ndjson": _open_json_lines,
    ".parquet": _open_parquet,
    ".xlsx": open_spreadsheet,
}
GZIPPED = (".csv", ".tsv", ".jsonl", ".ndjson")  # formats of which .gz files are read
