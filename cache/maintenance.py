"""Keeping a store in order: compact it, drop what is damaged or no table needs, take in another store."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.captions import all_captioned
from encode_once.cache.errors import DamagedError, DataError, StoreError
from encode_once.cache.feature import Feature
from encode_once.cache.format.atomic import replacing, writing
from encode_once.cache.format.feature_writer import left_behind, part_name, settle
from encode_once.cache.format.locks import all_locked
from encode_once.cache.format.part import Part, chunks
from encode_once.cache.format.part_writer import copy_rows, new_part
from encode_once.cache.format.spec_file import Record
from encode_once.cache.keys import KeyIndex, Keys, Shard, first_occurrences, pack, present
from encode_once.cache.store import Store
from encode_once.cache.table import Table, load_table
from encode_once.cache.verify import part_files


@dataclass(frozen=True)
class Change:
    """What was done to a feature, or would be."""

    feature: str
    rows: int  # dropped or taken in
    nbytes: int  # that the feature takes more, or less, on disk


def compact(store: Store, names: Sequence[str] = ()) -> list[Change]:
    """Put each feature's rows into one part, each content once, in the order of the store's tables.

    A table's vectors then lie in one piece, which `fit` maps instead of copying.
    """
    _check_own(store)
    tables = all_captioned(store)
    changes = []
    for name in names or store.features():
        with _alone(store, name) as feature:
            before, nbytes = len(feature.keys), feature.nbytes
            wanted = feature.find(_contents(tables, feature))
            rows = np.concatenate([wanted[wanted >= 0], np.arange(before)])
            rows = rows[first_occurrences(feature.keys[rows])]
            if len(feature.parts) > 1 or not np.array_equal(rows, np.arange(before)):
                _replace(feature, feature.parts, rows)
            feature.reload()
            changes.append(Change(name, before - len(rows), feature.nbytes - nbytes))
    return changes


def drop_unreferenced(store: Store, names: Sequence[str] = (), *, delete: bool = False) -> list[Change]:
    """Drop the rows whose contents stand in no table, or only count them.

    What a captioner wrote of a table's image is a caption of the table, too: alone, and joined to its own.
    """
    if delete:
        _check_own(store)
    tables = all_captioned(store)
    changes = []
    for name in names or store.features():
        with _alone(store, name) if delete else nullcontext(store.feature(name)) as feature:
            nbytes = feature.nbytes
            needed = KeyIndex(_contents(tables, feature)).find(feature.keys) >= 0
            dropped = int((~needed).sum())
            if delete and dropped:
                feature.forget_overcome_failures()
                for part, first in zip(feature.parts, feature.starts.tolist(), strict=False):
                    mine = needed[first : first + part.rows]
                    if not mine.all():
                        _replace(feature, [part], first + np.flatnonzero(mine))
            feature.reload()
            changes.append(Change(name, dropped, feature.nbytes - nbytes))
    return changes


def _contents(tables: Iterable[Table], feature: Feature) -> Keys:
    """The distinct contents of all tables that the feature encodes, in their order, (n, 16)."""
    keys = np.concatenate([pack([]), *(np.concatenate(table.all_keys(feature.modality)) for table in tables)])
    keys = keys[present(keys)]
    return keys[first_occurrences(keys)]


def _check_own(store: Store) -> None:
    """Refuse to replace parts in a store that is only read, or that shows those of another store, too."""
    store.check_writable()
    if store.base:
        raise StoreError(f"{store.path} shows rows of {store.base.path}, too: open each store by itself")


@contextmanager
def _alone(store: Store, name: str) -> Iterator[Feature]:
    """The feature, with what dead writers left behind sealed, and no writer beside this one.

    It is opened for this alone: where parts are replaced, rows change their numbers.
    """
    store.folder(name)
    feature = Feature(store, name)
    with all_locked(feature.folder, feature.name):
        for unfinished in left_behind(feature.folder):
            settle(unfinished, feature)
        feature.reload()
        yield feature


def _replace(feature: Feature, parts: Sequence[Part], rows: NDArray[np.intp]) -> None:
    """Put one part with these rows of a feature in the place of some of its parts."""
    if len(rows):
        part, shape = feature.folder / part_name(), feature.shape(rows)
        with new_part(_temporary(part), part, shape, feature.record.header) as writer:
            for some in chunks(shape):
                writer.append(*feature.chunk(rows[some]))
    for replaced in parts:
        with writing(replaced.path):
            replaced.path.unlink()


def _temporary(part: Path) -> Path:
    return part.with_suffix(f".h5.{Shard()}.new")


def merge(store: Store, other: Store) -> list[Change]:
    """Take in another store's rows, also those a writer there has not sealed, its failures and its tables.

    A table that this store has, by its source, stays as it is.

    Raises:
        SpecMismatchError: a feature was made another way there; nothing has been taken in then.
        DamagedError: a part there is not as it was written; what came before it has been taken in.
    """
    if not other.exists or store.path.resolve() == other.path.resolve():
        raise DataError(f"{other.path} is no other store: name one that extract has filled")
    features = [other.feature(name) for name in other.features()]
    known = store.features()
    for theirs in features:
        if theirs.name in known:
            store.feature(theirs.name).check(theirs.spec)
    changes = []
    for theirs in features:
        ours = store.declare(theirs.name, theirs.spec, theirs.record.provenance)
        with ours.writer(0):
            before, nbytes = len(ours), ours.nbytes
            for path in part_files(theirs.folder):
                source = Part(path, ours.key)
                part = ours.folder / (path.name if path.suffix == ".h5" else part_name())
                if not ours.has(source.keys).all():
                    copy_rows(source, np.arange(source.rows), _temporary(part), part, ours.record.header)
            ours.reload()
            ours.record_failures(theirs.failures().values())
            changes.append(Change(ours.name, len(ours) - before, ours.nbytes - nbytes))
    here = {path.name for path in store.table_files()}
    for path in other.table_files():
        if path.name not in here:
            with replacing(store.path / "tables" / path.name) as temporary:
                shutil.copyfile(path, temporary)
    return changes


def repair(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Keep every sound row; set aside, as `.damaged`, what else there was. One line for each such file.

    The next extract encodes what is lacking then, and writes tables anew.
    """
    _check_own(store)
    told = []
    for name in names or store.features():
        folder = store.folder(name)
        record = Record.read(folder)
        with all_locked(folder, name):
            for path in part_files(folder):
                rows = _sound_rows(path, record.key)
                if rows is not None:
                    if len(rows):
                        part = folder / part_name()
                        copy_rows(Part(path, record.key), rows, _temporary(part), part, record.header)
                    # A content that failed once may have lost its vector now: it must be tried again.
                    (folder / "failures.jsonl").unlink(missing_ok=True)
                    told.append(f"{_set_aside(path)}: {len(rows)} sound rows kept")
    for path in store.table_files():
        try:
            load_table(path)
        except DamagedError:
            told.append(f"{_set_aside(path)}: extract again to have this table back")
    return told


def _sound_rows(path: Path, feature_key: str) -> NDArray[np.intp] | None:
    """The rows of a part that are as they were written, or None where all of it is."""
    try:
        part = Part(path, feature_key)
        return np.flatnonzero(part.sound(0, part.rows)) if part.problems() else None
    except DamagedError:
        return np.empty(0, np.intp)


def _set_aside(path: Path) -> Path:
    with writing(path):
        return path.replace(path.with_name(f"{path.name}.damaged"))
