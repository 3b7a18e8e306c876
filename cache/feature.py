"""One feature: a folder of sealed parts, the spec that made them, and the inputs that failed."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import DataError, MissingRowsError, SpecMismatchError, StoreError
from encode_once.cache.format.failures import Failure, add_failures, keep_failures, read_failures
from encode_once.cache.format.feature_writer import FeatureWriter, seal_left_behind
from encode_once.cache.format.locks import locked
from encode_once.cache.format.part import Part, Rows, Shape, Values, offsets_of, ranges
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.keys import KEY_BYTES, KeyIndex, Keys, Shard, Spec, pack, spec_key
from encode_once.cache.names import OWN, FeatureName

if TYPE_CHECKING:
    from encode_once.cache.store import Store

JOURNAL = "failures.jsonl"
Files = dict[Path, tuple[int, int, int]]  # path → inode, size, time of modification in nanoseconds
LOOKS = 5  # at a folder whose parts another process is just replacing


class Feature:
    """One output of one encoder: a vector, or a sequence of vectors, for each content key.

    It may be pickled, and used after a fork: it holds no handle of the HDF5 library.
    """

    def __init__(self, store: "Store", name: str) -> None:
        self.store, self.name = store, name
        self.folder = store.path / "features" / name  # where rows are added
        self._parts: list[Part] = []
        self._files: Files = {}
        self.reload()

    def __reduce__(self) -> tuple[type["Feature"], tuple["Store", str]]:
        return Feature, (self.store, self.name)

    @property
    def _folders(self) -> list[Path]:
        """Where its rows are: in the store, and in the store that this one has as its base."""
        base = [self.store.base.path / "features" / self.name] if self.store.base else []
        return [folder for folder in (self.folder, *base) if (folder / "spec.json").exists()]

    def _list_files(self) -> Files:
        """Its specs and parts by path, in order, each with inode, size and time of modification."""
        return {
            Path(file.path): (file.stat().st_ino, file.stat().st_size, file.stat().st_mtime_ns)
            for folder in self._folders
            for file in sorted(os.scandir(folder), key=lambda file: file.name)
            if file.name == "spec.json" or file.name.endswith(".h5")
        }

    @property
    def is_current(self) -> bool:
        """Whether its specs and parts are on disk as they were when it was opened or last reloaded."""
        with suppress(FileNotFoundError):
            return self._files == self._list_files()
        return False

    def reload(self) -> None:
        """Look again at what is on disk. Rows keep their numbers while no part vanishes."""
        if self._files and self.is_current:
            return
        records = [FeatureRecord.read(folder) for folder in self._folders] or [
            FeatureRecord.read(self.folder)
        ]
        self.record = records[0]
        for record, folder in zip(records[1:], self._folders[1:], strict=True):
            if record.key != self.record.key:
                raise SpecMismatchError(
                    f"{self.folder} was made another way than {folder}: delete it, or use another --store"
                )
        self._files, self._parts = self._open_parts()
        self.starts = np.cumsum([0, *(part.rows for part in self._parts)])  # the first row of each part
        no_keys = np.empty((0, KEY_BYTES), np.uint8)
        self.keys: Keys = np.concatenate([no_keys, *(part.keys for part in self._parts)])  # of all rows
        self.__dict__.pop("_index", None)
        # What the first rows decided; None while there are none.
        self.ragged: bool | None = None
        self.dim: int | None = None
        self.dtype: np.dtype[Any] | None = None
        for part in self._parts:
            kind = part.shape.ragged, part.shape.dim, np.dtype(part.shape.dtype)
            if self.dim is not None and kind != (self.ragged, self.dim, self.dtype):
                raise StoreError(f"{part.path} holds rows of another shape than the parts before it")
            self.ragged, self.dim, self.dtype = kind

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys)

    def _open_parts(self) -> tuple[Files, list[Part]]:
        """What is on disk, and the parts: those opened before, which never change, then new ones."""
        for _ in range(LOOKS):
            with suppress(FileNotFoundError):  # compacted since the folder was listed
                files = self._list_files()
                opened = {
                    part.path: part
                    for part in self._parts
                    if part.path in files and files[part.path] == self._files[part.path]
                }
                paths = [path for path in files if path.suffix == ".h5" and path not in opened]
                return files, [*opened.values(), *(Part(path, self.key) for path in paths)]
        raise StoreError(f"{self.folder}: its parts keep vanishing")

    def __len__(self) -> int:
        """How many contents have vectors here."""
        return len(self._index)

    @property
    def spec(self) -> Spec:
        """All that decides the values."""
        return self.record.spec

    @property
    def modality(self) -> str:
        """Which of a sample's contents it encodes: "image" or "caption"."""
        return str(self.spec["modality"])

    @property
    def holds_texts(self) -> bool:
        """Whether its rows are texts, as bytes of UTF-8, rather than vectors."""
        return self.dtype == np.uint8

    @property
    def encoder(self) -> str:
        """The encoder it is an output of."""
        return FeatureName.parse(self.name, OWN).encoder

    @property
    def output(self) -> str:
        """Which of the encoder's outputs it is."""
        return FeatureName.parse(self.name, OWN).output

    @property
    def key(self) -> str:
        """The hash of the spec."""
        return self.record.key

    @property
    def parts(self) -> list[Part]:
        """The sealed parts, in the order of their rows."""
        return self._parts

    @property
    def weights_file(self) -> str | None:
        """The local file of weights the first rows were made with, if any."""
        return self.record.provenance.get("weights_file")

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(part.nbytes for part in self._parts)

    def add_provenance(self, provenance: Mapping[str, str]) -> None:
        """Tell beside the spec what else is known of how the next rows are made."""
        told = {**self.record.provenance, **provenance}
        if told != self.record.provenance:
            self._begin_writing()
            self.record = replace(self.record, provenance=told)
            self.record.write(self.folder)
            self._files = self._list_files()

    def _begin_writing(self) -> None:
        """Make the feature's folder, where only the base of its store has the feature.

        Raises:
            StoreError: the store is only read.
        """
        self.store.create()
        if not (self.folder / "spec.json").exists():
            self.record.write(self.folder)

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
        return np.greater_equal(self.find(keys), 0)

    def find(self, keys: Keys) -> NDArray[np.intp]:
        """The row of each of these contents, (n,) for `take`, or -1 where it has no vector here."""
        first = int(self._index.find(keys[:1])[0]) if len(keys) else -1
        if first >= 0 and np.array_equal(keys, self.keys[first : first + len(keys)]):
            return np.arange(first, first + len(keys))  # they lie here as they are asked for
        return self._index.find(keys)

    def read(self, keys: Keys) -> Values:
        """Vectors of these contents, (n, d) in the stored dtype; mapped, not copied, where they lie in order.

        Raises:
            MissingRowsError: some are not here.
            DamagedError: some are not as they were written.
        """
        return self.take(self._find(keys))

    def take(self, rows: NDArray[np.intp]) -> Values:
        """Vectors (n, d) of rows that `find` gave, as `read` returns them."""
        if self.ragged:
            raise DataError(f"{self.name} holds a sequence a row: use read_ragged")
        if len(rows) and (np.diff(rows) == 1).all():
            part, start = self._part_of(rows[0])
            if rows[-1] - start < part.rows:
                return part.run(int(rows[0] - start), int(rows[-1] - start) + 1)
        if len(self._parts) == 1:
            return self._parts[0].gather(rows)
        values = self._no_values(len(rows))
        for part, mine, local in self._by_part(rows):
            values[mine] = part.gather(local)
        return values

    def read_ragged(self, keys: Keys) -> tuple[Values, NDArray[np.intp]]:
        """Sequences of these contents: values (total, d) and offsets (n + 1,).

        Row i is values[offsets[i]:offsets[i + 1]].

        Raises:
            MissingRowsError: some are not here.
            DamagedError: some are not as they were written.
        """
        return self.take_ragged(self._find(keys))

    def take_ragged(self, rows: NDArray[np.intp]) -> tuple[Values, NDArray[np.intp]]:
        """Sequences of rows that `find` gave, as `read_ragged` returns them."""
        if self.ragged is False:
            raise DataError(f"{self.name} holds one vector a row: use read")
        lengths = np.zeros(len(rows), np.intp)
        pieces: list[tuple[NDArray[np.intp], Values]] = []
        for part, mine, local in self._by_part(rows):
            values, lengths[mine] = part.gather_ragged(local)
            pieces.append((mine, values))
        offsets = offsets_of(lengths)
        if len(pieces) == 1:
            return pieces[0][1], offsets
        values = self._no_values(int(offsets[-1]))
        for mine, some in pieces:
            values[ranges(offsets[mine], lengths[mine])] = some
        return values, offsets

    def lengths(self) -> NDArray[np.intp]:
        """How long the sequence of each row is, (rows,)."""
        return np.concatenate([np.empty(0, np.intp), *(part.lengths() for part in self._parts)])

    def chunk(self, rows: NDArray[np.intp]) -> Rows:
        """Keys and vectors of rows that `find` gave, and lengths where the feature is ragged."""
        if not self.ragged:
            return self.keys[rows], self.take(rows), None
        values, offsets = self.take_ragged(rows)
        return self.keys[rows], values, np.diff(offsets)

    def shape(self, rows: NDArray[np.intp]) -> Shape:
        """The shape of a part with room for exactly these rows."""
        first = self._parts[0].shape
        vectors = len(rows)
        if first.ragged:
            vectors = int(self.lengths()[rows].sum())
        return replace(first, rows=len(rows), vectors=vectors)

    def _part_of(self, row: int) -> tuple[Part, int]:
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        return self._parts[number], int(self.starts[number])

    def _by_part(self, rows: NDArray[np.intp]) -> Iterator[tuple[Part, NDArray[np.intp], NDArray[np.intp]]]:
        """Each part that has some of these rows, which of them, and their numbers in the part."""
        for part, start in zip(self._parts, self.starts, strict=False):
            mine = np.flatnonzero((start <= rows) & (rows < start + part.rows))
            if len(mine):
                yield part, mine, rows[mine] - start

    def _no_values(self, vectors: int) -> Values:
        return np.empty((vectors, self.dim or 0), self.dtype or np.float16)

    def _find(self, keys: Keys) -> NDArray[np.intp]:
        rows = self.find(keys)
        lacking = int((rows < 0).sum())
        if lacking:
            raise MissingRowsError(f"{self.name} lacks {lacking} of {len(keys)} rows: extract them first")
        return rows

    def failures(self) -> dict[bytes, Failure]:
        """Inputs that were tried and have no vector, by content key."""
        failed: dict[bytes, Failure] = {}
        for folder in reversed(self._folders):
            failed |= read_failures(folder / JOURNAL)
        there = self.has(pack(failed))
        return {key: failure for (key, failure), done in zip(failed.items(), there, strict=True) if not done}

    def record_failures(self, failures: Collection[Failure]) -> None:
        """Note inputs that have no vector, and why."""
        if failures:
            self._begin_writing()
            add_failures(self.folder / JOURNAL, failures)

    def forget_overcome_failures(self) -> None:
        """Drop the failures of contents that have vectors by now: those may go, and must be encoded then."""
        self._begin_writing()
        keep_failures(self.folder / JOURNAL, self.failures().values())

    @contextmanager
    def writer(self, rows: int, shard: Shard | None = None) -> Iterator[FeatureWriter]:
        """Add rows; those whose `append` returned are kept however the block ends, even by SIGKILL.

        Args:
            rows: about how many will come.
            shard: which of several writers at a time this is; by default the only one.

        Raises:
            StoreBusyError: another process is writing this feature, or this shard of it.
            StoreError: the store is only read.
        """
        self._begin_writing()
        shard = shard or Shard()
        with locked(self.folder / f"{shard}.lock", self.name):
            seal_left_behind(self, str(shard))
            self.reload()
            writer = FeatureWriter(self, str(shard), rows)
            try:
                yield writer
            finally:
                writer.close()
                self.reload()
