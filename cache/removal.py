"""Remove the images and captions of named rows from a store, so that none of their bytes is left.

The tables, which say what a row consists of, are rewritten last: after a kill at any moment the same call
finds all that is left, and removes it.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.captions import all_captioned_tables
from encode_once.cache.errors import DataError
from encode_once.cache.feature import JOURNAL
from encode_once.cache.format.atomic import writing
from encode_once.cache.format.failures import read_failures, write_failures
from encode_once.cache.keys import HEX, KeyIndex, Keys, first_occurrences, pack, present
from encode_once.cache.maintenance import check_replaceable, keep_rows, opened_alone
from encode_once.cache.packed_columns import taken
from encode_once.cache.representation import short_repr
from encode_once.cache.store import Store
from encode_once.cache.table import Table, load_table, read_header, save_table
from encode_once.cache.terminal import short_list

EqualImages = Literal["forget", "keep"]
MODALITIES = ("image", "caption", "row")


@dataclass(frozen=True)
class RemovedContent:
    """What is to be removed: named rows, and the contents that no other row has."""

    rows: Mapping[str, frozenset[str]]  # table → ids of its rows
    keys: Mapping[str, Keys]  # by modality, (k, 16)
    inputs: frozenset[str]  # paths of the images, and the captions
    equal: Sequence[str] = ()  # ids of rows that have the image of a named row, and are removed as well
    unknown: Sequence[str] = ()  # names that no row of a table has
    staying: Sequence[str] = ()  # ids that other tables have, too, whose rows stay
    shared: int = 0  # contents that other rows have, too: they stay
    images: Sequence[str] = ()  # paths
    sources: frozenset[str] = frozenset()  # files that the rows were read from

    __repr__ = short_repr

    def has(self, table: Table) -> NDArray[np.bool_]:
        """Which rows of a table are to be removed, (n,)."""
        ids = self.rows.get(table.name, frozenset())
        is_named = np.fromiter((row_id in ids for row_id in table.ids), np.bool_, len(table))
        return np.asarray(is_named | (KeyIndex(self.keys["image"]).find(table.keys("image")) >= 0))

    @property
    def all_keys(self) -> Keys:
        """The keys of every modality, (k, 16)."""
        keys = np.concatenate([pack([]), *self.keys.values()])
        return keys[first_occurrences(keys)] if len(keys) else keys


@dataclass
class Removed:
    """What was removed from a store: numbers of rows by table and feature, and of paths in the index."""

    tables: dict[str, int] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    paths: int = 0


@dataclass(frozen=True)
class RowNames:
    """Names of rows: their ids, paths of their images, and keys of their contents in hexadecimal.

    tables: in which ids are meant; None: in all.
    """

    names: frozenset[str]
    tables: frozenset[str] | None = None

    def ids_in(self, table: str) -> frozenset[str]:
        """The names that are ids in the table of that name, if it has them."""
        return self.names if self.tables is None or table in self.tables else frozenset()

    @property
    def paths(self) -> dict[str, str]:
        """Each path that an image may be recorded by → its name."""
        return {
            place(name): name for place in (str, os.path.abspath, os.path.realpath) for name in self.names
        }

    @property
    def keys(self) -> Keys:
        """The names that are keys, (k, 16)."""
        return pack(bytes.fromhex(name) for name in sorted(self.names) if HEX.fullmatch(name))

    def of_rows(self, table: Table) -> dict[int, set[str]]:
        """The names of each row of a table that has any."""
        ids, paths, index = self.ids_in(table.name), self.paths, KeyIndex(self.keys)
        result: defaultdict[int, set[str]] = defaultdict(set)
        for row, (row_id, image) in enumerate(zip(table.ids, table.images, strict=True)):
            if row_id in ids:
                result[row].add(row_id)
            if image in paths:
                result[row].add(paths[image])
        for keys in (*table.key_columns("image"), *table.key_columns("caption")):
            for row in np.flatnonzero(index.find(keys) >= 0).tolist():
                result[row].add(keys[row].tobytes().hex())
        return dict(result)


def content_of(
    store: Store,
    names: RowNames | Collection[str],
    equal_images: EqualImages | None = None,
    others: Keys | None = None,
) -> RemovedContent:
    """What the named rows, in the tables of the store, consist of.

    Args:
        equal_images: whether rows that are not named but have a named row's image are forgotten with it, or
            keep it.
        others: keys of contents of these rows that are known from elsewhere, (k, 16).

    Raises:
        DataError: there are such rows, and `equal_images` is None.
    """
    tables = store.tables()
    names = names if isinstance(names, RowNames) else RowNames(frozenset(names))
    of_rows = [names.of_rows(table) for table in tables]
    named = [np.isin(np.arange(len(table)), [*rows]) for table, rows in zip(tables, of_rows, strict=True)]
    others = pack([]) if others is None else others
    images = _distinct(
        [others, *(table.keys("image")[rows] for table, rows in zip(tables, named, strict=True))]
    )
    equal = list[str]()
    for table, rows in zip(tables, named, strict=True):
        also = (KeyIndex(images).find(table.keys("image")) >= 0) & ~rows
        equal += taken(table.ids, np.flatnonzero(also))
        if equal_images == "forget":
            rows |= also
    if equal and equal_images is None:
        raise DataError(
            f"{len(equal)} other rows have the same images, such as {short_list(equal, 3)}: "
            "--equal-images forget forgets them as well, --equal-images keep keeps these images"
        )
    keys, shared = _own_keys(store, tables, named, others)
    chosen = [(table, np.flatnonzero(rows)) for table, rows in zip(tables, named, strict=True) if rows.any()]
    paths = [path for table, rows in chosen for path in taken(table.images, rows) if path]
    texts = [
        text
        for table, rows in chosen
        for column in (table.captions, *table.more_captions)
        for text in taken(column, rows)
    ]
    ids = {table.name: frozenset(taken(table.ids, rows)) for table, rows in chosen}
    all_ids = frozenset[str]().union(*ids.values())
    staying = {
        row_id
        for table in tables
        for row_id in (all_ids - ids.get(table.name, frozenset())).intersection(table.ids)
    }
    sources = {source for table, _ in chosen for source in (table.source, *table.more_sources)}
    return RemovedContent(
        ids,
        keys,
        frozenset({*paths, *texts} - {""}),
        equal if equal_images == "forget" else [],
        sorted(names.names.difference(*(row for of_table in of_rows for row in of_table.values()))),
        sorted(staying),
        shared,
        paths,
        frozenset(sources),
    )


def _own_keys(
    store: Store, tables: Sequence[Table], named: Sequence[NDArray[np.bool_]], others: Keys
) -> tuple[dict[str, Keys], int]:
    """By modality, the keys of the named rows that no other row has; and how many keys others have, too."""
    captioned, result, shared = all_captioned_tables(store), {}, 0
    for modality in MODALITIES:
        own, kept = [others], [pack([])]
        for number, table in enumerate(captioned if modality == "caption" else tables):
            keys, rows = table.all_keys(modality), named[number % len(tables)]  # (k, n, 16)
            own.append(keys[:, rows].reshape(-1, keys.shape[-1]))
            kept.append(keys[:, ~rows].reshape(-1, keys.shape[-1]))
        of_rows = _distinct(own)
        is_shared = KeyIndex(_distinct(kept)).find(of_rows) >= 0
        result[modality], shared = of_rows[~is_shared], shared + int(is_shared.sum())
    return result, shared


def _distinct(keys: Sequence[Keys]) -> Keys:
    """The distinct keys of all arrays but that of absent content, (k, 16)."""
    joined = np.concatenate([pack([]), *keys])
    joined = joined[present(joined)]
    return joined[first_occurrences(joined)]


def remove_vectors(store: Store, content: RemovedContent) -> Removed:
    """Remove the contents' vectors, failures and paths from a store; its tables stay.

    Raises:
        StoreBusyError: a process is writing a feature.
        StoreError: the store is read-only, or has a base.
    """
    check_replaceable(store)
    removed, gone = Removed(), {key.tobytes() for key in content.all_keys}
    # Captions that a captioner wrote decide the keys of other features: their own are removed last.
    for name in sorted(store.features(), key=lambda name: store.open_feature(name).holds_texts):
        with opened_alone(store, name) as feature:
            journal = feature.folder / JOURNAL
            failures = read_failures(journal)
            left = {
                key: failure
                for key, failure in failures.items()
                if key not in gone and failure.input not in content.inputs
            }
            if len(left) < len(failures):
                write_failures(journal, left.values())
                removed.failures += len(failures) - len(left)
            is_removed = KeyIndex(content.keys[feature.modality]).find(feature.keys) >= 0
            if is_removed.any():
                keep_rows(feature, ~is_removed)
                removed.features[name] = int(is_removed.sum())
    removed.paths = store.files.forget(content.images, gone)
    return removed


def remove_rows(store: Store, content: RemovedContent) -> dict[str, int]:
    """Remove the rows from the store's tables; table → rows. Tables without any other row are deleted.

    Raises:
        StoreError: the store is read-only, or has a base.
    """
    check_replaceable(store)
    removed = {}
    for path in store.table_files():
        table = load_table(path)
        kept = np.flatnonzero(~content.has(table))
        if len(kept) == len(table):
            continue
        header = read_header(path)
        if len(kept):
            sources = store.sources(table) if header.sources is None else header.sources
            save_table(table.take(kept), path, sources, header.moved_from)
        else:
            with writing(path):
                path.unlink()
        removed[path.stem] = len(table) - len(kept)
    return removed


def files_named(stores: Iterable[Store], names: RowNames, others: Collection[str]) -> dict[str, bytes]:
    """The files in the stores' indexes that are meant, path → key.

    They are those of a path in `names`, and those of a file name in `others`, with or without suffix.

    Raises:
        DataError: different files have a name of `others`.
    """
    paths, result = names.paths, dict[str, bytes]()
    named: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for path, key in (entry for store in stores for entry in store.files.entries()):
        name = Path(path.rpartition("::")[2])
        if path in paths:
            result[path] = key
        for other in {name.name, name.stem}.intersection(others):
            named[other][path] = key
    for other, files in named.items():
        if len({*files.values()}) > 1:
            raise DataError(
                f"{other} is the name of {len(files)} different files: name those to forget by their paths, "
                f"such as {short_list(sorted(files), 3)}"
            )
        result |= files
    return result


def names_left(stores: Iterable[Store], content: RemovedContent) -> set[str]:
    """The names of files, with and without suffix, that stay in the stores' indexes."""
    result, paths = set[str](), {*content.images}
    gone = {key.tobytes() for key in content.all_keys}
    for path, key in (entry for store in stores for entry in store.files.entries()):
        if key not in gone and path not in paths:
            name = Path(path.rpartition("::")[2])
            result |= {path, name.name, name.stem}
    return result
