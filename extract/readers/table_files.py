"""Files that hold a table: CSV, TSV, JSON lines, parquet and arrow, as columns that are read when asked for.

A column that holds images themselves, as bytes or as the struct of `bytes` and `path` that Hugging Face's
libraries write, has the images' sources as its cells: the bytes stay where they are.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.extract.images import containers as members
from encode_once.extract.readers.csv_grammar import REMEDY, read_csv, read_lines


@dataclass(frozen=True)
class TableFile:
    """One file's table."""

    path: Path
    rows: int
    names: list[str]  # of the columns
    column: Callable[[str], list[Any]]  # its cells, (rows,)
    where: Callable[[int], str]  # where a row stands, for messages
    plain: list[str]  # the columns of texts and numbers
    # Columns that hold images themselves → what reads their file names, (rows,).
    embedded: Mapping[str, Callable[[], list[Any]]] = field(default_factory=dict)


def open_table(path: Path) -> TableFile:
    """A file's table, told by its suffix.

    Raises:
        DataError: it is not well-formed, with the line, or pyarrow is missing.
    """
    return OPENERS[path.suffix.lower()](path)


def _open_text(path: Path) -> TableFile:
    records, fault = read_csv(read_lines(path), "\t" if path.suffix.lower() == ".tsv" else ",")
    if fault:
        raise DataError(f"{path}:{fault.line}: not well-formed ({fault.reason}); {REMEDY}")
    if not records:
        raise DataError(f"{path}:1: the table is empty; it begins with a line of column names")
    header, *records = records
    names = [name.strip() for name in header.fields]
    if len(set(names)) < len(names):
        raise DataError(f"{path}:{header.line}: two columns share a name; rename one of them")
    lines = [record.line for record in records]
    cells = dict(
        zip(names, map(list, zip(*(record.fields for record in records), strict=True)), strict=False)
    )
    return TableFile(
        path, len(records), names, lambda name: cells.get(name, []), lambda row: f"{path}:{lines[row]}", names
    )


def _open_json_lines(path: Path) -> TableFile:
    lines: list[int] = []
    cells: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                record = _object(path, number, line)
                for name in record.keys() - cells.keys():
                    cells[name] = [None] * len(lines)
                lines.append(number)
                for name, column in cells.items():
                    column.append(record.get(name))
    plain = [name for name, column in cells.items() if not any(isinstance(c, list | dict) for c in column)]
    return TableFile(
        path, len(lines), list(cells), cells.__getitem__, lambda row: f"{path}:{lines[row]}", plain
    )


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: no JSON ({error}); each line is one object") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: no object; each line is one object with named values")
    return record


def _open_parquet(path: Path) -> TableFile:
    import_pyarrow(path)
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no parquet file, or a damaged one ({error}); get it again") from error

    def read(column: str, part: str = "") -> list[Any]:
        cells = file.read(columns=[f"{column}.{part}" if part else column])[column]
        return [one[part] if one else None for one in cells.to_pylist()] if part else cells.to_pylist()

    return _of_arrow(path, file.metadata.num_rows, file.schema_arrow, read)


def open_arrow(path: Path) -> TableFile:
    """An arrow file's table, mapped."""
    pyarrow = import_pyarrow(path)
    try:
        batches = members.arrow_batches(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({brief(error)}); write the dataset again") from error
    if not batches:
        raise DataError(f"{path}: the table has no rows")
    table = pyarrow.Table.from_batches(batches)

    def read(column: str, part: str = "") -> list[Any]:
        cells = table[column].combine_chunks().field(part) if part else table[column]
        return list(cells.to_pylist())

    return _of_arrow(path, len(table), table.schema, read)


def import_pyarrow(path: Path) -> Any:
    """The library, which is optional."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError(f"{path}: needs pyarrow: pip install 'encode-once[parquet]'") from error
    return pa


def _of_arrow(path: Path, rows: int, schema: Any, read: Callable[..., list[Any]]) -> TableFile:
    """A file's table by its schema; `read(column)` gives cells, `read(column, part)` a part of structs."""
    pa = import_pyarrow(path)
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", "{}"))
    features = metadata.get("info", {}).get("features", {})
    embedded: dict[str, Callable[[], list[Any]]] = {}
    plain = []
    for one in schema:
        kind = one.type
        if pa.types.is_struct(kind) and {"bytes", "path"} <= {part.name for part in kind}:
            embedded[one.name] = partial(read, one.name, "path")
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            embedded[one.name] = lambda: [None] * rows
        elif not pa.types.is_nested(kind):
            plain.append(one.name)

    def column(name: str) -> list[Any]:
        if name in embedded:
            return [members.cell(str(path.resolve()), name, row) for row in range(rows)]
        names = _class_names(features.get(name))
        return [_named(cell, names) for cell in read(name)] if names else read(name)

    return TableFile(path, rows, schema.names, column, lambda row: f"{path}, row {row}", plain, embedded)


def _class_names(feature: Any) -> list[str] | None:
    """What the numbers of a ClassLabel, or of a list of such, stand for."""
    while isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature["feature"]
    return feature["names"] if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _named(cell: Any, names: list[str]) -> list[str]:
    """The names of a cell's numbers; none and -1 stand for no label."""
    numbers = cell if isinstance(cell, list) else [cell]
    return [names[number] for number in numbers if number is not None and number >= 0]


OPENERS: dict[str, Callable[[Path], TableFile]] = {
    ".csv": _open_text,
    ".tsv": _open_text,
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".parquet": _open_parquet,
}
