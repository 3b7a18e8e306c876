"""One part file of a feature: plain HDF5, pre-sized, contiguous (the format is in SPEC.md).

HDF5 keeps no journal: a writer that dies while the library holds the file open can lose all of it. So h5py
only lays a part out, empty and closed; rows then go straight to the datasets' places in the file, and one
number, `rows`, written last, says how many of them count. Whatever moment a writer dies, the file opens.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cache.errors import StoreError
from cache.files import replacing
from cache.keys import KEY_BYTES, Keys, Spec

FORMAT, VERSION = "encode-once part", 1
PAGE = 4096  # datasets start on pages, so that they can be mapped
COPY_BYTES = 1 << 26


@dataclass(frozen=True)
class Shape:
    """How many rows a part has room for, and of what kind."""

    rows: int
    vectors: int  # equals `rows`, or the sum of the rows' lengths where the feature is ragged
    dim: int
    dtype: str
    ragged: bool

    def datasets(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name → (shape, dtype) of every dataset a part of this shape holds."""
        return {
            "rows": ((1,), "<u8"),
            "keys": ((self.rows, KEY_BYTES), "|u1"),
            "values": ((self.vectors, self.dim), self.dtype),
        } | ({"offsets": ((self.rows + 1,), "<u8")} if self.ragged else {})


def _lay_out(path: Path, shape: Shape, header: Mapping[str, str]) -> None:
    """Create an empty part: every dataset allocated in one piece, nothing filled in."""
    with h5py.File(path, "x", libver="v110", alignment_threshold=1, alignment_interval=PAGE) as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "ragged": shape.ragged, **header})
        for name, (dimensions, dtype) in shape.datasets().items():
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_layout(h5py.h5d.CONTIGUOUS)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(dimensions)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, created)


class Part:
    """A part's rows, memory-mapped: `keys` (n, 16), `values` (n, d) or (total, d), `offsets` (n + 1,).

    Raises:
        StoreError: not a part, of an unknown version, or of another feature.
    """

    def __init__(self, path: Path, feature_key: str) -> None:
        self.path = path
        mapped: dict[str, NDArray[Any]] = {}
        try:
            with h5py.File(path, "r") as file:
                self.header = dict(file.attrs)
                self._check_header(feature_key)
                for name in ("rows", "keys", "values", "offsets")[: 4 if self.header["ragged"] else 3]:
                    dataset = file[name]
                    place = dataset.id.get_offset()
                    if place is None and dataset.size:
                        raise StoreError(f"{path}: {name} is not stored in one piece; see cache/SPEC.md")
                    mapped[name] = (
                        np.memmap(path, dataset.dtype, "r", place, dataset.shape)
                        if dataset.size
                        else np.empty(dataset.shape, dataset.dtype)
                    )
        except (OSError, KeyError) as error:
            if isinstance(error, StoreError):
                raise
            message = f"{path} cannot be read as a part: {error}. Move it away and extract again."
            raise StoreError(message) from error
        self.rows = int(mapped["rows"][0])
        if not self.rows <= len(mapped["keys"]):
            raise StoreError(f"{path} counts {self.rows} rows but has room for {len(mapped['keys'])}")
        self.keys: Keys = mapped["keys"][: self.rows]
        self.offsets = mapped["offsets"][: self.rows + 1] if self.header["ragged"] else None
        self.values = mapped["values"][: self.rows if self.offsets is None else int(self.offsets[-1])]

    def _check_header(self, feature_key: str) -> None:
        found = self.header.get("format"), self.header.get("version")
        if found != (FORMAT, VERSION):
            raise StoreError(f"{self.path} is not a part this version reads: {found} ≠ {(FORMAT, VERSION)}")
        if self.header.get("feature_key") != feature_key:
            raise StoreError(f"{self.path} belongs to another feature ({self.header.get('feature')})")


class PartWriter:
    """Appends rows to a part of its own; a batch counts once `append` has returned."""

    def __init__(self, path: Path, shape: Shape, header: Mapping[str, str]) -> None:
        self.path, self.shape = path, shape
        self.rows = self.vectors = 0
        _lay_out(path, shape, header)
        with h5py.File(path, "r") as file:
            self._places = {name: file[name].id.get_offset() for name in shape.datasets()}
        self._descriptor = os.open(path, os.O_RDWR)

    def has_room(self, rows: int, vectors: int) -> bool:
        return self.rows + rows <= self.shape.rows and self.vectors + vectors <= self.shape.vectors

    def append(self, keys: Keys, values: NDArray[Any], lengths: NDArray[np.intp] | None = None) -> None:
        """Add rows: keys (n, 16), values (n, d) or, with lengths (n,), (lengths.sum(), d)."""
        row_bytes = self.shape.dim * np.dtype(self.shape.dtype).itemsize
        self._write("keys", self.rows * KEY_BYTES, keys)
        self._write("values", self.vectors * row_bytes, values.astype(self.shape.dtype, copy=False))
        if lengths is not None:
            ends = self.vectors + np.concatenate([[0], np.cumsum(lengths)])
            self._write("offsets", self.rows * 8, ends.astype("<u8"))
        os.fdatasync(self._descriptor)  # the rows are on disk before the number that makes them count
        self.rows += len(keys)
        self.vectors += len(values)
        self._write("rows", 0, np.array([self.rows], "<u8"))

    def _write(self, name: str, offset: int, array: NDArray[Any]) -> None:
        content = np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
        place = self._places[name] + offset if array.size else 0
        while len(content):
            written = os.pwrite(self._descriptor, content, place)
            content, place = content[written:], place + written

    def close(self) -> None:
        os.close(self._descriptor)


def seal(partial: Path, part: Path, feature_key: str) -> None:
    """Turn what a writer committed, whether it finished or died, into a part of exactly that many rows."""
    source = Part(partial, feature_key)
    if source.rows:
        kept = {"keys": source.keys, "values": source.values}
        if source.offsets is not None:
            kept["offsets"] = source.offsets
        vectors, dim = source.values.shape
        shape = Shape(source.rows, vectors, dim, source.values.dtype.str, "offsets" in kept)
        header = {k: v for k, v in source.header.items() if k not in ("format", "version", "ragged")}
        with replacing(part) as temporary:
            _lay_out(temporary, shape, header)
            with h5py.File(temporary, "r+") as file:
                file["rows"][0] = source.rows
                for name, array in kept.items():
                    step = max(1, COPY_BYTES // max(1, array[:1].nbytes))
                    for start in range(0, len(array), step):
                        file[name][start : start + step] = array[start : start + step]
            if len(Part(temporary, feature_key).keys) != source.rows:
                raise StoreError(f"{part} could not be written whole")
    partial.unlink()


def header(feature: str, key: str, spec: Spec, provenance: Mapping[str, str]) -> dict[str, str]:
    """The attributes that make a part understandable on its own."""
    return {
        "feature": feature,
        "feature_key": key,
        "spec": json.dumps(dict(spec), sort_keys=True),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
