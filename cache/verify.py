"""Is a store as it was written?"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from encode_once.cache.errors import EncodeOnceError
from encode_once.cache.format.part import Part
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.store import Store
from encode_once.cache.table import load_table


def verify(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with a store, or with some of its features, one line each.

    Every byte is read. An empty list says that all is as it was written.
    """
    problems = [problem for name in names or store.features() for problem in _problems(store, name)]
    for path in store.table_files():
        with _telling(problems):
            load_table(path)
    return problems + store.files.problems()


def _problems(store: Store, name: str) -> list[str]:
    folder = store.folder(name)
    problems: list[str] = []
    with _telling(problems):
        key = FeatureRecord.read(folder).key
        for path in part_files(folder):
            with _telling(problems):
                problems.extend(Part(path, key).problems())
        if not problems:
            store.feature(name)  # do sound parts fit together?
    return problems


@contextmanager
def _telling(problems: list[str]) -> Iterator[None]:
    """Go on after an error, which is one problem more."""
    try:
        yield
    except EncodeOnceError as error:
        problems.append(str(error))


def part_files(folder: Path) -> list[Path]:
    """The parts in a feature's folder, sealed and in progress."""
    return sorted([*folder.glob("*.h5"), *folder.glob("*.partial")])
