"""The feature store: a folder of features and of the tables they serve (the format is in SPEC.md)."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, StoreError, UnknownFeatureError, UsageError, unknown_name
from encode_once.cache.feature import Feature
from encode_once.cache.file_index import FileIndex
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.header import check_version
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.keys import Spec, spec_key
from encode_once.cache.source_files import SourceFile, source_files
from encode_once.cache.table import Table, TableHeader, load_table, read_header, save_table

KIND = "encode-once store", 2
OURS = "store.json", "files.sqlite"  # what a writer that died first of all may have left
NAME = re.compile(r"\w[\w.:+=@-]*(/\w[\w.:+=@-]*)+")  # encoder/output, each a plain folder name


class Store:
    """The features kept under one folder.

    Args:
        path: the folder. It is made when the first feature is declared.
        read_only: whatever would write raises `StoreError`.
        base: a store that is only read. Its features are found here, too, with the rows of both; what is
            written goes to `path`. A feature of both must have the same spec.

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

    def __repr__(self) -> str:
        more = [", read_only=True"] * self.read_only + [f", base={self.base!r}"] * (self.base is not None)
        return f"Store({str(self.path)!r}{''.join(more)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Store, self.path, read_only=self.read_only, base=self.base), ()

    def check_writable(self) -> None:
        """Refuse to write into a store that is only read.

        Raises:
            StoreError: it is.
        """
        if self.read_only:
            raise StoreError(f"{self.path} is opened for reading only: name another --store to write into")

    def create(self) -> None:
        """Make the folder, if it is not there.

        Raises:
            StoreError: it is only read.
        """
        self.check_writable()
        if not self._marker.exists():
            write_json(self._marker, {"format": KIND[0], "version": KIND[1]})

    @property
    def exists(self) -> bool:
        """Whether anything has been kept here yet."""
        return self._marker.exists()

    @property
    def files(self) -> FileIndex:
        """Keys of input files that have not changed since they were read."""
        base = self.base.files if self.base else None
        return FileIndex(self.path / "files.sqlite", read_only=self.read_only, base=base)

    def save(self, table: Table, sources: Sequence[SourceFile] | None = None) -> None:
        """Keep a table whose contents this store's rows belong to, in the place of an earlier state of it.

        Args:
            sources: the files it was read from, as they were then; by default as they are now.

        Raises:
            StoreError: the store is only read.
        """
        self.create()
        save_table(table, self._table_path(table), self.sources(table) if sources is None else sources)

    def sources(self, table: Table) -> list[SourceFile]:
        """The files a table was read from, as they are now."""
        return source_files((table.source, *table.more_sources), self.files)

    def is_outdated(self, table: Table | TableHeader) -> bool:
        """Whether a file that a table was read from holds something else by now, whatever its time says."""
        path = self._table_path(table)
        sources = read_header(path).sources
        if sources is not None:
            return any(source.has_changed for source in sources)
        kept, old = path.stat().st_mtime_ns, load_table(path)  # before version 4, only its own time is known
        paths = map(Path, (old.source, *old.more_sources))
        return any(source.exists() and source.stat().st_mtime_ns > kept for source in paths)

    def _table_path(self, table: Table | TableHeader) -> Path:
        return self.path / "tables" / f"{table.name}.h5"

    def table_files(self) -> list[Path]:
        """Where the tables are kept, by name."""
        return sorted((self.path / "tables").glob("*.h5"))

    def headers(self) -> list[TableHeader]:
        """What there is to say of the tables kept, by name, without reading their rows."""
        return [read_header(path) for path in self.table_files()]

    def load(self, header: TableHeader) -> Table:
        """The table of one of `headers`."""
        return load_table(self._table_path(header))

    def tables(self) -> list[Table]:
        """The tables kept, by name, with all their rows: to choose one, `headers` are enough."""
        return [load_table(path) for path in self.table_files()]

    def table(self, name: str | None = None) -> Table:
        """The table of that name, or the only one.

        Raises:
            UsageError: there is none, or several.
        """
        headers = {header.name: header for header in self.headers()}
        if name is None and len(headers) == 1:
            (name,) = headers
        if name is None:
            raise UsageError(f"{self.path} knows {len(headers)} tables: name one of {', '.join(headers)}")
        if name not in headers:
            raise unknown_name(f"table of {self.path}", name, headers)
        return self.load(headers[name])

    def features(self) -> list[str]:
        """Names of the features held, sorted."""
        root = self.path / "features"
        names = {str(spec.parent.relative_to(root)) for spec in root.glob("**/spec.json")}
        return sorted(names | set(self.base.features() if self.base else ()))

    def folder(self, name: str) -> Path:
        """Where a feature that is there is kept.

        Raises:
            UnknownFeatureError: the store has none of that name.
        """
        stores = [self, self.base] if self.base else [self]
        folders = [store.path / "features" / name for store in stores]
        if NAME.fullmatch(name):
            for folder in folders:
                if (folder / "spec.json").exists():
                    return folder
        raise unknown_name(f"feature of {self.path}", name, self.features(), UnknownFeatureError)

    def feature(self, name: str) -> Feature:
        """A feature that is there; opened once, and again when its files have changed.

        Raises:
            UnknownFeatureError: the store has none of that name.
            SpecMismatchError: the base has it with another spec.
        """
        self.folder(name)
        opened = self._opened.get(name)
        if opened is None or not opened.is_current:
            opened = self._opened[name] = Feature(self, name)
        return opened

    def declare(self, name: str, spec: Spec, provenance: Mapping[str, str] | None = None) -> Feature:
        """The feature of that name and spec, made if it is not there or has no rows yet.

        Raises:
            SpecMismatchError: the store holds that name with another spec; the message shows the difference.
            StoreError: the feature is not there, and the store is only read.
        """
        if not NAME.fullmatch(name):
            raise DataError(f"{name!r} is no feature name: encoder/output, of letters, digits and _.:+=@-")
        folder = self.path / "features" / name
        if name in self.features():
            feature = self.feature(name)
            in_base = self.base and name in self.base.features()
            if feature.key == spec_key(spec) or any(folder.glob("*.h5*")) or in_base:
                feature.check(spec)
                return feature
            self.check_writable()
            (folder / "failures.jsonl").unlink(missing_ok=True)  # of the spec that never gave a row
        self.create()
        FeatureRecord.new(name, spec, provenance or {}).write(folder)
        return self.feature(name)
