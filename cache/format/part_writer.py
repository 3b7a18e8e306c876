"""Write one part file: create it at its full size, fill it in batches, seal it (see SPEC.md).

HDF5 keeps no journal: a writer that dies while the library has a file open can lose all of it. So h5py only
creates the empty part and closes it. Rows are then written at the datasets' places in the file, and last the
stamp, which says how many of them are committed. So the file can be read whenever its writer dies.
"""

import os
import uuid
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from encode_once.cache.errors import DamagedError
from encode_once.cache.format.atomic import reserve, sync_folder, write_at, writing
from encode_once.cache.format.files import open_descriptor
from encode_once.cache.format.hdf5 import create_hdf5, open_hdf5
from encode_once.cache.format.header import SLOTS, STAMP_BYTES, checksum, checksums, write_stamp
from encode_once.cache.format.part import (
    KIND,
    Lengths,
    Part,
    RowBlock,
    Shape,
    Values,
    checksum_of_rest,
    chunks,
)
from encode_once.cache.keys import KEY_BYTES, Keys, RowIndex, Shard

PAGE = 4096  # datasets start on pages, so that they can be mapped


def _lay_out(path: Path, shape: Shape, header: Mapping[str, str]) -> dict[str, int]:
    """Create an empty part with contiguous, unfilled datasets; return their places in the file."""
    with create_hdf5(
        path,
        libver="v110",
        userblock_size=STAMP_BYTES,
        alignment_threshold=1,
        alignment_interval=PAGE,
    ) as file:
        file.attrs.update({"format": KIND[0], "version": KIND[1], "ragged": shape.ragged, **header})
        for name, (dimensions, dtype) in shape.datasets().items():
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_layout(h5py.h5d.CONTIGUOUS)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(dimensions)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, created)
    with open_hdf5(path) as file:
        return {name: file[name].id.get_offset() or 0 for name in shape.datasets()}


class PartWriter:
    """Creates a part and appends rows to it; a batch is committed once `append` has returned.

    Args:
        path: the file to create.
        shape: its capacity.
        header: `feature`, `feature_key` and other attributes that describe the file.
    """

    def __init__(self, path: Path, shape: Shape, header: Mapping[str, str]) -> None:
        self.path, self.shape = path, shape
        self.rows = self.vectors = self._commits = 0
        self._checksums = {name: xxhash.xxh3_64() for name in ("keys", "sums")}
        if shape.ragged:
            self._checksums["offsets"] = xxhash.xxh3_64(bytes(8))  # the first row starts at 0
        self._identity = {name: header[name] for name in ("feature", "feature_key")}
        with writing(path):
            self._places = _lay_out(path, shape, header)
            self._descriptor = open_descriptor(path, os.O_RDWR)
            try:
                write_stamp(self._descriptor, self._stamp())
                os.fsync(self._descriptor)
            except OSError:
                self.close()
                raise

    def _stamp(self) -> dict[str, Any]:
        return {
            "format": KIND[0],
            "version": KIND[1],
            **self._identity,
            "sealed": False,
            "commit": self._commits,
            "rows": self.rows,
            "vectors": self.vectors,
            "shape": asdict(self.shape),
            "places": self._places,
            "checksums": {name: sum_.hexdigest() for name, sum_ in self._checksums.items()},
        }

    def has_room(self, rows: int, vectors: int) -> bool:
        """Whether that many more rows and vectors fit."""
        return self.rows + rows <= self.shape.rows and self.vectors + vectors <= self.shape.vectors

    def append(self, keys: Keys, values: Values, lengths: Lengths | None = None) -> None:
        """Add rows: keys (n, 16), values (n, d) or, with lengths (n,), (lengths.sum(), d).

        Raises:
            StoreError: the disk is full or fails; batches appended before are kept.
        """
        values = np.ascontiguousarray(values, self.shape.dtype)
        new: dict[str, Any] = {"keys": np.ascontiguousarray(keys)}
        pieces: Any = values
        if lengths is not None:
            ends = np.cumsum(lengths, dtype="<u8")
            pieces = (values[a:b] for a, b in pairwise([0, *ends.tolist()]))
            new["offsets"] = ends + np.uint64(self.vectors)
        new["sums"] = checksums(pieces)
        with writing(self.path):
            self._write("keys", self.rows * KEY_BYTES, new["keys"])
            self._write("sums", self.rows * 8, new["sums"])
            self._write("values", self.vectors * self.shape.vector_bytes, values)
            if lengths is not None:
                self._write("offsets", (self.rows + 1) * 8, new["offsets"])
            os.fdatasync(self._descriptor)  # rows must be on disk before the stamp that commits them
            self.rows, self.vectors = self.rows + len(keys), self.vectors + len(values)
            for name, array in new.items():
                self._checksums[name].update(array)
            self._commits += 1
            write_stamp(self._descriptor, self._stamp(), [self._commits % SLOTS])

    def _write(self, name: str, offset: int, array: NDArray[Any]) -> None:
        if array.size:
            write_at(self._descriptor, self._places[name] + offset, array)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class RowSource(Protocol):
    """A part or a feature to copy rows from."""

    def shape_of(self, rows: RowIndex) -> Shape:
        """The shape of a part of exactly these rows."""

    def block(self, rows: RowIndex) -> RowBlock:
        """The contents of these rows, in their order."""


def part_name() -> str:
    """A unique file name; later names sort after earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.h5"


def copy_rows(
    source: RowSource, rows: RowIndex, part: Path, header: Mapping[str, str], writer: str = str(Shard())
) -> None:
    """Make a sealed part of some rows of a source; no rows make no part, and neither does an error.

    writer: whose lock the caller holds.
    """
    if not len(rows):
        return
    shape, temporary = source.shape_of(rows), part.with_name(f"{part.name}.{writer}.new")
    try:
        with closing(PartWriter(temporary, shape, header)) as target:
            for piece in chunks(shape):
                target.append(*source.block(rows[piece]))
        _finish(Part(temporary, header["feature_key"]), part)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def seal(partial: Path, header: Mapping[str, str]) -> None:
    """Turn the committed rows of PART.h5.WRITER.partial into PART.h5; the caller holds the writer's lock."""
    source = Part(partial, header["feature_key"])
    part, writer = partial.with_suffix("").with_suffix(""), partial.with_suffix("").suffix[1:]
    if source.rows and (source.rows, source.vectors) == (source.shape.rows, source.shape.vectors):
        _finish(source, part)
        return
    copy_rows(source, np.arange(source.rows), part, header, writer)
    with writing(partial):
        partial.unlink()


def _finish(source: Part, part: Path) -> None:
    """Read a full part back, complete its checksums, and rename it to its final name."""
    with writing(part):
        descriptor = open_descriptor(source.path, os.O_RDWR)
        try:
            reserve(descriptor)
            if not source.sound(0, source.rows).all():
                raise DamagedError(f"{source.path} does not read as it was written: the disk may be failing")
            block_sums = checksums(source.blocks())
            places = source.stamp.places
            if block_sums.size:
                write_at(descriptor, places["block_sums"], block_sums)
            os.fsync(descriptor)
            more = {
                "block_sums": checksum(block_sums),
                "rest": checksum_of_rest(source.content, source.shape, places),
            }
            stamp = replace(
                source.stamp,
                sealed=True,
                commit=source.stamp.commit + 1,
                size=len(source.content),
                checksums=source.stamp.checksums | more,
            )
            write_stamp(descriptor, asdict(stamp))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        source.path.replace(part)
        sync_folder(part.parent)
