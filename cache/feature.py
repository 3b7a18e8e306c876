"""One feature: a folder of sealed parts, their spec, and the inputs that failed."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from encode_once.cache.errors import DataError, MissingRowsError, SpecMismatchError, StoreError
from encode_once.cache.format.failures import Failure, add_failures, read_failures, write_failures
from encode_once.cache.format.feature_writer import FeatureWriter, seal_unfinished, unfinished_files
from encode_once.cache.format.inventory import Inventory
from encode_once.cache.format.locks import helper_locked, locked
from encode_once.cache.format.part import Lengths, Offsets, Part, RowBlock, Shape, Values, offsets_of, ranges
from encode_once.cache.format.spec_file import SPEC_FILE, FeatureRecord
from encode_once.cache.keys import KeyIndex, Keys, RowIndex, Shard, Spec, pack, spec_differences, spec_key
from encode_once.cache.large_arrays import concatenated
from encode_once.cache.names import OWN, FeatureName

if TYPE_CHECKING:
    from encode_once.cache.remote.mirror import Mirror

JOURNAL = "failures.jsonl"
FileStats = dict[Path, tuple[int, int, int]]  # path → inode, size, modification time in nanoseconds
MAX_LISTINGS = 5  # of a folder while another process replaces its parts


class Feature:
    """One output of one encoder: a vector, or a sequence of vectors, for each content key.

    It can be pickled, and used after a fork: it holds no handle of the HDF5 library.

    Args:
        name: its name in the store.
        folder: where rows are added.
        create_store: called before anything is written; raises `StoreError` if the store is read-only.
        base: a folder of further rows, which is only read.
        mirrors: of these folders, those that are local copies of folders at URLs.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        create_store: Callable[[], None],
        base: Path | None = None,
        mirrors: Mapping[Path, "Mirror"] = MappingProxyType({}),
    ) -> None:
        self.name, self.folder = name, folder
        self._create_store, self._base, self._mirrors = create_store, base, mirrors
        self.inventory = _inventory_of(folder, name)
        self.parts: list[Part] = []  # sealed, in the order of their rows
        self._files: FileStats = {}
        self.reload()

    def __repr__(self) -> str:
        shape = f"{len(self):,} {'sequences' if self.ragged else 'rows'} of {self.dim} {self.dtype}"
        return f"<Feature {self.name}: {shape if self.dim else 'no rows'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Feature, (self.name, self.folder, self._create_store, self._base, dict(self._mirrors))

    @property
    def _folders(self) -> list[Path]:
        """The folders that have rows of it."""
        folders = [self.folder, *([self._base] if self._base else [])]
        return [folder for folder in folders if (folder / SPEC_FILE).exists()]

    def _list_files(self) -> FileStats:
        """The stats of its specs and parts, in order."""
        return {
            Path(file.path): (file.stat().st_ino, file.stat().st_size, file.stat().st_mtime_ns)
            for folder in self._folders
            for file in sorted(os.scandir(folder), key=lambda file: file.name)
            if file.name == SPEC_FILE or file.name.endswith(".h5")
        }

    def missing_parts(self) -> list[str]:
        """One line for each part that is gone, although this program has not removed it."""
        return [line for folder in self._folders for line in _inventory_of(folder, self.name).report(folder)]

    def note_parts(self) -> None:
        """Bring the inventory up to date; the caller holds a lock of the feature."""
        own = {part.path: part.rows for part in self.parts if part.path.parent == self.folder}
        self.inventory.add(self.record, own)

    @property
    def is_current(self) -> bool:
        """Whether its specs and parts have not changed on disk since it was opened or reloaded."""
        with suppress(FileNotFoundError):
            return self._files == self._list_files()
        return False

    def reload(self) -> None:
        """Read the current parts. Rows keep their numbers unless a part has been removed."""
        if self._files and self.is_current:
            return
        records = [FeatureRecord.read(folder) for folder in self._folders] or [
            FeatureRecord.read(self.folder)
        ]
        self.record = records[0]
        for record, folder in zip(records[1:], self._folders[1:], strict=True):
            if record.key != self.record.key:
                raise SpecMismatchError(
                    f"{self.folder} has another spec than {folder}: delete it, or use another --store"
                )
        self._files, self.parts = self._open_parts()
        self.starts = np.cumsum([0, *(part.rows for part in self.parts)])  # the first row of each part
        self.keys: Keys = concatenated([part.keys for part in self.parts] or [pack([])])  # of all rows
        self.__dict__.pop("_index", None)
        for part in self.parts:
            if part.shape.kind != self.parts[0].shape.kind:
                raise StoreError(f"{part.path} has rows of another shape than the parts before it")
        # Decided by the first rows; None until then.
        first = self.parts[0].shape if self.parts else None
        self.ragged = first.ragged if first else None
        self.dim = first.dim if first else None
        self.dtype = np.dtype(first.dtype) if first else None

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys)

    def _open_parts(self) -> tuple[FileStats, list[Part]]:
        """The stats of its files, and its parts: those already open, which never change, then new ones."""
        for _ in range(MAX_LISTINGS):
            with suppress(FileNotFoundError):  # a part was compacted after the folder was listed
                files = self._list_files()
                opened = {
                    part.path: part for part in self.parts if files.get(part.path) == self._files[part.path]
                }
                paths = [path for path in files if path.suffix == ".h5" and path not in opened]
                return files, [*opened.values(), *map(self._part, paths)]
        raise StoreError(
            f"{self.folder}: another process keeps replacing its parts; try again when it has finished"
        )

    def _part(self, path: Path) -> Part:
        mirror = self._mirrors.get(path.parent)
        return Part(path, self.key, mirror.parts) if mirror else Part(path, self.key)

    @property
    def has_rows(self) -> bool:
        """Whether any content has a vector."""
        return len(self.keys) > 0

    def __len__(self) -> int:
        """The number of distinct contents that have vectors."""
        return len(self._index)

    @property
    def spec(self) -> Spec:
        """The settings that decide the values."""
        return self.record.spec

    @property
    def modality(self) -> str:
        """What its vectors are of: "image", "caption" or, for imported vectors, "row"."""
        return str(self.spec["modality"])

    @property
    def columns(self) -> int | None:
        """The width of its vectors if they are sparse: sequences of pairs (column, number); else None."""
        return int(self.spec["columns"]) if self.is_imported and "columns" in self.spec else None

    @property
    def width(self) -> int:
        """The number of columns of its vectors; 0 if it has no rows yet."""
        return self.columns or self.dim or 0

    @property
    def has_sequences(self) -> bool:
        """Whether its rows are sequences of vectors, rather than a vector each, dense or sparse."""
        return bool(self.ragged) and self.columns is None

    @property
    def is_imported(self) -> bool:
        """Whether its vectors come from a file of the user's, so that no encoder can add to them."""
        return self.modality == "row"

    @property
    def is_random(self) -> bool:
        """Whether it was made by an encoder with random weights, as a trial."""
        return str(self.spec.get("weights")).startswith("RANDOM")

    @property
    def holds_texts(self) -> bool:
        """Whether its rows are texts, as UTF-8 bytes, instead of vectors."""
        return self.dtype == np.uint8

    @property
    def encoder(self) -> str:
        """The encoder that made it."""
        return FeatureName.parse(self.name, OWN).encoder

    @property
    def output(self) -> str:
        """The name of the encoder's output."""
        return FeatureName.parse(self.name, OWN).output

    @property
    def key(self) -> str:
        """The hash of the spec."""
        return self.record.key

    @property
    def weights_file(self) -> str | None:
        """The local file of weights that made the first rows; None if there was none."""
        return self.record.provenance.get("weights_file")

    @property
    def nbytes(self) -> int:
        """Size of its parts, in bytes."""
        return sum(part.nbytes for part in self.parts)

    def add_provenance(self, provenance: Mapping[str, str]) -> None:
        """Record provenance, such as library versions, for rows written from now on."""
        merged = {**self.record.provenance, **provenance}
        if merged != self.record.provenance:
            self._begin_writing()
            self.record = replace(self.record, provenance=merged)
            self.record.write(self.folder)
            self._files = self._list_files()

    def _begin_writing(self) -> None:
        """Make the feature's folder if only the base has it.

        Raises:
            StoreError: the store is read-only.
        """
        self._create_store()
        if not (self.folder / SPEC_FILE).exists():
            self.record.write(self.folder)

    def check(self, spec: Spec) -> None:
        """Refuse another spec than the stored one.

        Raises:
            SpecMismatchError: the message lists all differences.
        """
        if spec_key(spec) != self.key:
            raise SpecMismatchError(
                f"{self.name} in this store has another spec ({spec_differences(self.spec, spec)}): "
                "ask for it as stored, or use another --store"
            )

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each content, (n, 16), has a vector, (n,)."""
        return self._index.has(keys)

    def find(self, keys: Keys) -> RowIndex:
        """The row of each content, (n,), for `take`; -1 if it has no vector."""
        first = int(self._index.find(keys[:1])[0]) if len(keys) else -1
        if first >= 0 and np.array_equal(keys, self.keys[first : first + len(keys)]):
            return np.arange(first, first + len(keys))  # consecutive rows
        return self._index.find(keys)

    def read(self, keys: Keys) -> Values:
        """Vectors of contents, (n, d) in the stored dtype; mapped, not copied, if the rows are consecutive.

        Raises:
            MissingRowsError: a content has no vector.
            DamagedError: a row has changed since it was written.
        """
        return self.take(self._find_all(keys))

    def to_numpy(self) -> Values:
        """The vectors of all rows, (rows, d) in the stored dtype, in the order of `keys`.

        Raises:
            DataError: the feature has a sequence per row.
        """
        return self.take(np.arange(len(self.keys)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.to_numpy(), dtype, copy=copy)

    def take(self, rows: RowIndex) -> Values:
        """Vectors (n, d) of rows returned by `find`; like `read`."""
        if self.ragged:
            raise DataError(f"{self.name} has a sequence per row: use read_ragged")
        if len(rows) and (np.diff(rows) == 1).all():
            part, start = self._part_of(rows[0])
            if rows[-1] - start < part.rows:
                return part.consecutive(int(rows[0] - start), int(rows[-1] - start) + 1)
        if len(self.parts) == 1:
            return self.parts[0].gather(rows)
        values = self._no_values(len(rows))
        for part, places, local in self._by_part(rows):
            values[places] = part.gather(local)
        return values

    def read_ragged(self, keys: Keys) -> tuple[Values, Offsets]:
        """Sequences of contents: values (total, d) and offsets (n + 1,).

        Row i is values[offsets[i]:offsets[i + 1]].

        Raises:
            MissingRowsError: a content has no vector.
            DamagedError: a row has changed since it was written.
        """
        return self.take_ragged(self._find_all(keys))

    def take_ragged(self, rows: RowIndex) -> tuple[Values, Offsets]:
        """Sequences of rows returned by `find`; like `read_ragged`."""
        if self.ragged is False:
            raise DataError(f"{self.name} has one vector per row: use read")
        lengths = np.zeros(len(rows), np.intp)
        pieces: list[tuple[RowIndex, Values]] = []
        for part, places, local in self._by_part(rows):
            values, lengths[places] = part.gather_ragged(local)
            pieces.append((places, values))
        offsets = offsets_of(lengths)
        if len(pieces) == 1:
            return pieces[0][1], offsets
        values = self._no_values(int(offsets[-1]))
        for places, piece in pieces:
            values[ranges(offsets[places], lengths[places])] = piece
        return values, offsets

    def lengths(self) -> Lengths:
        """The length of each row's sequence, (rows,)."""
        return np.concatenate([np.empty(0, np.intp), *(part.lengths() for part in self.parts)])

    def block(self, rows: RowIndex) -> RowBlock:
        """Keys and vectors of rows returned by `find`, and lengths if the feature is ragged."""
        if not self.ragged:
            return self.keys[rows], self.take(rows), None
        values, offsets = self.take_ragged(rows)
        return self.keys[rows], values, np.diff(offsets)

    def shape_of(self, rows: RowIndex) -> Shape:
        """The shape of a part of exactly these rows."""
        vectors = int(self.lengths()[rows].sum()) if self.ragged else len(rows)
        return replace(self.parts[0].shape, rows=len(rows), vectors=vectors)

    def _part_of(self, row: int) -> tuple[Part, int]:
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.parts[number], int(self.starts[number])

    def _by_part(self, rows: RowIndex) -> Iterator[tuple[Part, RowIndex, RowIndex]]:
        """Each part that has any of the rows, their places in `rows`, and their numbers in the part."""
        for part, start in zip(self.parts, self.starts, strict=False):
            places = np.flatnonzero((start <= rows) & (rows < start + part.rows))
            if len(places):
                yield part, places, rows[places] - start

    def _no_values(self, vectors: int) -> Values:
        return np.empty((vectors, self.dim or 0), self.dtype or np.float16)

    def _find_all(self, keys: Keys) -> RowIndex:
        rows = self.find(keys)
        lacking = int((rows < 0).sum())
        if lacking:
            raise MissingRowsError(f"{self.name} lacks {lacking} of {len(keys)} rows: extract them first")
        return rows

    def failures(self) -> dict[bytes, Failure]:
        """Inputs that failed and have no vector, by content key."""
        failed: dict[bytes, Failure] = {}
        for folder in reversed(self._folders):
            failed |= read_failures(folder / JOURNAL)
        stored = self.has(pack(failed))
        return {key: failure for (key, failure), has in zip(failed.items(), stored, strict=True) if not has}

    def record_failures(self, failures: Collection[Failure]) -> None:
        """Record inputs that have no vector."""
        if failures:
            self._begin_writing()
            mirror = self._mirrors.get(self.folder)
            with mirror.journal_locked(self.folder) if mirror else nullcontext():
                add_failures(self.folder / JOURNAL, failures)

    def forget_overcome_failures(self) -> None:
        """Drop the failures of contents that have vectors now.

        Needed before such vectors are dropped: otherwise the failure would count again, and the content would
        not be encoded again.
        """
        self._begin_writing()
        write_failures(self.folder / JOURNAL, self.failures().values())

    def recover(self) -> None:
        """Seal the rows that writers committed before they died, so that they need not be encoded again.

        Raises:
            StoreError: there are such rows, and the store is read-only.
        """
        if unfinished_files(self.folder):
            self._begin_writing()
            seal_unfinished(self.folder, self.name, self.record.header)
            self.reload()

    def unfinished_helpers(self, shard: Shard) -> list[Path]:
        """The parts in progress of helpers of a shard's writer, see `writer`."""
        return [path for path in unfinished_files(self.folder) if f".{shard}+" in path.name]

    @contextmanager
    def _locked(self, name: str, is_helper: bool) -> Iterator[str]:
        """Hold a writer's lock, or that of the first free name of a helper; yields its name."""
        if is_helper:
            with helper_locked(self.folder, name, self.name) as helper:
                yield helper
        else:
            with locked(self.folder / f"{name}.lock", self.name):
                yield name

    @contextmanager
    def writer(
        self, rows: int, shard: Shard | None = None, *, is_helper: bool = False
    ) -> Iterator[FeatureWriter]:
        """Open for appending; appended batches are kept however the block ends, even by SIGKILL.

        Args:
            rows: the approximate number of rows to come.
            shard: of several concurrent writers, the shard of this one; by default it is the only writer.
            is_helper: it is one of several that write for the process which has opened this shard. There may
                be any number of them.

        Raises:
            StoreBusyError: another process is writing this feature, or this shard of it.
            RemoteError: the store is at a URL that cannot be reached; what is not there is kept here.
            StoreError: the store is read-only.
        """
        self._begin_writing()
        shard = shard or Shard()
        with (
            self._locked(str(shard), is_helper) as name,
            self._claimed(None if is_helper else shard) as writer_of,
        ):
            seal_unfinished(self.folder, self.name, self.record.header, name)
            self.reload()
            self.note_parts()
            writer = writer_of(self, name, rows)
            try:
                yield writer
            finally:
                writer.close()
                self.reload()
                self.note_parts()

    def _claimed(self, shard: Shard | None) -> AbstractContextManager[Callable[..., FeatureWriter]]:
        """Claim a shard of it at the URL, if it is at one; yields what makes a writer.

        shard: None for a helper of a writer that has the claim.
        """
        mirror = self._mirrors.get(self.folder)
        return mirror.writing(self.name, shard) if mirror else nullcontext(FeatureWriter)


def _inventory_of(folder: Path, name: str) -> Inventory:
    """The inventory of a feature in STORE/features/NAME."""
    return Inventory(folder.parents[name.count("/") + 1], name)
