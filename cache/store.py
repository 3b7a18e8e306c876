"""The feature store: a folder of features and of the tables they serve (the format is in SPEC.md)."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from encode_once.cache.errors import DataError, StoreError, UnknownFeatureError, UsageError, unknown_name
from encode_once.cache.feature import Feature
from encode_once.cache.file_index import StatIndex
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.header import check_version
from encode_once.cache.format.spec_file import Record
from encode_once.cache.keys import Spec, spec_key
from encode_once.cache.table import Table, load_table, save_table

KIND = "encode-once store", 2
OURS = "store.json", "files.sqlite"  # what a writer that died first of all may have left
NAME = re.compile(r"\w[\w.:+=@-]*(/\w[\w.:+=@-]*)+")  # encoder/output, each a plain folder name


class Store:
    """The features kept under one folder.

    Args:
        path: the folder. It is made when the first feature is declared.

    Raises:
        StoreError: the folder is not a store, or one of an unknown version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._marker = self.path / "store.json"
        if self._marker.exists():
            try:
                found = json.loads(self._marker.read_text(encoding="utf-8"))
                kind = found["format"], found["version"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{self._marker} cannot be read: {error}") from error
            check_version(self.path, kind, KIND)
        elif self.path.is_dir() and not all(one.name.startswith(OURS) for one in self.path.iterdir()):
            raise StoreError(
                f"{self.path} holds other things and no store.json: choose an empty or new folder"
            )

    def create(self) -> None:
        """Make the folder, if it is not there."""
        if not self._marker.exists():
            write_json(self._marker, {"format": KIND[0], "version": KIND[1]})

    @property
    def exists(self) -> bool:
        """Whether anything has been kept here yet."""
        return self._marker.exists()

    @property
    def files(self) -> StatIndex:
        """Keys of input files that have not changed since they were read."""
        return StatIndex(self.path / "files.sqlite")

    def save(self, table: Table) -> None:
        """Keep a table whose contents this store's rows belong to, in the place of an earlier state of it."""
        self.create()
        save_table(table, self._table_path(table))

    def is_outdated(self, table: Table) -> bool:
        """Whether a file that a table was read from has been written since."""
        kept = self._table_path(table).stat().st_mtime_ns
        sources = map(Path, (table.source, *table.more_sources))
        return any(source.exists() and source.stat().st_mtime_ns > kept for source in sources)

    def _table_path(self, table: Table) -> Path:
        return self.path / "tables" / f"{table.name}.h5"

    def table_files(self) -> list[Path]:
        """Where the tables are kept, by name."""
        return sorted((self.path / "tables").glob("*.h5"))

    def tables(self) -> list[Table]:
        """The tables kept, by name."""
        return [load_table(path) for path in self.table_files()]

    def table(self, name: str | None = None) -> Table:
        """The table of that name, or the only one.

        Raises:
            UsageError: there is none, or several.
        """
        known = {table.name: table for table in self.tables()}
        if name is None and len(known) == 1:
            (name,) = known
        if name is None:
            raise UsageError(f"{self.path} knows {len(known)} tables: name one of {', '.join(known)}")
        if name not in known:
            raise unknown_name(f"table of {self.path}", name, known)
        return known[name]

    def features(self) -> list[str]:
        """Names of the features held, sorted."""
        root = self.path / "features"
        return sorted(str(spec.parent.relative_to(root)) for spec in root.glob("**/spec.json"))

    def folder(self, name: str) -> Path:
        """Where a feature that is there is kept.

        Raises:
            UnknownFeatureError: the store has none of that name.
        """
        folder = self.path / "features" / name
        if not NAME.fullmatch(name) or not (folder / "spec.json").exists():
            raise unknown_name(f"feature of {self.path}", name, self.features(), UnknownFeatureError)
        return folder

    def feature(self, name: str) -> Feature:
        """A feature that is there.

        Raises:
            UnknownFeatureError: the store has none of that name.
        """
        return Feature(self.folder(name), name)

    def declare(self, name: str, spec: Spec, provenance: Mapping[str, str] | None = None) -> Feature:
        """The feature of that name and spec, made if it is not there or has no rows yet.

        Raises:
            SpecMismatchError: the store holds that name with another spec; the message shows the difference.
        """
        if not NAME.fullmatch(name):
            raise DataError(f"{name!r} is no feature name: encoder/output, of letters, digits and _.:+=@-")
        folder = self.path / "features" / name
        if (folder / "spec.json").exists():
            feature = Feature(folder, name)
            if feature.key == spec_key(spec) or any(folder.glob("*.h5*")):
                feature.check(spec)
                return feature
            (folder / "failures.jsonl").unlink(missing_ok=True)  # of the spec that never gave a row
        self.create()
        Record.new(name, spec, provenance or {}).write(folder)
        return Feature(folder, name)
