"""Adding rows to a feature, a part after another, so that whatever was appended stays."""

import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import DataError, StoreBusyError, StoreError
from encode_once.cache.format.atomic import sync_folder, writing
from encode_once.cache.format.locks import locked
from encode_once.cache.format.part import Shape, Values
from encode_once.cache.format.part_writer import PartWriter, seal
from encode_once.cache.keys import Keys, first_occurrences

if TYPE_CHECKING:
    from encode_once.cache.feature import Feature

PART_BYTES = 1 << 30  # a part is sealed when its vectors reach this size
GUESSED_LENGTH = 128  # vectors a sequence; room that stays empty takes no disk and is cut off when sealed


def part_name() -> str:
    """A name no other part has; those made later come later."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.h5"


class FeatureWriter:
    """Appends batches to a feature. Made by `Feature.writer`, for one thread of one process."""

    def __init__(self, feature: "Feature", writer: str, rows: int) -> None:
        self._feature, self._writer, self._expected = feature, writer, rows
        self._process = os.getpid()
        self._part: PartWriter | None = None

    def append(self, keys: Keys, values: Values, lengths: NDArray[np.intp] | None = None) -> None:
        """Add rows: keys (n, 16) and values (n, d); with lengths (n,), sequences as (lengths.sum(), d).

        A key that the feature had before, or that comes twice in the batch, is stored once.

        Raises:
            DataError: shapes that do not fit, NaN or infinity.
            StoreError: the disk is full, or fails; what was appended before is kept.
        """
        if os.getpid() != self._process:
            raise StoreError(f"{self._feature.name}: a writer stays in the process that opened it")
        new = np.zeros(len(keys), np.bool_)
        new[first_occurrences(keys)] = True
        new &= ~self._feature.has(keys)
        if lengths is not None:
            values, lengths = values[np.repeat(new, lengths)], lengths[new]
        else:
            values = values[new]
        keys = keys[new]
        if not np.isfinite(values).all():
            raise DataError(f"{self._feature.name}: NaN or infinity is never stored")
        expected = len(keys) if lengths is None else int(lengths.sum())
        if values.ndim != 2 or len(values) != expected or self._feature.dim not in (None, values.shape[1]):
            raise DataError(f"{self._feature.name}: values of shape {values.shape} for {expected} vectors")
        if len(keys):
            self._room(len(keys), len(values), values, lengths is not None).append(keys, values, lengths)

    def _room(self, rows: int, vectors: int, values: Values, ragged: bool) -> PartWriter:
        """A part with room for the batch."""
        if self._part and not self._part.has_room(rows, vectors):
            self.close()
        if not self._part:
            room = max(vectors, PART_BYTES // max(1, values[:1].nbytes))
            shape = Shape(
                rows=max(rows, min(room, self._expected)),
                vectors=max(vectors, min(room, self._expected * (GUESSED_LENGTH if ragged else 1))),
                dim=values.shape[1],
                dtype=values.dtype.newbyteorder("<").str,
                ragged=ragged,
            )
            self._part = self._open(self._feature.folder / f"{part_name()}.{self._writer}.partial", shape)
        return self._part

    def _open(self, partial: Path, shape: Shape) -> PartWriter:
        """A part in progress; it has that name only once its stamp is on disk."""
        part = PartWriter(partial.with_suffix(".new"), shape, self._feature.record.header)
        with writing(partial):
            part.path = part.path.replace(partial)
            sync_folder(partial.parent)
        return part

    def close(self) -> None:
        """Seal the part being written."""
        part, self._part = self._part, None
        if part:
            part.close()
            self._expected = max(0, self._expected - part.rows)
            seal(part.path, sealed_path(part.path), self._feature.record.header)


def sealed_path(partial: Path) -> Path:
    """PART.h5 of PART.h5.WRITER.partial."""
    return partial.with_suffix("").with_suffix("")


def seal_left_behind(feature: "Feature", writer: str) -> None:
    """Seal what writers that died have committed.

    Those are the writer of this name, whose lock the caller holds, and others whose lock is free.
    """
    for unfinished in left_behind(feature.folder):
        owner = unfinished.with_suffix("").suffix[1:]
        if owner == writer:
            settle(unfinished, feature)
        else:
            with suppress(StoreBusyError), locked(feature.folder / f"{owner}.lock", feature.name):
                settle(unfinished, feature)


def left_behind(folder: Path) -> list[Path]:
    """What writers have in progress in a feature's folder, or had when they died."""
    return sorted([*folder.glob("*.partial"), *folder.glob("*.new")])


def settle(unfinished: Path, feature: "Feature") -> None:
    """Seal what a dead writer committed to one file; the caller holds its lock."""
    if unfinished.suffix == ".partial" and unfinished.exists():  # it may have been settled meanwhile
        seal(unfinished, sealed_path(unfinished), feature.record.header)
    with writing(unfinished):
        unfinished.unlink(missing_ok=True)
