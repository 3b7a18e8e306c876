"""What a feature should hold: a copy of its spec, and a note for each of its parts.

The inventory is kept outside the feature's folder, so that it also shows when the whole folder is gone. A
note is written after its part has been sealed, and removed before the part is. So if a program is killed in
between, a part may lack a note, which the next writer adds, but there is no note without a part.
"""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from encode_once.cache.errors import StoreError
from encode_once.cache.format.atomic import sync_folder, write_json, writing
from encode_once.cache.format.files import check_no_link, read_json, reading, typed
from encode_once.cache.format.spec_file import SPEC_FILE, FeatureRecord

FOLDER = "inventory"  # in the store
SUFFIX = ".json"  # of a note; its name begins with that of the part


@dataclass(frozen=True)
class Note:
    """What is recorded of a part."""

    rows: int


class Inventory:
    """The inventory of one feature.

    Args:
        store: the folder of the store.
        name: the feature's name, a valid one.
    """

    def __init__(self, store: Path, name: str) -> None:
        self.name, self._store = name, store
        self.folder = store / FOLDER / name

    @property
    def record(self) -> FeatureRecord | None:
        """The copy of the spec; None if it is missing or damaged."""
        with suppress(StoreError):
            return FeatureRecord.read(self.folder)
        return None

    def add(self, record: FeatureRecord, parts: Mapping[Path, int]) -> None:
        """Note the spec, and parts with their numbers of rows, unless they are noted already.

        Raises:
            StoreError: the disk fails.
        """
        noted = self._parts()
        check_no_link(self.folder, self._store)
        if self.record != record:
            record.write(self.folder)
        for part, rows in parts.items():
            if part.name not in noted:
                write_json(self._note(part.name), {"rows": rows})
                if not part.exists():  # another process has removed it meanwhile
                    self.drop([part.name])

    def drop(self, parts: Collection[str]) -> None:
        """Forget parts, before they are removed.

        Raises:
            StoreError: the disk fails.
        """
        noted = self._parts()
        paths = [self._note(part) for part in parts if part in noted]
        if paths:
            check_no_link(self.folder, self._store)
            with writing(self.folder):
                for path in paths:
                    path.unlink(missing_ok=True)
                sync_folder(self.folder)

    def forget(self) -> None:
        """Forget the feature and all its parts."""
        self.drop(self._parts())
        with writing(self.folder):
            (self.folder / SPEC_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # it may have folders of other features
                self.folder.rmdir()

    def missing(self, folder: Path) -> list[str]:
        """The names of the noted parts that are not in the feature's folder.

        Raises:
            StoreError: the disk fails.
        """
        gone = [part for part in self._parts() if not os.path.lexists(folder / part)]
        return [part for part in gone if self._note(part).exists()]  # not removed meanwhile

    def report(self, folder: Path) -> list[str]:
        """One line for each of the `missing` parts."""
        return [
            f"{folder / part} is gone, with {self.rows(part)}: run extract, then store verify --repair"
            for part in self.missing(folder)
        ]

    def rows(self, part: str) -> str:
        """The noted number of rows of a part, in words."""
        path = self._note(part)
        try:
            with reading(path):
                return f"{typed(Note, read_json(path)).rows} rows"
        except OSError:
            return "an unknown number of rows"

    def _note(self, part: str) -> Path:
        return self.folder / f"{part}{SUFFIX}"

    def _parts(self) -> list[str]:
        """The names of the noted parts, sorted."""
        with reading(self.folder):
            names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(f".h5{SUFFIX}"))
