"""The feature store: a folder of features and of the tables that they belong to (see SPEC.md)."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, StoreError, UnknownFeatureError, UsageError, unknown_name
from encode_once.cache.feature import JOURNAL, Feature
from encode_once.cache.file_index import FileIndex
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import read_json, reading
from encode_once.cache.format.header import check_version
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.keys import Spec, spec_key
from encode_once.cache.source_files import SourceFile, source_files
from encode_once.cache.table import Table, TableHeader, load_table, read_header, save_table

KIND = "encode-once store", 2
FIRST_FILES = "store.json", "files.sqlite"  # may be left by a writer that died before creating the store
STORED_NAME = re.compile(r"\w[\w.:+=@-]*(/\w[\w.:+=@-]*)+")  # each component is a plain folder name


class Store:
    """The features and tables in one folder.

    Args:
        path: the folder; it is created when something is first written.
        read_only: every method that would write raises `StoreError`.
        base: another store, which is only read. Its features appear in this store with the rows of both;
            new rows are written to `path`. A feature that both have must have the same spec.

    Raises:
        StoreError: the folder is not a store, or one of an unknown version.

    Examples:
        >>> store = Store("scratch", base=Store("store", read_only=True))
        >>> store.feature("clip-vit-l/image").read(keys)
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False, base: "Store | None" = None
    ) -> None:
        self.path, self.read_only, self.base = Path(path), read_only, base
        self._opened: dict[str, Feature] = {}
        self._marker = self.path / "store.json"
        if self._marker.exists():
            with reading(self._marker):
                content = read_json(self._marker)
                kind = content["format"], content["version"]
            check_version(self._marker, kind, KIND)
        elif self.path.is_dir() and any(not p.name.startswith(FIRST_FILES) for p in self.path.iterdir()):
            raise StoreError(
                f"{self.path} contains other files and no store.json: choose an empty or new folder"
            )

    def __repr__(self) -> str:
        read_only = ", read_only=True" if self.read_only else ""
        base = f", base={self.base!r}" if self.base else ""
        return f"Store({str(self.path)!r}{read_only}{base})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Store, self.path, read_only=self.read_only, base=self.base), ()

    def check_writable(self) -> None:
        """Refuse to write into a read-only store.

        Raises:
            StoreError: the store is read-only.
        """
        if self.read_only:
            raise StoreError(f"{self.path} is opened for reading only: name another --store to write into")

    def create(self) -> None:
        """Create the store on disk unless it exists.

        Raises:
            StoreError: the store is read-only.
        """
        self.check_writable()
        if not self._marker.exists():
            write_json(self._marker, {"format": KIND[0], "version": KIND[1]})

    @property
    def exists(self) -> bool:
        """Whether the store exists on disk."""
        return self._marker.exists()

    @property
    def files(self) -> FileIndex:
        """The keys of input files that have not changed since they were read."""
        base = self.base.files if self.base else None
        return FileIndex(self.path / "files.sqlite", read_only=self.read_only, base=base)

    def save(self, table: Table, sources: Sequence[SourceFile] | None = None) -> None:
        """Save a table; it replaces an earlier table of the same source.

        Args:
            sources: the files it was read from, as they were when read; by default as they are now.

        Raises:
            StoreError: the store is read-only.
        """
        self.create()
        save_table(table, self._table_path(table), self.sources(table) if sources is None else sources)

    def sources(self, table: Table) -> list[SourceFile]:
        """The current state of the files that a table was read from."""
        return source_files((table.source, *table.more_sources), self.files)

    def is_outdated(self, table: Table | TableHeader) -> bool:
        """Whether the content of a file that a saved table was read from has changed."""
        path = self._table_path(table)
        sources = read_header(path).sources
        if sources is not None:
            return any(source.has_changed for source in sources)
        saved, old = path.stat().st_mtime_ns, load_table(path)  # before version 4, sources are not recorded
        paths = map(Path, (old.source, *old.more_sources))
        return any(source.exists() and source.stat().st_mtime_ns > saved for source in paths)

    def _table_path(self, table: Table | TableHeader) -> Path:
        return self.path / "tables" / f"{table.name}.h5"

    def table_files(self) -> list[Path]:
        """The files of the saved tables, sorted by name."""
        return sorted((self.path / "tables").glob("*.h5"))

    def headers(self) -> list[TableHeader]:
        """The headers of the saved tables, sorted by name; does not read their rows."""
        return [read_header(path) for path in self.table_files()]

    def load(self, header: TableHeader) -> Table:
        """The saved table of a header."""
        return load_table(self._table_path(header))

    def tables(self) -> list[Table]:
        """All saved tables with their rows, sorted by name; to choose one, use `headers`."""
        return [load_table(path) for path in self.table_files()]

    def table(self, name: str | None = None) -> Table:
        """The table of that name; by default the only one.

        Raises:
            UsageError: there is no such table, or more than one.
        """
        headers = {header.name: header for header in self.headers()}
        if name is None and len(headers) == 1:
            (name,) = headers
        if name is None:
            raise UsageError(f"{self.path} has {len(headers)} tables: choose one of {', '.join(headers)}")
        if name not in headers:
            raise unknown_name(f"table of {self.path}", name, headers)
        return self.load(headers[name])

    def features(self) -> list[str]:
        """The names of all features, sorted."""
        root = self.path / "features"
        names = {str(spec.parent.relative_to(root)) for spec in root.glob("**/spec.json")}
        return sorted(names | set(self.base.features() if self.base else ()))

    def folder(self, name: str) -> Path:
        """The folder of a feature.

        Raises:
            UnknownFeatureError: the store has none of that name.
        """
        stores = [self, self.base] if self.base else [self]
        folders = [store.path / "features" / name for store in stores]
        if STORED_NAME.fullmatch(name):
            for folder in folders:
                if (folder / "spec.json").exists():
                    return folder
        raise unknown_name(f"feature of {self.path}", name, self.features(), UnknownFeatureError)

    def feature(self, name: str) -> Feature:
        """A feature of the store; it is opened once, and again when its files have changed.

        Raises:
            UnknownFeatureError: the store has none of that name.
            SpecMismatchError: the base has it with another spec.
        """
        opened = self._opened.get(name)
        if opened is None or not opened.is_current:
            opened = self._opened[name] = self.open_feature(name)
        return opened

    def open_feature(self, name: str) -> Feature:
        """A feature that no other caller uses; raises as `feature` does."""
        self.folder(name)
        folder = Path("features") / name
        base = self.base.path / folder if self.base else None
        return Feature(name, self.path / folder, self.create, base)

    def declare(self, name: str, spec: Spec, provenance: Mapping[str, str] | None = None) -> Feature:
        """The feature of that name and spec; it is created if it does not exist or has no rows yet.

        Raises:
            SpecMismatchError: the stored feature has another spec; the message lists the differences.
            StoreError: the feature does not exist, and the store is read-only.
        """
        if not STORED_NAME.fullmatch(name):
            raise DataError(
                f"{name!r} is not a feature name: write encoder/output, with letters, digits and _.:+=@-"
            )
        folder = self.path / "features" / name
        if name in self.features():
            feature = self.feature(name)
            in_base = self.base and name in self.base.features()
            if feature.key == spec_key(spec) or any(folder.glob("*.h5*")) or in_base:
                feature.check(spec)
                return feature
            self.check_writable()
            (folder / JOURNAL).unlink(missing_ok=True)  # of the other spec
        self.create()
        FeatureRecord.new(name, spec, provenance or {}).write(folder)
        return self.feature(name)
