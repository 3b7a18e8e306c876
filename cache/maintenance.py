"""Keeping a store in order: compact it, drop what is damaged or no table needs, take in another store."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.captions import all_captioned_tables
from encode_once.cache.errors import DamagedError, DataError, EncodeOnceError, StoreError
from encode_once.cache.feature import Feature
from encode_once.cache.format.atomic import writing
from encode_once.cache.format.failures import read_failures
from encode_once.cache.format.feature_writer import left_behind, part_name, settle
from encode_once.cache.format.locks import all_locked
from encode_once.cache.format.part import Part, chunks
from encode_once.cache.format.part_writer import copy_rows, new_part
from encode_once.cache.format.spec_file import FeatureRecord
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
    tables = all_captioned_tables(store)
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
    tables = all_captioned_tables(store)
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


@dataclass(frozen=True)
class Merged:
    """What came of a merge."""

    changes: list[Change]
    refused: list[str]  # what was not taken in, as it is damaged or a symbolic link, one line each
    notes: list[str]  # tables of theirs left out for ours of the same source


def merge(store: Store, other: Store) -> Merged:
    """Add another store's rows, also those a writer there has not sealed, its failures and its tables.

    Nothing of this store is replaced: of a content, or of a table's source, that both have, ours stays. What
    is added is checked first; damaged parts and tables, and those behind symbolic links, are left out.

    Raises:
        SpecMismatchError: a feature was made another way there; nothing has been taken in then.
    """
    if not other.exists or store.path.resolve() == other.path.resolve():
        raise DataError(f"{other.path} is no other store: name one that extract has filled")
    result = Merged([], [], [])
    records = {}
    links = _linked_folders(other.path / "features")
    for link in links:
        with _refusing(result.refused):
            _unlinked(link, other)
    for name in other.features():
        if not any((other.path / "features" / name).is_relative_to(link) for link in links):
            with _refusing(result.refused):
                records[name] = FeatureRecord.read(_unlinked(other.folder(name) / "spec.json", other).parent)
    ours = store.features()
    for name, record in records.items():
        if name in ours:
            store.feature(name).check(record.spec)
    for name, record in records.items():
        result.changes.append(_merge_feature(store, other, name, record, result.refused))
    _merge_tables(store, other, result)
    return result


def _merge_feature(
    store: Store, other: Store, name: str, record: FeatureRecord, refused: list[str]
) -> Change:
    ours = store.declare(name, record.spec, record.provenance)
    folder = other.folder(name)
    with ours.writer(0):
        before, nbytes = len(ours), ours.nbytes
        for path in part_files(folder):
            source = None
            with _refusing(refused):
                source = _checked_part(_unlinked(path, other), ours)
            if source:
                rows = _lacking(source, ours)
                part = ours.folder / part_name()  # never theirs: ours may have a part of that name
                copy_rows(source, rows, _temporary(part), part, ours.record.header)
                ours.reload()
        with _refusing(refused):
            ours.record_failures(read_failures(_unlinked(folder / "failures.jsonl", other)).values())
        return Change(name, len(ours) - before, ours.nbytes - nbytes)


def _lacking(source: Part, ours: Feature) -> NDArray[np.intp]:
    """The rows of a part whose contents have no vector here, each content once."""
    rows = np.flatnonzero(~ours.has(source.keys))
    return rows[first_occurrences(source.keys[rows])]


def _checked_part(path: Path, ours: Feature) -> Part | None:
    """A part to take rows from, or None where ours has them all.

    Raises:
        DamagedError: it is not as it was written, or its rows are of another shape than ours.
    """
    source = Part(path, ours.key)
    if not len(_lacking(source, ours)):
        return None
    if problems := source.problems():
        raise DamagedError("; ".join(problems))
    kind = source.shape.ragged, source.shape.dim, np.dtype(source.shape.dtype)
    if ours.dim is not None and kind != (ours.ragged, ours.dim, ours.dtype):
        raise DamagedError(f"{source.path} holds rows of another shape than {ours.name} here")
    return source


def _merge_tables(store: Store, other: Store, result: Merged) -> None:
    ours = {path.name: path for path in store.table_files()}
    for path in other.table_files():
        table = None
        with _refusing(result.refused):
            table = load_table(_unlinked(path, other))
        if table and (name := f"{table.name}.h5") not in ours:
            store.save(table)  # written by us: what else a crafted file holds stays outside
        elif table and not cmp(path, ours[name], shallow=False):
            result.notes.append(f"{path} is not as ours of the same source, {ours[name]}: ours is kept")


@contextmanager
def _refusing(refused: list[str]) -> Iterator[None]:
    """Go on after an error of what is to be taken in, which is left out."""
    try:
        yield
    except EncodeOnceError as error:
        refused.append(str(error))


def _linked_folders(root: Path) -> list[Path]:
    """The folders below one that are symbolic links; what is behind them is not listed."""
    folders = (Path(top) / name for top, names, _ in os.walk(root) for name in names)
    return [folder for folder in folders if folder.is_symlink()]


def _unlinked(path: Path, store: Store) -> Path:
    """A path in a store, refused where a symbolic link leads elsewhere."""
    if path.resolve() != store.path.resolve() / path.relative_to(store.path):
        raise DamagedError(f"{path} is a symbolic link, or behind one: put the files themselves there")
    return path


def repair(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Keep every sound row; set aside, as `.damaged`, what else there was. One line for each such file.

    The next extract encodes what is lacking then, and writes tables anew.
    """
    _check_own(store)
    told = []
    for name in names or store.features():
        folder = store.folder(name)
        record = FeatureRecord.read(folder)
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
