"""Remove the images and captions of named rows from a store, so that none of their bytes is left.

The tables, which say what a row consists of, are rewritten last: after a kill at any moment the same call
finds all that is left, and removes it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
from encode_once.cache.keys import KeyIndex, Keys, first_occurrences, pack, present
from encode_once.cache.maintenance import check_replaceable, keep_rows, opened_alone
from encode_once.cache.representation import short_repr
from encode_once.cache.store import Store
from encode_once.cache.table import Table, load_table, read_header, save_table
from encode_once.cache.terminal import short_list

EqualImages = Literal["forget", "keep"]
MODALITIES = ("image", "caption", "row")


@dataclass(frozen=True)
class RemovedContent:
    """What is to be removed: named rows, and the contents that no other row has."""

    ids: frozenset[str]  # that were named
    keys: Mapping[str, Keys]  # by modality, (k, 16)
    inputs: frozenset[str]  # paths of the images, and the captions
    equal: Sequence[str] = ()  # ids of rows that have the image of a named row, and are removed as well
    unknown: Sequence[str] = ()  # ids that no table has
    shared: int = 0  # contents that other rows have, too: they stay
    images: Sequence[str] = ()  # paths
    sources: frozenset[str] = frozenset()  # files that the rows were read from

    __repr__ = short_repr

    def has(self, table: Table) -> NDArray[np.bool_]:
        """Which rows of a table are to be removed, (n,)."""
        is_named = np.array([row_id in self.ids for row_id in table.ids], np.bool_)
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


def content_of(
    store: Store, ids: Collection[str], equal_images: EqualImages | None = None, others: Keys | None = None
) -> RemovedContent:
    """What the rows of these ids, in any table of the store, consist of.

    Args:
        equal_images: whether rows that are not named but have a named row's image are forgotten with it, or
            keep it.
        others: keys of contents of these rows that are known from elsewhere, (k, 16).

    Raises:
        DataError: there are such rows, and `equal_images` is None.
    """
    tables = store.tables()
    named = [np.array([row_id in ids for row_id in table.ids], np.bool_) for table in tables]
    images = _distinct([table.keys("image")[rows] for table, rows in zip(tables, named, strict=True)])
    equal = list[str]()
    for table, rows in zip(tables, named, strict=True):
        also = (KeyIndex(images).find(table.keys("image")) >= 0) & ~rows
        equal += [table.ids[row] for row in np.flatnonzero(also)]
        if equal_images == "forget":
            rows |= also
    if equal and equal_images is None:
        raise DataError(
            f"{len(equal)} other rows have the same images, such as {short_list(equal, 3)}: "
            "--equal-images forget forgets them as well, --equal-images keep keeps these images"
        )
    keys, shared = _own_keys(store, tables, named, pack([]) if others is None else others)
    chosen = [(table, np.flatnonzero(rows)) for table, rows in zip(tables, named, strict=True) if rows.any()]
    paths = [table.images[row] for table, rows in chosen for row in rows if table.images[row]]
    texts = [
        column[row]
        for table, rows in chosen
        for column in (table.captions, *table.more_captions)
        for row in rows
    ]
    in_tables = {row_id for table, rows in chosen for row_id in map(table.ids.__getitem__, rows)}
    sources = {source for table, _ in chosen for source in (table.source, *table.more_sources)}
    return RemovedContent(
        frozenset(ids),
        keys,
        frozenset({*paths, *texts} - {""}),
        equal if equal_images == "forget" else [],
        sorted({*ids} - in_tables),
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


def keys_of_files(store: Store, ids: Collection[str]) -> Iterator[bytes]:
    """The keys of the files in the store's index whose name is one of the ids, with or without suffix."""
    for path, key in store.files.entries():
        name = Path(path.rpartition("::")[2])
        if name.name in ids or name.stem in ids or path in ids:
            yield key
