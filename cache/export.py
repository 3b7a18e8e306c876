"""Export a feature to a file of another format; `clip_retrieval` exports two of them to a folder."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import clip_retrieval
from encode_once.cache.errors import DataError, unknown_name
from encode_once.cache.feature import Feature
from encode_once.cache.format.atomic import new_folder, replacing, reserve
from encode_once.cache.format.part import chunks, offsets_of
from encode_once.cache.keys import KEY_BYTES, Keys, RowIndex
from encode_once.cache.large_arrays import new_array, row_slices
from encode_once.cache.packed_columns import Texts, taken
from encode_once.cache.table import Table

ROW_GROUP = 8192  # rows of a group of a parquet file: its levels take twice the memory of its vectors

TENSOR_TYPES = {"<f2": "F16", "<f4": "F32", "|u1": "U8", "<i8": "I64"}  # dtype → its name in safetensors
MOST_HEADER = 100_000_000  # bytes; with more, safetensors does not open the file


@dataclass(frozen=True)
class Selection:
    """Rows of a feature, and their names in the exported file."""

    feature: Feature
    rows: RowIndex
    ids: Sequence[str]
    without: int = 0  # rows of the table without a vector


def select(feature: Feature, table: Table | None) -> Selection:
    """The rows of a table that have a vector, by id; without a table every row, by content key.

    A row with several captions has a vector for each: those of all first captions precede those of all second
    captions.
    """
    if not len(feature):
        raise DataError(f"{feature.name} has no rows to export")
    if table is None:
        return Selection(feature, np.arange(len(feature.keys)), _hexadecimal(feature.keys))
    rows = feature.find(np.concatenate(table.key_columns(feature.modality)))
    stored = np.flatnonzero(rows >= 0)
    places = stored % len(table) if len(table) else stored
    without = len(table) - len(np.unique(places))
    return Selection(feature, rows[stored], taken(table.ids, places), without)


def _hexadecimal(keys: Keys) -> Texts:
    """The keys as texts, packed: as strings they would take as much memory as their vectors."""
    values = new_array((len(keys), 2 * KEY_BYTES), np.uint8)
    for rows in row_slices(len(keys)):
        digits = np.frombuffer(keys[rows].tobytes().hex().encode(), np.uint8)
        values[rows] = digits.reshape(-1, 2 * KEY_BYTES)
    return Texts(values.reshape(-1), np.arange(len(keys) + 1, dtype=np.uint64) * np.uint64(2 * KEY_BYTES))


def export(selection: Selection, kind: str, path: Path) -> None:
    """Write `path` completely or not at all; a file that is there is replaced, a folder is refused.

    "lance" writes a folder. "npy" also writes `PATH.ids.txt` and, for a ragged feature, `PATH.offsets.npy`.

    Raises:
        UsageError: an unknown kind.
        DataError: a library is missing, or the folder exists.
    """
    check_kind(kind)
    KINDS[kind](selection, path)


def check_kind(kind: str) -> None:
    """Raise a UsageError for an unknown format."""
    if kind not in KINDS:
        raise unknown_name("format", kind, [*KINDS, clip_retrieval.KIND])


def _npy(selection: Selection, path: Path) -> None:
    feature, shape = selection.feature, selection.feature.shape_of(selection.rows)
    lengths = []
    with replacing(path) as temporary:
        out = np.lib.format.open_memmap(temporary, "w+", shape.dtype, (shape.vectors, shape.dim))
        with temporary.open("r+b") as file:
            reserve(file.fileno())
        start = 0
        for piece in chunks(shape):
            _, values, piece_lengths = feature.block(selection.rows[piece])
            out[start : start + len(values)] = values
            start += len(values)
            if piece_lengths is not None:
                lengths.append(piece_lengths)
        out.flush()
    if shape.ragged:
        with replacing(Path(f"{path}.offsets.npy")) as temporary, temporary.open("wb") as file:
            np.save(file, offsets_of(np.concatenate(lengths)))
    with (
        replacing(Path(f"{path}.ids.txt")) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.writelines(f"{id_}\n" for id_ in selection.ids)


def _safetensors(selection: Selection, path: Path) -> None:
    """Written here, as the library takes all arrays at once: the header's length, header, then the arrays."""
    feature, rows = selection.feature, selection.rows
    shape = feature.shape_of(rows)
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "values": ((shape.vectors, shape.dim), shape.dtype),
        "keys": ((len(rows), KEY_BYTES), "|u1"),
    }
    if shape.ragged:
        shapes = {"offsets": ((len(rows) + 1,), "<i8"), **shapes}
    header: dict[str, Any] = {"__metadata__": {"feature": feature.name, "ids": json.dumps([*selection.ids])}}
    end = 0
    for name, (dimensions, dtype) in shapes.items():
        start, end = end, end + prod(dimensions) * np.dtype(dtype).itemsize
        header[name] = {"dtype": TENSOR_TYPES[dtype], "shape": dimensions, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # arrays start at a multiple of 8
    if len(text) > MOST_HEADER:
        raise DataError(
            f"safetensors has room for {MOST_HEADER:,} bytes of names, and these {len(rows):,} rows take "
            f"{len(text):,}: --to npy or parquet has no such limit"
        )
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if shape.ragged:
            file.write(offsets_of(feature.lengths()[rows]).astype("<i8").data)
        for piece in chunks(shape):
            file.write(np.ascontiguousarray(feature.block(rows[piece])[1]).data)
        for piece in chunks(shape):
            file.write(feature.keys[rows[piece]].data)


def _parquet(selection: Selection, path: Path) -> None:
    schema, batches = _arrow(selection, "parquet")
    from pyarrow.parquet import ParquetWriter

    with replacing(path) as temporary, ParquetWriter(temporary, schema, use_dictionary=False) as writer:
        for batch in batches:
            writer.write_batch(batch, ROW_GROUP)


def _lance(selection: Selection, path: Path) -> None:
    try:
        import lance
        from pyarrow import RecordBatchReader
    except ImportError as error:
        raise DataError("lance needs pylance: pip install 'encode-once[lance]'") from error
    schema, batches = _arrow(selection, "lance")
    with new_folder(path) as temporary:
        lance.write_dataset(RecordBatchReader.from_batches(schema, batches), str(temporary))


def _arrow(selection: Selection, kind: str) -> tuple[Any, Iterator[Any]]:
    """The Arrow schema of a selection, and its rows in batches, which are read when they are asked for.

    Keys are texts in hexadecimal, by which every query language can join two files.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError(f"{kind} needs pyarrow: pip install 'encode-once[parquet]'") from error
    feature, shape = selection.feature, selection.feature.shape_of(selection.rows)
    vector = pa.list_(pa.from_numpy_dtype(np.dtype(shape.dtype)), shape.dim)
    schema = pa.schema(
        {"id": pa.string(), "key": pa.string(), "vector": pa.list_(vector) if shape.ragged else vector},
        metadata={"feature": feature.name},
    )

    def batches() -> Iterator[Any]:
        for piece in chunks(shape):
            keys, values, lengths = feature.block(selection.rows[piece])
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=vector)
            if lengths is not None:
                column = pa.ListArray.from_arrays(offsets_of(lengths).astype("i4"), column)
            texts = [pa.array([*selection.ids[piece]]), pa.array(key.tobytes().hex() for key in keys)]
            yield pa.record_batch([*texts, column], schema=schema)

    return schema, batches()


KINDS: dict[str, Callable[[Selection, Path], None]] = {
    "lance": _lance,
    "npy": _npy,
    "parquet": _parquet,
    "safetensors": _safetensors,
}
