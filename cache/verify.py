"""Is a store as it was written?"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cache.errors import EncodeOnceError
from cache.parts import Part
from cache.record import Record
from cache.store import Store
from cache.tables import load_table


def verify(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with a store, or with some of its features, one line each.

    Every byte is read. An empty list says that all is as it was written.
    """
    problems = [problem for name in names or store.features() for problem in _problems(store, name)]
    for path in store.table_files():
        problems += _error(partial(load_table, path))
    return problems + store.files.problems()


def _problems(store: Store, name: str) -> list[str]:
    folder = store.folder(name)
    if error := _error(partial(Record.read, folder)):
        return error
    key = Record.read(folder).key
    problems = []
    for path in part_files(folder):
        problems += _error(partial(Part, path, key)) or Part(path, key).problems()
    return problems or _error(partial(store.feature, name))  # do sound parts fit together?


def _error(look: Callable[[], Any]) -> list[str]:
    try:
        look()
    except EncodeOnceError as error:
        return [str(error)]
    return []


def part_files(folder: Path) -> list[Path]:
    """The parts in a feature's folder, sealed and in progress."""
    return sorted([*folder.glob("*.h5"), *folder.glob("*.partial")])
