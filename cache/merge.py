"""Add the content of another store, such as one that `extract --shard` filled on another machine."""

from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DamagedError, DataError, collected
from encode_once.cache.feature import JOURNAL, Feature
from encode_once.cache.format.failures import read_failures
from encode_once.cache.format.files import check_no_link
from encode_once.cache.format.inventory import Inventory
from encode_once.cache.format.part import Part, part_files
from encode_once.cache.format.part_writer import copy_rows, part_name
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.keys import RowIndex, first_occurrences, present
from encode_once.cache.large_arrays import gathered, rows_where
from encode_once.cache.maintenance import Change
from encode_once.cache.store import Store
from encode_once.cache.table import Table, load_table, read_header


@dataclass
class MergeResult:
    """What was added to a store, and what was left out."""

    changes: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # a line for each damaged or symbolically linked file
    notes: list[str] = field(default_factory=list)  # tables that differ from the store's own, lost parts
    files: int = 0  # in the index, added: unchanged ones are not read again

    def as_json(self) -> dict[str, Any]:
        """The result as the command line prints it."""
        changes = [change.as_json() for change in self.changes]
        return {
            "changes": changes,
            "files": self.files,
            "refused": self.refused,
            "notes": self.notes,
        }


def merge(store: Store, other: Store) -> MergeResult:
    """Add another store's rows, including unsealed ones, its failures, its tables and its index of files.

    Nothing in `store` is replaced: of a content, or a table's source, that both have, its own is kept. Files
    are verified before they are added; damaged ones, and those behind symbolic links, are left out.

    Raises:
        DataError: `other` is empty, or the same store.
        SpecMismatchError: the stores have different specs of a feature; nothing has been added.
        StoreError: `store` is read-only.
    """
    if not other.exists or store.path.resolve() == other.path.resolve():
        raise DataError(f"{other.location} is not another store: name a store that extract has filled")
    store.check_writable()
    result = MergeResult()
    records = {}
    result.refused.extend(other.problems())
    for name in other.features():
        with collected(result.refused):
            records[name] = FeatureRecord.read(other.folder(name))
            result.notes.extend(Inventory(other.path, name).report(other.folder(name)))
    own = store.features()
    for name, record in records.items():
        if name in own:
            store.feature(name).check(record.spec)
    for name, record in records.items():
        result.changes.append(_merge_feature(store, other, name, record, result.refused))
    _merge_tables(store, other, result)
    with collected(result.refused):
        result.files = store.files.merge(other.files)
    return result


def _merge_feature(
    store: Store, other: Store, name: str, record: FeatureRecord, refused: list[str]
) -> Change:
    feature = store.declare(name, record.spec, record.provenance)
    folder = other.folder(name)
    with feature.writer(0):
        size, nbytes = len(feature), feature.nbytes
        for path in part_files(folder):
            checked = None
            with collected(refused):
                check_no_link(path, other.path)
                checked = _missing_rows(other, path, feature)
            if checked:
                part, rows = checked
                new = feature.folder / part_name()  # the feature may have a part of the other's name
                copy_rows(part, rows, new, feature.record.header)
                feature.reload()
        failures = {}
        with collected(refused):
            failures = read_failures(folder / JOURNAL)
        feature.record_failures(failures.values())
        return Change(name, len(feature) - size, feature.nbytes - nbytes)


def _missing_rows(other: Store, path: Path, feature: Feature) -> tuple[Part, RowIndex] | None:
    """An intact part and its rows whose contents have no vector in the feature, each content once.

    None if the feature has them all.

    Raises:
        DamagedError: the part has changed since it was written, or its rows have another shape.
    """
    part = other.open_part(path, feature.key)
    rows = rows_where(~feature.has(part.keys))
    rows = gathered(rows, first_occurrences(gathered(part.keys, rows)))
    if not len(rows):
        return None
    if problems := part.problems():
        raise DamagedError("; ".join(problems))
    if feature.parts and part.shape.kind != feature.parts[0].shape.kind:
        raise DamagedError(f"{path} has rows of another shape than {feature.name} in this store")
    return part, rows


def _merge_tables(store: Store, other: Store, result: MergeResult) -> None:
    own = {path.name: path for path in store.table_files()}
    paths: list[Path] = []
    with collected(result.refused):
        paths = other.table_files()
    for path in paths:
        table = None
        with collected(result.refused):
            check_no_link(path, other.path)
            table = load_table(path)
        if table and (name := f"{table.name}.h5") not in own:
            store.save(table)  # saved again, as the other file may be crafted
        elif table and not cmp(path, own[name], shallow=False):
            with collected(result.refused):
                result.notes.append(_completed(store, own[name], table, path))


def _completed(store: Store, kept: Path, table: Table, path: Path) -> str:
    """Add the keys of images that another shard has read to a table of the store; returns what was done."""
    own = load_table(kept)
    whole = own.with_keys_of(table)
    if new := int(present(whole.keys("image")).sum() - present(own.keys("image")).sum()):
        store.save(whole, read_header(kept).sources)
        return f"{kept} has the keys of {new} more images"
    return f"{path} differs from {kept}, the table of the same source, which is kept"
