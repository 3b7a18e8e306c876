"""Append rows to a feature, one part after another, so that every appended batch is kept."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import DataError, StoreBusyError, StoreError
from encode_once.cache.format.atomic import sync_folder, writing
from encode_once.cache.format.locks import locked
from encode_once.cache.format.part import Lengths, Shape, Values, all_finite
from encode_once.cache.format.part_writer import PartWriter, part_name, seal
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.keys import Keys, first_occurrences

PART_BYTES = 1 << 30  # a part is sealed when its vectors reach this size
ASSUMED_LENGTH = 128  # vectors per sequence; unused capacity takes no disk space and is cut off by sealing


class Appendable(Protocol):
    """What a `FeatureWriter` needs of the feature."""

    name: str
    folder: Path
    record: FeatureRecord
    dim: int | None

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each key, (n, 16), has a row already, (n,)."""


class FeatureWriter:
    """Appends batches to a feature; for one thread of one process. Opened by `Feature.writer`."""

    def __init__(self, feature: Appendable, writer: str, rows: int) -> None:
        self.name, self._feature, self._expected = writer, feature, rows
        self._dim = feature.dim
        self._process = os.getpid()
        self._part: PartWriter | None = None

    def append(self, keys: Keys, values: Values, lengths: Lengths | None = None) -> None:
        """Add rows: keys (n, 16) and values (n, d); with lengths (n,), sequences as (lengths.sum(), d).

        A key that the feature already has, or that the batch repeats, is stored once.

        Raises:
            DataError: shapes do not match, or values are NaN or infinite.
            StoreError: the disk is full or fails; batches appended before are kept.
        """
        if os.getpid() != self._process:
            raise StoreError(f"{self._feature.name}: a writer stays in the process that opened it")
        is_new = np.zeros(len(keys), np.bool_)
        is_new[first_occurrences(keys)] = True
        is_new &= ~self._feature.has(keys)
        if lengths is not None:
            values, lengths = values[np.repeat(is_new, lengths)], lengths[is_new]
        else:
            values = values[is_new]
        keys = keys[is_new]
        if not all_finite(values):
            raise DataError(f"{self._feature.name}: NaN or infinity is never stored")
        vectors = len(keys) if lengths is None else int(lengths.sum())
        if values.ndim != 2 or len(values) != vectors or self._dim not in (None, values.shape[1]):
            raise DataError(f"{self._feature.name}: values of shape {values.shape} for {vectors} vectors")
        if len(keys):
            self._dim = values.shape[1]
            self._part_for(len(keys), values, lengths is not None).append(keys, values, lengths)

    def _part_for(self, rows: int, values: Values, ragged: bool) -> PartWriter:
        """A part with capacity for the batch."""
        vectors = len(values)
        if self._part and not self._part.has_room(rows, vectors):
            self.close()
        if not self._part:
            limit = max(vectors, PART_BYTES // max(1, values[:1].nbytes))
            shape = Shape(
                rows=max(rows, min(limit, self._expected)),
                vectors=max(vectors, min(limit, self._expected * (ASSUMED_LENGTH if ragged else 1))),
                dim=values.shape[1],
                dtype=values.dtype.newbyteorder("<").str,
                ragged=ragged,
            )
            self._part = self._new_part(shape)
        return self._part

    def _new_part(self, shape: Shape) -> PartWriter:
        """A part in progress; it is renamed to .partial only once its stamp is on disk."""
        partial = self._feature.folder / f"{part_name()}.{self.name}.partial"
        part = PartWriter(partial.with_suffix(".new"), shape, self._feature.record.header)
        with writing(partial):
            part.path = part.path.replace(partial)
            sync_folder(partial.parent)
        return part

    def close(self) -> None:
        """Seal the part in progress."""
        part, self._part = self._part, None
        if part:
            part.close()
            self._expected = max(0, self._expected - part.rows)
            seal(part.path, self._feature.record.header)


def unfinished_files(folder: Path) -> list[Path]:
    """Files in a feature's folder that a writer has in progress, or had when it died."""
    return sorted([*folder.glob("*.partial"), *folder.glob("*.new")])


def seal_unfinished(folder: Path, name: str, header: Mapping[str, str], writer: str = "") -> None:
    """Seal the committed rows of dead writers.

    These are `writer`, if the caller holds its lock, and all others whose lock is free.
    """
    for path in unfinished_files(folder):
        owner = path.with_suffix("").suffix[1:]
        if owner == writer:
            settle(path, header)
        else:
            with suppress(StoreBusyError), locked(folder / f"{owner}.lock", name):
                settle(path, header)


def settle(path: Path, header: Mapping[str, str]) -> None:
    """Seal the committed rows of a dead writer's file, and delete it; the caller holds its lock."""
    if path.suffix == ".partial" and path.exists():  # another process may have sealed it meanwhile
        seal(path, header)
    with writing(path):
        path.unlink(missing_ok=True)
