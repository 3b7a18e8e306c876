"""Whether a store can be read, by its headers, keys and checksums, without reading the vectors."""

from collections.abc import Iterator
from pathlib import Path

from encode_once.cache import maintenance
from encode_once.cache.doctor import Check, each
from encode_once.cache.errors import EncodeOnceError, collected
from encode_once.cache.places import is_gone
from encode_once.cache.store import Store
from encode_once.cache.table import read_header


def checks(path: str | Path) -> Iterator[Check]:
    """The store in a folder or at a URL, its features and its tables."""
    try:
        store = Store(path, read_only=True)
        if not store.exists:
            yield Check("store", "PASS", f"{path} is not there yet", "extract creates it")
            return
        problems = maintenance.verify(store, quick=True)
    except (EncodeOnceError, OSError) as error:
        yield Check("store", "FAIL", str(error))
        return
    yield from each("store", "FAIL", problems, f"store verify --repair --store {path}, then extract")
    yield from _features(store)
    yield from _tables(store)
    if not problems:
        finding = f"{path}: {len(store.features())} features, {len(store.table_files())} tables, no problems"
        yield Check("store", "PASS", finding, "store verify also reads every vector")


def _features(store: Store) -> Iterator[Check]:
    for name in store.features():
        with collected([]):  # what cannot be read is among the problems
            if store.feature(name).is_random:
                yield Check("feature", "WARN", f"{name} has RANDOM weights", f"store drop {name}")


def _tables(store: Store) -> Iterator[Check]:
    for path in store.table_files():
        with collected([]):
            header = read_header(path)
            if is_gone(header.source):
                finding = f"{header.name}: {header.source} is gone"
                yield Check(
                    "table", "WARN", finding, f"extract --data DIR if it moved, or store forget {header.name}"
                )
            elif store.is_outdated(header):
                finding = f"{header.name}: {header.source} changed since it was extracted"
                yield Check("table", "WARN", finding, "run extract again: it encodes only what is new")
