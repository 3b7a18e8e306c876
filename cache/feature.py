"""One feature: a folder of sealed parts, the spec that made them, and the inputs that failed."""

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cache.errors import DataError, MissingRowsError, SpecMismatchError, StoreBusyError, StoreError
from cache.keys import KEY_BYTES, KeyIndex, Keys, Spec, first_occurrences, pack, spec_key
from cache.parts import Part, PartWriter, Shape, header, seal

PART_BYTES = 1 << 30  # a part is sealed when its vectors reach this size
GUESSED_LENGTH = 128  # vectors a sequence; room that stays empty takes no disk and is cut off when sealed


@dataclass(frozen=True)
class Failure:
    """Why an input has no vector."""

    key: str  # of the input's content, in hexadecimal
    reason: str  # a type, such as "truncated"
    message: str
    input: str  # the path or caption, as it was when it failed


class Feature:
    """One output of one encoder: a vector, or a sequence of vectors, for each content key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        try:
            record = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            self.spec: Spec = record["spec"]
            self.key: str = record["key"]
            self.provenance: Mapping[str, str] = record[
                "provenance"
            ]  # versions, files: what is told, not compared
            self.created: str = record["created"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{folder / 'spec.json'} cannot be read: {error}") from error
        if self.key != spec_key(self.spec):
            raise StoreError(f"{folder / 'spec.json'} was altered: its key is not that of its spec")
        self.reload()

    def reload(self) -> None:
        """Look again at what is on disk."""
        self._parts = [Part(path, self.key) for path in sorted(self.folder.glob("*.h5"))]
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])
        no_keys = np.empty((0, KEY_BYTES), np.uint8)
        self._keys = np.concatenate([no_keys, *(part.keys for part in self._parts)])
        self._index = KeyIndex(self._keys)
        # What the first rows decided; None while there are none.
        self.ragged: bool | None = None
        self.dim: int | None = None
        self.dtype: np.dtype[Any] | None = None
        for part in self._parts:
            kind = part.offsets is not None, part.values.shape[1], part.values.dtype
            if self.dim is not None and kind != (self.ragged, self.dim, self.dtype):
                raise StoreError(f"{part.path} holds rows of another shape than the parts before it")
            self.ragged, self.dim, self.dtype = kind

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def weights_file(self) -> str | None:
        """The local file of weights the first rows were made with, if any."""
        return self.provenance.get("weights_file")

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(part.path.stat().st_size for part in self._parts)

    def check(self, spec: Spec) -> None:
        """Refuse to go on where `spec` is not this feature's.

        Raises:
            SpecMismatchError: with every line in which they differ.
        """
        if spec_key(spec) != self.key:
            differing = [
                f"{name}: stored {self.spec.get(name, '–')}, asked for {spec.get(name, '–')}"
                for name in sorted({*self.spec, *spec})
                if self.spec.get(name) != spec.get(name)
            ]
            raise SpecMismatchError(
                f"{self.name} in this store was made another way ({'; '.join(differing)}): "
                "ask for it as stored, or use another --store"
            )

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of these contents, (n, 16), have vectors here, (n,)."""
        return np.greater_equal(self._index.find(keys), 0)

    def read(self, keys: Keys) -> NDArray[Any]:
        """Vectors of these contents, (n, d) in the stored dtype; mapped, not copied, where they lie in order.

        Raises:
            MissingRowsError: some are not here.
        """
        return self.take(self._find(keys))

    def find(self, keys: Keys) -> NDArray[np.intp]:
        """The row of each of these contents, (n,) for `take`, or -1 where it has no vector here."""
        return self._index.find(keys)

    def take(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Vectors (n, d) of rows that `find` gave, as `read` returns them."""
        if self.ragged:
            raise DataError(f"{self.name} holds a sequence a row: use read_ragged")
        if len(rows) and (np.diff(rows) == 1).all():
            part = int(np.searchsorted(self._starts, rows[0], "right")) - 1
            if rows[-1] < self._starts[part + 1]:
                mapped: NDArray[Any] = self._parts[part].values[rows[0] - self._starts[part] :][: len(rows)]
                return mapped
        values = self._no_values(len(rows))
        for source, start in zip(self._parts, self._starts, strict=False):
            mine = np.flatnonzero((start <= rows) & (rows < start + source.rows))
            values[mine] = source.values[rows[mine] - start]
        return values

    def read_ragged(self, keys: Keys) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Sequences of these contents: values (total, d) and offsets (n + 1,).

        Row i is values[offsets[i]:offsets[i + 1]].

        Raises:
            MissingRowsError: some are not here.
        """
        if self.ragged is False:
            raise DataError(f"{self.name} holds one vector a row: use read")
        pieces = []
        for row in self._find(keys):
            part = int(np.searchsorted(self._starts, row, "right")) - 1
            offsets = self._parts[part].offsets
            assert offsets is not None
            first, end = offsets[row - self._starts[part] :][:2]
            pieces.append(self._parts[part].values[first:end])
        lengths = [len(piece) for piece in pieces]
        return np.concatenate([self._no_values(0), *pieces]), np.concatenate(
            [[0], np.cumsum(lengths, dtype=np.intp)]
        )

    def _no_values(self, rows: int) -> NDArray[Any]:
        return np.empty((rows, self.dim or 0), self.dtype or np.float16)

    def _find(self, keys: Keys) -> NDArray[np.intp]:
        rows = self._index.find(keys)
        lacking = int((rows < 0).sum())
        if lacking:
            raise MissingRowsError(f"{self.name} lacks {lacking} of {len(keys)} rows: extract them first")
        return rows

    def failures(self) -> dict[bytes, Failure]:
        """Inputs that were tried and have no vector, by content key."""
        failed = {}
        journal = self.folder / "failures.jsonl"
        for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
            try:
                failure = Failure(**json.loads(line))
                failed[bytes.fromhex(failure.key)] = failure
            except (ValueError, TypeError):
                continue  # the torn last line of a killed process: that input will be tried again
        there = self.has(pack(failed))
        return {key: failure for (key, failure), done in zip(failed.items(), there, strict=True) if not done}

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Note inputs that have no vector, and why."""
        lines = "".join(json.dumps(asdict(failure)) + "\n" for failure in failures)
        if lines:
            with (self.folder / "failures.jsonl").open("a", encoding="utf-8") as journal:
                journal.write("\n" + lines)  # on a line of its own, even after one that a kill tore
                journal.flush()
                os.fsync(journal.fileno())

    @contextmanager
    def writer(self, rows: int) -> Iterator["FeatureWriter"]:
        """Add rows; those whose `append` returned are kept however the block ends, even by SIGKILL.

        Args:
            rows: about how many will come.

        Raises:
            StoreBusyError: another process is writing this feature.
        """
        lock = FileLock(self.folder / "writer.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreBusyError(
                f"another process is writing {self.name}: let it end, or use another --store"
            ) from error
        with lock:
            for left_behind in self.folder.glob("*.partial"):
                seal(left_behind, left_behind.with_suffix(""), self.key)
            self.reload()
            writer = FeatureWriter(self, rows)
            try:
                yield writer
            finally:
                writer.close()
                self.reload()


class FeatureWriter:
    """Appends batches to a feature, a part after another. Made by `Feature.writer`."""

    def __init__(self, feature: Feature, rows: int) -> None:
        self._feature, self._expected = feature, rows
        self._part: PartWriter | None = None

    def append(self, keys: Keys, values: NDArray[Any], lengths: NDArray[np.intp] | None = None) -> None:
        """Add rows: keys (n, 16) and values (n, d); with lengths (n,), sequences as (lengths.sum(), d).

        A key that is there already, or comes twice, is stored once.

        Raises:
            DataError: shapes that do not fit, NaN or infinity.
        """
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

    def _room(self, rows: int, vectors: int, values: NDArray[Any], ragged: bool) -> PartWriter:
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
            feature = self._feature
            attributes = header(feature.name, feature.key, feature.spec, feature.provenance)
            path = feature.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.h5.partial"
            self._part = PartWriter(path, shape, attributes)
        return self._part

    def close(self) -> None:
        """Seal the part being written."""
        if self._part:
            self._part.close()
            self._expected = max(0, self._expected - self._part.rows)
            seal(self._part.path, self._part.path.with_suffix(""), self._feature.key)
            self._part = None
