"""The feature store: a folder of features and of the tables that they belong to (see SPEC.md)."""

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encode_once.cache.errors import (
    DataError,
    MissingDataError,
    StoreError,
    UnknownFeatureError,
    UsageError,
    collected,
    unknown_name,
)
from encode_once.cache.feature import JOURNAL, Feature
from encode_once.cache.file_index import FileIndex
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import check_no_link, read_json, reading
from encode_once.cache.format.header import check_version
from encode_once.cache.format.inventory import FOLDER as INVENTORY
from encode_once.cache.format.inventory import Inventory
from encode_once.cache.format.part import Part
from encode_once.cache.format.replacement import folder_locked
from encode_once.cache.format.spec_file import SPEC_FILE, FeatureRecord
from encode_once.cache.frame import frame
from encode_once.cache.keys import Spec, spec_key
from encode_once.cache.places import is_gone
from encode_once.cache.remote.location import is_url, local_path
from encode_once.cache.remote.mirror import Mirror, Uploads
from encode_once.cache.representation import html_heading, html_table
from encode_once.cache.source_files import SourceFile, source_files
from encode_once.cache.table import (
    Table,
    TableHeader,
    label_set_texts,
    load_table,
    read_header,
    save_table,
)
from encode_once.cache.terminal import short_path

if TYPE_CHECKING:
    import pandas as pd

KIND = "encode-once store", 2
FIRST_FILES = "store.json", "files.sqlite"  # may be left by a writer that died before creating the store
STORED_NAME = re.compile(r"\w[\w.:+=@-]*(/\w[\w.:+=@-]*)+")  # each component is a plain folder name


class Store:
    """The features and tables in one folder.

    Args:
        path: the folder; it is created when something is first written. Or its URL, such as
            `s3://bucket/store`: then `path` is that of a local copy, and the URL is read when it is opened.
        read_only: every method that would write raises `StoreError`.
        base: another store, which is only read. Its features appear in this store with the rows of both;
            new rows are written to `path`. A feature that both have must have the same spec.

    Raises:
        StoreError: the folder is not a store, or one of an unknown version.
        RemoteError: the URL cannot be reached.

    Examples:
        >>> store = Store("scratch", base=Store("store", read_only=True))
        >>> store.feature("clip-vit-l/image").read(keys)
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False, base: "Store | None" = None
    ) -> None:
        self.read_only, self.base = read_only, base
        self.mirror = Mirror(os.fspath(path)) if is_url(path) else None
        self.path = self.mirror.path if self.mirror else local_path(path)
        self.location = self.mirror.remote.url if self.mirror else str(self.path)  # as the user knows it
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
        return f"{type(self).__name__}({self.location!r}{read_only}{base})"

    def _repr_html_(self) -> str:
        features: list[dict[str, object]] = []
        problems = self.problems()
        for name in self.features():
            with collected(problems):
                feature = self.feature(name)
                size = f"{feature.nbytes / 1e6:,.1f}"
                kind = "sequences" if feature.ragged else feature.modality
                features.append(
                    {"feature": name, "of": kind, "rows": len(feature), "dim": feature.dim, "MB": size}
                )
        tables: list[dict[str, object]] = []
        for path in self.table_files():
            with collected(problems):
                header = read_header(path)
                labelled = "yes" if header.labelled else "no"
                tables.append(
                    {
                        "table": short_path(header.source),
                        "split": header.split,
                        "rows": header.rows,
                        "labels": labelled,
                    }
                )
        lines: list[dict[str, object]] = [{"problem": line} for line in problems]
        blocks = [html_table(rows) for rows in (features, tables, lines)]
        return html_heading(repr(self)) + ("".join(blocks) or "<p>nothing yet</p>")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.location, read_only=self.read_only, base=self.base), ()

    def check_writable(self) -> None:
        """Refuse to write into a read-only store.

        Raises:
            StoreError: the store is read-only.
        """
        if self.read_only:
            raise StoreError(
                f"{self.location} is opened for reading only: name another --store to write into"
            )

    def check_exists(self) -> None:
        """Refuse a folder in which nothing was written yet.

        Raises:
            MissingDataError: it is no store.
        """
        if not self.exists:
            raise MissingDataError(f"{self.location} is not a store: run extract first")

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

    def save(
        self,
        table: Table,
        sources: Sequence[SourceFile] | None = None,
        *,
        replace_moved: bool = False,
        is_shard: bool = False,
    ) -> list[str]:
        """Save a table; it replaces an earlier table of the same source.

        Args:
            sources: the files it was read from, as they were when read; by default as they are now.
            replace_moved: also replace tables with the same rows whose source is gone, as after the data was
                renamed. Their sources are recorded, so that runs that name them find the table.
            is_shard: whether other shards read the images without a key: if they did, the earlier table of
                the same rows has their keys.

        Returns:
            The sources of the tables that were replaced because of `replace_moved`.

        Raises:
            StoreError: the store is read-only.
        """
        self.create()
        alone = self.mirror.changing_tables() if self.mirror else nullcontext()
        with folder_locked(self.path, fcntl.LOCK_EX), alone:  # shards may save at the same time
            if is_shard:
                table = self._with_saved_keys(table)
            return self._save(table, self.sources(table) if sources is None else sources, replace_moved)

    def _with_saved_keys(self, table: Table) -> Table:
        path = self._table_path(table)
        with suppress(StoreError):  # a damaged one is replaced
            return table.with_keys_of(load_table(path)) if path.exists() else table
        return table

    def _save(self, table: Table, sources: Sequence[SourceFile], replace_moved: bool) -> list[str]:
        path, headers = self._table_path(table), {}
        for file in self.table_files():
            with suppress(StoreError):  # a damaged one is no earlier place of these rows
                headers[file] = read_header(file)
        moved = {
            file: header
            for file, header in headers.items()
            if replace_moved and self._has_moved(header, table)
        }
        own = [headers[path]] if path in headers else []
        earlier = [name for header in own for name in header.moved_from]
        earlier += [name for header in moved.values() for name in (*header.moved_from, header.source)]
        moved_from = [name for name in dict.fromkeys(earlier) if name != table.source]
        save_table(table, path, sources, moved_from)
        for file in moved:
            file.unlink()
        return [header.source for header in moved.values()]

    def _has_moved(self, header: TableHeader, table: Table) -> bool:
        """Whether a saved table has the rows of another one, and its own source is gone."""
        size = (header.split, header.rows, header.labelled)
        if header.source == table.source or size != (table.split, len(table), table.labels is not None):
            return False
        with suppress(StoreError):
            return is_gone(header.source) and self.load(header).has_rows_of(table)
        return False

    def sources(self, table: Table) -> list[SourceFile]:
        """The current state of the files that a table was read from."""
        return source_files((table.source, *table.more_sources), self.files)

    def saved_header(self, table: Table) -> TableHeader | None:
        """The header of the saved table of the same source, here or in the base, if there is one."""
        if self._table_path(table).exists():
            return read_header(self._table_path(table))
        return self.base.saved_header(table) if self.base else None

    def saved_label_sets(self, table: Table | TableHeader) -> dict[str, str]:
        """Name → `LabelSet.text`, of the label sets of the saved table of a source, here or in the base."""
        if self._table_path(table).exists():
            return label_set_texts(self._table_path(table))
        return self.base.saved_label_sets(table) if self.base else {}

    def is_outdated(self, table: Table | TableHeader) -> bool:
        """Whether the content of a file that a saved table was read from has changed."""
        path = self._table_path(table)
        sources = (table if isinstance(table, TableHeader) else read_header(path)).sources
        if sources is not None:
            return any(source.has_changed for source in sources)
        saved, old = path.stat().st_mtime_ns, load_table(path)  # before version 4, sources are not recorded
        paths = map(Path, (old.source, *old.more_sources))
        return any(source.exists() and source.stat().st_mtime_ns > saved for source in paths)

    def _table_path(self, table: Table | TableHeader) -> Path:
        if self.mirror:
            self.mirror.fetch_tables()
        return self.path / "tables" / f"{table.name}.h5"

    def table_files(self) -> list[Path]:
        """The files of the saved tables, sorted by name."""
        folder = self.path / "tables"
        check_no_link(folder, self.path)
        if self.mirror:
            self.mirror.fetch_tables()
        return sorted(folder.glob("*.h5"))

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
        """The table of that name, or of that split where no other one is of it; by default the only one.

        Raises:
            UsageError: there is no such table, or more than one.
        """
        headers = {header.name: header for header in self.headers()}
        of_split = [header for header in headers.values() if header.split == name]
        if len(of_split) == 1:
            return self.load(of_split[0])
        if name is None and len(headers) == 1:
            (name,) = headers
        if name is None:
            raise UsageError(f"{self.location} has {len(headers)} tables: choose one of {', '.join(headers)}")
        if name not in headers:
            splits = dict.fromkeys(header.split for header in headers.values())
            raise unknown_name(f"table of {self.location}", name, [*splits, *headers])
        return self.load(headers[name])

    def features(self) -> list[str]:
        """The names of all features, sorted."""
        names, _ = _named_folders(self.path / "features")
        return sorted({*names, *(self.base.features() if self.base else ())})

    def lost_features(self) -> list[str]:
        """The names of features that the store once had, and whose spec.json is gone."""
        names, _ = _named_folders(self.path / INVENTORY)
        return [name for name in names if not os.path.lexists(self.feature_folder(name) / SPEC_FILE)]

    def problems(self) -> list[str]:
        """One line for each feature that is lost, and for each folder that is a link, unreadable or stray.

        Features behind such folders are not in `features`.
        """
        problems = self.base.problems() if self.base else []
        for folder in ("features", INVENTORY, "tables"):
            problems += _named_folders(self.path / folder)[1]
        return problems + [
            f"{self.feature_folder(name)} has no spec.json, but was a feature of this store: "
            "run extract, or forget it by store verify --repair"
            for name in self.lost_features()
        ]

    def feature_folder(self, name: str) -> Path:
        """Where a feature of that name is, or would be."""
        return self.path / "features" / name

    def folder(self, name: str) -> Path:
        """The folder of a feature.

        Raises:
            UnknownFeatureError: the store has none of that name.
        """
        if STORED_NAME.fullmatch(name):
            for store in filter(None, (self, self.base)):
                folder = store.feature_folder(name)
                if (folder / SPEC_FILE).exists():
                    check_no_link(folder, store.path)
                    if store.mirror:
                        store.mirror.fetch_parts(name)
                    return folder
        raise unknown_name(f"feature of {self.location}", name, self.features(), UnknownFeatureError)

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
        self.folder(name)  # raises if there is none
        base = self.base.feature_folder(name) if self.base else None
        stores = [store for store in (self, self.base) if store and store.mirror]
        mirrors = {store.feature_folder(name): store.mirror for store in stores if store.mirror}
        return Feature(name, self.feature_folder(name), self.create, base, mirrors)

    def open_part(self, path: Path, feature_key: str) -> Part:
        """One of the store's parts; raises as `Part` does."""
        return Part(path, feature_key, self.mirror.parts if self.mirror else None)

    def frame(self, name: str, table: Table | str | None = None) -> "pd.DataFrame":
        """A feature's vectors (n, d) of a table's rows as a DataFrame by id; NaN where a row has none.

        Args:
            name: of the feature.
            table: the table, its name or its split, see `table`; by default the only one.

        Raises:
            DataError: the feature has a sequence per row; there is no such feature or table.
        """
        return frame(self.feature(name), table if isinstance(table, Table) else self.table(table))

    def declare(self, name: str, spec: Spec, provenance: Mapping[str, str] | None = None) -> Feature:
        """The feature of that name and spec; it is created if it does not exist or, in a folder, has no rows.

        Raises:
            SpecMismatchError: the stored feature has another spec; the message lists the differences.
            StoreError: the feature does not exist, and the store is read-only.
        """
        if not STORED_NAME.fullmatch(name):
            raise DataError(
                f"{name!r} is not a feature name: write encoder/output, with letters, digits and _.:+=@-"
            )
        folder = self.feature_folder(name)
        check_no_link(folder, self.path)
        has_spec = os.path.lexists(folder / SPEC_FILE)
        if not has_spec and any(folder.glob("*.h5*")) and name in self.lost_features():
            restore_record(folder, Inventory(self.path, name))
        if name in self.features():
            feature = self.feature(name)
            in_base = self.base and name in self.base.features()
            # At a URL, other machines may have rows that they have not sent yet.
            has_rows = self.mirror is not None or any(folder.glob("*.h5*")) or in_base
            if feature.key == spec_key(spec) or has_rows:
                feature.check(spec)
                return feature
            self.check_writable()
            (folder / JOURNAL).unlink(missing_ok=True)  # of the other spec
        self.create()
        record = FeatureRecord.new(name, spec, provenance or {})
        record.write(folder)
        Inventory(self.path, name).add(record, {})
        self.upload()
        feature = self.feature(name)
        feature.check(spec)  # another machine may have declared it meanwhile
        return feature

    def upload(self) -> Uploads:
        """Send what is only in the local copy of a store at a URL, as after an error; what was sent.

        Raises:
            RemoteError: the URL cannot be reached.
        """
        return self.mirror.push() if self.mirror else Uploads()

    @property
    def uploads(self) -> Uploads:
        """What was sent to the store's URL since it was opened."""
        return self.mirror.uploads if self.mirror else Uploads()


def restore_record(folder: Path, inventory: Inventory) -> bool:
    """Restore the spec.json of a feature from its inventory; whether there is a copy.

    Raises:
        StoreError: the copy cannot be read, or the disk fails.
    """
    record = inventory.record
    if record:
        record.write(folder)
    return record is not None


def _named_folders(root: Path) -> tuple[list[str], list[str]]:
    """The features with a spec.json below a folder, and a line for each folder that is not searched."""
    names: list[str] = []
    problems: list[str] = []

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{error.filename} cannot be read ({error.strerror})")

    if root.is_symlink():
        return [], [f"{root} is a symbolic link: move the folder itself there"]
    for top, folders, files in os.walk(root, onerror=unreadable):
        name = os.path.relpath(top, root)
        links = [Path(top, folder) for folder in folders if Path(top, folder).is_symlink()]
        problems += [f"{link} is a symbolic link: move the folder itself there" for link in links]
        if SPEC_FILE in files and STORED_NAME.fullmatch(name):
            names.append(name)
        elif SPEC_FILE in files:
            problems.append(f"{top} is not the folder of a feature: move it out of the store")
    return sorted(names), sorted(problems)
