"""Keep a store in order: verify and repair it, compact it, drop the rows that no table needs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.captions import all_captioned_tables
from encode_once.cache.errors import DamagedError, StoreBusyError, StoreError, collected, unknown_name
from encode_once.cache.feature import JOURNAL, Feature
from encode_once.cache.format.atomic import sync_folder, writing
from encode_once.cache.format.failures import read_failures
from encode_once.cache.format.feature_writer import settle, unfinished_files
from encode_once.cache.format.files import check_no_link
from encode_once.cache.format.inventory import Inventory
from encode_once.cache.format.locks import all_locked
from encode_once.cache.format.part import Part, part_files
from encode_once.cache.format.part_writer import copy_rows, part_name
from encode_once.cache.format.spec_file import SPEC_FILE, FeatureRecord
from encode_once.cache.keys import KeyIndex, Keys, RowIndex, first_occurrences, pack, present
from encode_once.cache.large_arrays import concatenated, gathered, rows_where
from encode_once.cache.places import is_at_url
from encode_once.cache.remote.mirror import Mirror
from encode_once.cache.remote.parts import is_head
from encode_once.cache.store import Store, restore_record
from encode_once.cache.table import Table, load_table, name_of, read_header

LOCKS = ".lock", ".owner"  # suffixes of files that others may have opened


def verify(store: Store, names: Sequence[str] = (), *, quick: bool = False) -> list[str]:
    """Read every byte of a store, or of some of its features; one line for each problem.

    quick: read headers, keys and checksums, but neither vectors nor the rows of tables.
    """
    problems = store.problems()
    for name in names or store.features():
        problems += _feature_problems(store, name, quick)
    with collected(problems):
        for path in store.table_files():
            with collected(problems):
                read_header(path) if quick else load_table(path)
    return problems if quick else problems + store.files.problems()


def _feature_problems(store: Store, name: str, quick: bool) -> list[str]:
    folder = store.folder(name)
    problems: list[str] = []
    with collected(problems):
        key = FeatureRecord.read(folder).key
        for path in part_files(folder):
            with collected(problems):
                part = store.open_part(path, key)  # reads its keys and checksums
                problems += [] if quick else part.problems()
        if not problems:
            feature = store.feature(name)  # raises if its parts do not have the same shape
            feature.failures()
            problems += feature.missing_parts()
    return problems


def repair(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Make a damaged store readable again; one line for each change.

    The intact rows of damaged files are copied, and these files renamed to `.damaged`. Lost specs are
    restored from the inventory, and lost parts forgotten. The next extract encodes the missing rows and
    writes the missing tables. Of a store at a URL only the local copy is repaired: damaged parts and tables
    are fetched again, if they were sent.
    """
    if store.mirror:
        return _repair_copy(store, store.mirror, names)
    check_replaceable(store)
    lines = [_restore(store, name) for name in store.lost_features()]
    for name in names or store.features():
        try:
            lines += _repair_feature(store, name)
        except StoreBusyError:
            raise
        except StoreError as error:
            lines.append(str(error))
    with collected(lines):
        for path in store.table_files():
            try:
                load_table(path)
            except DamagedError:
                lines.append(f"{_set_aside(path)}: run extract to recreate this table")
    return lines


def _restore(store: Store, name: str) -> str:
    """Restore the spec of a lost feature if any of its parts is left, otherwise forget the feature."""
    folder, inventory = store.feature_folder(name), Inventory(store.path, name)
    check_no_link(folder, store.path)
    if part_files(folder) and restore_record(folder, inventory):
        return f"restored {folder / SPEC_FILE}"
    inventory.forget()
    return f"forgot {name}, of which nothing is left"


def _repair_feature(store: Store, name: str) -> list[str]:
    folder, inventory = store.folder(name), Inventory(store.path, name)
    lines: list[str] = []
    try:
        record = FeatureRecord.read(folder)
    except DamagedError:
        restored = inventory.record
        if restored is None:
            raise
        lines = [f"{_set_aside(folder / SPEC_FILE)}: restored from the inventory"]
        restored.write(folder)
        record = restored
    with all_locked(folder, name):
        for path in part_files(folder):
            rows = _intact_rows(path, record.key)
            if rows is not None:
                # A content that failed once may have lost its vector now: it must be tried again.
                (folder / JOURNAL).unlink(missing_ok=True)
                lines.append(_keep_sound_rows(path, rows, record, inventory))
        for part in inventory.missing(folder):
            (folder / JOURNAL).unlink(missing_ok=True)
            lines.append(f"forgot {folder / part}, which is gone, with {inventory.rows(part)}: run extract")
            inventory.drop([part])
        try:
            read_failures(folder / JOURNAL)
        except DamagedError:
            lines.append(f"{_set_aside(folder / JOURNAL)}: its inputs will be tried again")
        feature = store.open_feature(name)
        feature.note_parts()
    return lines


def _keep_sound_rows(path: Path, rows: RowIndex, record: FeatureRecord, inventory: Inventory) -> str:
    """Copy the sound rows of a damaged part into a new one, and set it aside; says so."""
    if len(rows):
        copy_rows(Part(path, record.key), rows, path.with_name(part_name()), record.header)
    inventory.drop([path.name])
    return f"{_set_aside(path)}: {len(rows)} sound rows kept"


def _repair_copy(store: Store, mirror: Mirror, names: Sequence[str]) -> list[str]:
    """Repair the local copy of a store at a URL; one line for each change."""
    store.check_writable()
    lines: list[str] = []

    def fetch_again(path: Path) -> bool:
        was_sent = mirror.fetch_again(path)
        if was_sent:
            lines.append(f"{path} was damaged, and is fetched again from {store.location}")
        return was_sent

    for name in names or store.features():
        with collected(lines):
            folder = store.folder(name)
            record = FeatureRecord.read(folder)
            with all_locked(folder, name):
                for path in part_files(folder):
                    rows = _intact_rows(path, record.key, has_values=not is_head(path))
                    if rows is not None and not fetch_again(path):
                        lines.append(_keep_sound_rows(path, rows, record, Inventory(store.path, name)))
    for path in store.table_files():
        with collected(lines):
            try:
                load_table(path)
            except DamagedError:
                if not fetch_again(path):
                    raise
    return lines


def _intact_rows(path: Path, feature_key: str, *, has_values: bool = True) -> RowIndex | None:
    """The rows of a part that have not changed since they were written; None if the whole part has not."""
    try:
        part = Part(path, feature_key)
        if not has_values:
            return None
        return np.flatnonzero(part.sound(0, part.rows)) if part.problems() else None
    except DamagedError:
        return np.empty(0, np.intp)


def _set_aside(path: Path) -> str:
    """Rename a file to `.damaged`; says so."""
    with writing(path):
        return f"set aside {path.replace(path.with_name(f'{path.name}.damaged'))}"


@dataclass(frozen=True)
class Change:
    """How a feature was changed, or would be."""

    feature: str
    rows: int  # dropped or added
    nbytes: int  # by which its size on disk grew

    def as_json(self) -> dict[str, str | int]:
        """The change as the command line prints it."""
        return {"feature": self.feature, "rows": self.rows, "bytes": self.nbytes}


def compact(store: Store, names: Sequence[str] = ()) -> list[Change]:
    """Rewrite each feature as one part, with each content once, in the order of the store's tables.

    The vectors of a table are then consecutive, so that `fit` maps instead of copying them.
    """
    check_replaceable(store)
    tables = all_captioned_tables(store)
    changes = []
    for name in names or store.features():
        with opened_alone(store, name) as feature:
            size, nbytes = len(feature.keys), feature.nbytes
            of_tables = feature.find(_contents(tables, feature))
            rows = concatenated([of_tables[of_tables >= 0], np.arange(size)])
            rows = gathered(rows, first_occurrences(gathered(feature.keys, rows)))
            if len(feature.parts) > 1 or not np.array_equal(rows, np.arange(size)):
                _replace(feature, feature.parts, rows)
            feature.reload()
            changes.append(Change(name, size - len(rows), feature.nbytes - nbytes))
    return changes


def drop_unreferenced(store: Store, names: Sequence[str] = (), *, delete: bool = False) -> list[Change]:
    """Count, or delete, the rows whose contents are in no table.

    Generated captions of a table's images count as captions of the table, alone and joined to its own.
    """
    if delete:
        check_replaceable(store)
    tables = all_captioned_tables(store)
    changes = []
    for name in names or store.features():
        with opened_alone(store, name) if delete else nullcontext(store.feature(name)) as feature:
            nbytes = feature.nbytes
            is_needed = KeyIndex(_contents(tables, feature)).find(feature.keys) >= 0
            dropped = int((~is_needed).sum())
            if delete and dropped:
                feature.forget_overcome_failures()
                keep_rows(feature, is_needed)
            feature.reload()
            changes.append(Change(name, dropped, feature.nbytes - nbytes))
    return changes


@dataclass(frozen=True)
class Dropped:
    """A feature or table that was deleted, and its size."""

    name: str
    rows: int
    nbytes: int

    def as_json(self) -> dict[str, str | int]:
        """The record as the command line prints it."""
        return {"name": self.name, "rows": self.rows, "bytes": self.nbytes}


def drop_feature(store: Store, name: str) -> Dropped:
    """Delete a feature with all its rows and failures.

    After a kill in between, the feature has fewer rows or none, and can be dropped or extracted again.

    Raises:
        UnknownFeatureError: the store has none of that name.
        StoreBusyError: a process is writing it.
        StoreError: the store is read-only, or has a base.
    """
    check_replaceable(store)
    folder = store.folder(name)
    with all_locked(folder, name):
        rows, nbytes = _size(store, name)
        Inventory(store.path, name).forget()  # first: what is noted and not there would be reported as lost
        with writing(folder):
            files = [path for path in folder.iterdir() if not path.is_dir() and path.suffix not in LOCKS]
            for path in sorted(files, key=lambda path: path.name == SPEC_FILE):  # last: it makes the feature
                path.unlink()
            sync_folder(folder)
    return Dropped(name, rows, nbytes)


def forget_table(store: Store, name: str) -> Dropped:
    """Delete a table from the store; the data and the vectors of its rows stay.

    name: of the table, or the path of the file that it was read from.

    Raises:
        UsageError: the store has no such table.
        StoreError: the store is read-only, or has a base.
    """
    check_replaceable(store)
    path, rows = table_file(store, name), 0
    with suppress(StoreError):  # a damaged table can be forgotten, too
        rows = read_header(path).rows
    nbytes = path.stat().st_size
    with writing(path):
        path.unlink()
        sync_folder(path.parent)
    return Dropped(path.stem, rows, nbytes)


def table_file(store: Store, name: str) -> Path:
    """The file of a table; name: of the table, or the path of its source, which may be gone.

    Raises:
        UsageError: the store has no such table.
    """
    paths = {path.stem: path for path in store.table_files()}
    path = paths.get(name) or paths.get(name_of(name if is_at_url(name) else str(Path(name).resolve())))
    if path is None:
        raise unknown_name(f"table of {store.location}", name, paths)
    return path


def _size(store: Store, name: str) -> tuple[int, int]:
    """Rows and bytes of a feature; of one that cannot be read, the bytes of its files."""
    with suppress(StoreError):
        feature = store.open_feature(name)
        return len(feature), feature.nbytes
    return 0, sum(path.stat().st_size for path in store.folder(name).iterdir())


def _contents(tables: Iterable[Table], feature: Feature) -> Keys:
    """The distinct contents of all tables that the feature encodes, in their order, (n, 16)."""
    columns = [keys for table in tables for keys in table.key_columns(feature.modality)]
    keys = concatenated([pack([]), *columns])
    distinct = gathered(keys, first_occurrences(keys))
    return gathered(distinct, rows_where(present(distinct)))


def check_replaceable(store: Store) -> None:
    """Refuse to replace files of a store that is read-only, at a URL, or has a base."""
    store.check_writable()
    if store.mirror:
        raise StoreError(
            f"{store.location}: nothing is deleted or rewritten in a store at a URL: store merge "
            f"{store.location} --store DIR makes a local copy to change, which store merge adds to a new URL"
        )
    if store.base:
        raise StoreError(
            f"{store.location} includes the rows of {store.base.location}: open each store separately"
        )


@contextmanager
def opened_alone(store: Store, name: str) -> Iterator[Feature]:
    """The feature without any other writer, after the committed rows of dead writers are sealed.

    It is shared with no reader: where parts are replaced, rows change their numbers.
    """
    feature = store.open_feature(name)
    with all_locked(feature.folder, feature.name):
        for path in unfinished_files(feature.folder):
            settle(path, feature.record.header)
        feature.reload()
        feature.note_parts()
        yield feature
        feature.note_parts()


def keep_rows(feature: Feature, is_kept: NDArray[np.bool_]) -> None:
    """Drop the other rows of a feature that is `opened_alone`; parts that keep all their rows stay."""
    for part, first in zip(feature.parts, feature.starts.tolist(), strict=False):
        of_part = is_kept[first : first + part.rows]
        if not of_part.all():
            _replace(feature, [part], first + np.flatnonzero(of_part))
    feature.reload()


def _replace(feature: Feature, parts: Sequence[Part], rows: RowIndex) -> None:
    """Replace parts of a feature by one part with these rows."""
    copy_rows(feature, rows, feature.folder / part_name(), feature.record.header)
    feature.inventory.drop([part.path.name for part in parts])
    for part in parts:
        with writing(part.path):
            part.path.unlink()
