"""A table of samples: the image, captions and labels of each row, and their content keys."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from mmap import mmap
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import ArrayLike

from encode_once.cache.errors import DamagedError
from encode_once.cache.format.atomic import replacing, write_at
from encode_once.cache.format.files import open_without_links, reading, typed
from encode_once.cache.format.hdf5 import (
    create_hdf5,
    map_array,
    map_hdf5,
    map_texts,
    open_hdf5,
    read_attribute,
    read_offsets,
    read_texts,
    write_packed,
    write_texts,
)
from encode_once.cache.format.header import STAMP_BYTES, check_whole, checksum, read_stamp, stamp_whole
from encode_once.cache.keys import KEY_BYTES, Keys, content_key, pack, present
from encode_once.cache.large_arrays import new_array, row_slices
from encode_once.cache.packed_columns import LabelLists, items_at, joined, row_numbers
from encode_once.cache.representation import MOST_ROWS, html_heading, html_table, short_repr
from encode_once.cache.source_files import SourceFile
from encode_once.cache.terminal import short_path

Item = TypeVar("Item")
KIND = "encode-once table", 5
SINCE = 2  # the oldest version that is read; it has one caption per row, and one source file
WITH_CAPTIONS = 3  # the first version with several of both
WITH_HEADER = 4  # the first version with a header before the HDF5 content
# The version of tables with unknown labels, which earlier programs would read as negatives. Other tables are
# still written as version 4, which these programs read.
WITH_UNKNOWN = 5
NAMED_COLUMNS = "named_columns"
LABEL_READING = "label_reading"
UNKNOWN_MARK = "?"  # before the name of a label that is unknown, where labels are shown
LABEL_SETS = "label_sets"
OPTIONAL = "corrections", "moved_from"  # fields of the header that are left out if they are empty


@dataclass(frozen=True)
class _NamedColumns:
    names: dict[str, list[str]]


@dataclass(frozen=True)
class _LabelReading:
    unknown_marks: list[str]
    uncertain: str


@dataclass(frozen=True)
class _LabelSetHeader:
    text: str
    columns: list[str]
    separator: str


@dataclass(frozen=True)
class _LabelSetHeaders:
    sets: dict[str, _LabelSetHeader]


@dataclass(frozen=True)
class LabelSet:
    """Further labels of a table's rows, in addition to those in `Table.labels`.

    text: what the user wrote to add it, as `NAME=COLUMN`, by which it is read again.
    columns: those that the text names, as `Table.named_columns` has them.
    separator: with which predictions are written.
    """

    text: str
    columns: list[str]
    separator: str
    labels: Sequence[tuple[str, ...]]  # (n,)
    unknown: Sequence[tuple[str, ...]] = field(default_factory=list)  # as `Table.unknown`

    __repr__ = short_repr


@dataclass
class Table:
    """Rows of a user's data as columns; every sequence has one entry per row, in the input's order.

    Columns are lists or, of a saved table, packed, and decoded when they are read; those of a large one are
    mapped from its file. The arrays of a saved table cannot be changed: assign others.

    A row's vectors are found by its content keys, never by its id alone: `image_keys[i]` is the key of the
    image's bytes and `caption_keys[i]` that of the caption's UTF-8, each `NO_KEY` if the row has none. The
    first caption of a row is in `captions`, the second in `more_captions[0]`, and so on. Imported vectors are
    found by the key of the whole row, see `keys`.
    """

    source: str  # absolute path of the file or folder that the table was read from
    ids: Sequence[str]
    images: Sequence[str]  # path of each image, or CONTAINER::WHERE in a container; "" if the row has none
    captions: Sequence[str]  # "" if the row has none
    labels: Sequence[tuple[str, ...]] | None  # None: an unlabelled table; (): a row without labels
    id_column: str = "ImageID"
    label_separator: str = " "
    columns: dict[str, Sequence[str]] = field(default_factory=dict)  # the table's other columns, as text
    image_keys: Keys | None = None  # (n, 16) uint8
    caption_keys: Keys | None = None  # (n, 16) uint8
    split: str = "train"  # the data's name for these rows: train, test, val2017 …
    more_sources: list[str] = field(default_factory=list)  # further files it was read from, such as shards
    more_captions: list[Sequence[str]] = field(default_factory=list)  # each (n,), "" if a row has fewer
    more_caption_keys: list[Keys] = field(default_factory=list)  # each (n, 16) uint8
    # "id", "image", "captions", "labels" or "unknown" → the columns that the user named for it
    named_columns: dict[str, list[str]] = field(default_factory=dict)
    unknown_marks: list[str] = field(default_factory=list)  # by which the user marked unknown labels
    uncertain: str = ""  # what the user said that -1 means; "": nothing
    corrections: str = ""  # path of the file by which labels were corrected; one of more_sources
    # The labels of each row of which nobody knows whether it has them; []: there are none in any row.
    unknown: Sequence[tuple[str, ...]] = field(default_factory=list)
    label_sets: dict[str, LabelSet] = field(default_factory=dict)  # by name
    row_keys: Keys | None = None  # (n, 16) uint8, if the rows are those of several tables; not saved

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        labels = self.labels or [()] * len(self)
        unknown = self.unknown or [()] * len(self)
        rows = zip(self.ids, self.images, self.captions, labels, unknown, strict=True)
        cells = [
            {
                self.id_column: row_id,
                "image": image,
                "caption": caption,
                "labels": ", ".join([*names, *(f"{UNKNOWN_MARK}{name}" for name in unknown_names)]),
            }
            for row_id, image, caption, names, unknown_names in islice(rows, MOST_ROWS)
        ]
        return html_heading(f"{short_path(self.source)}: {len(self):,} rows, {self.split}") + html_table(
            cells, len(self)
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """Its name in a store: readable, and unique for each source."""
        return name_of(self.source)

    def keys(self, modality: str) -> Keys:
        """Keys of the rows' images, of their first captions, or of the rows themselves, (n, 16).

        The key of a row is that of its id, image and first caption; of a row with neither, that of the
        table's source, split and id. So a table that has moved keeps its vectors where there is any content,
        and rows of different data sets are not mistaken for each other.
        """
        if modality == "row" and self.row_keys is None:
            return self._keys_of_rows()
        keys = {"image": self.image_keys, "caption": self.caption_keys, "row": self.row_keys}[modality]
        assert keys is not None, "the keys are set when the contents are read"
        return keys

    def _keys_of_rows(self) -> Keys:
        place, keys = f"{self.source}\0{self.split}", new_array((len(self), KEY_BYTES), np.uint8)
        for rows in row_slices(len(self)):
            contents = np.concatenate(
                [self.keys("image")[rows], self.keys("caption")[rows]], axis=1
            )  # (m, 32)
            texts = (
                f"{'' if has_content else place}\0{row_id}\0".encode("utf-8", "surrogateescape")
                for has_content, row_id in zip(present(contents), self.ids[rows], strict=True)
            )
            keys[rows] = pack(
                content_key(text + content) for text, content in zip(texts, map(bytes, contents), strict=True)
            )
        return keys

    def all_keys(self, modality: str) -> Keys:
        """Keys of the rows' images or of the rows, (1, n, 16), or of all their captions, (k, n, 16)."""
        return np.stack(self.key_columns(modality))

    def key_columns(self, modality: str) -> list[Keys]:
        """The same, each (n, 16), without a copy."""
        return [self.keys(modality), *(self.more_caption_keys if modality == "caption" else [])]

    def contents(self, modality: str) -> Sequence[str]:
        """The images, or the captions themselves, in the order of `all_keys`."""
        return joined(self.sources(modality))

    def sources(self, modality: str) -> list[Sequence[str]]:
        """The images, or each column of captions; as in `all_keys`."""
        return [self.images] if modality == "image" else [self.captions, *self.more_captions]

    def take(self, rows: ArrayLike) -> "Table":
        """The table of these rows, in this order: numbers, or a mask (n,).

        Raises:
            IndexError: there is no such row.
        """
        rows = row_numbers(rows, len(self))

        def of(column: Sequence[Item]) -> Sequence[Item]:
            return items_at(column, rows)

        return replace(
            self,
            ids=of(self.ids),
            images=of(self.images),
            captions=of(self.captions),
            labels=None if self.labels is None else of(self.labels),
            unknown=of(self.unknown) if self.unknown else [],
            columns={name: of(column) for name, column in self.columns.items()},
            label_sets={
                name: replace(
                    label_set,
                    labels=of(label_set.labels),
                    unknown=of(label_set.unknown) if label_set.unknown else [],
                )
                for name, label_set in self.label_sets.items()
            },
            image_keys=None if self.image_keys is None else self.image_keys[rows],
            caption_keys=None if self.caption_keys is None else self.caption_keys[rows],
            more_captions=[of(column) for column in self.more_captions],
            more_caption_keys=[keys[rows] for keys in self.more_caption_keys],
            row_keys=None if self.row_keys is None else self.row_keys[rows],
        )

    def has_rows_of(self, other: "Table") -> bool:
        """Whether both have the same rows in the same order, wherever they were read from."""
        return self._has_texts_of(other) and np.array_equal(self.keys("image"), other.keys("image"))

    def _has_texts_of(self, other: "Table") -> bool:
        fields = ("split", "ids", "labels", "unknown", "label_sets", "captions", "more_captions", "columns")
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    def with_keys_of(self, other: "Table") -> "Table":
        """The table with the keys of images that only `other` has, if both have the same rows otherwise.

        So the tables of all shards make the whole one.
        """
        if not self._has_texts_of(other):
            return self
        own = self.keys("image")
        keys = np.where(present(own)[:, None], own, other.keys("image"))
        return replace(self, image_keys=keys)


def name_of(source: str) -> str:
    """The name in a store of the table with that source."""
    path, key = Path(source), content_key(source.encode("utf-8", "surrogateescape"))
    return f"{path.parent.name}-{path.stem}-{key.hex()[:8]}"


@dataclass(frozen=True)
class TableHeader:
    """A table's metadata, which is read without its rows."""

    source: str
    split: str
    rows: int
    labelled: bool
    sources: list[SourceFile] | None = None  # all files it was read from; None before version 4
    corrections: str = ""  # path of the file by which labels were corrected
    moved_from: Sequence[str] = ()  # earlier sources, which were gone when these rows appeared at `source`

    @property
    def name(self) -> str:
        """Its name in a store."""
        return name_of(self.source)


@dataclass(frozen=True)
class HeaderPlace:
    """The stamp's entry for the header."""

    bytes: int
    checksum: str


def _get_keys(group: h5py.Group, name: str, shape: tuple[int | None, ...], content: mmap | None) -> Keys:
    return map_array(group, name, "u", shape, content).astype(np.uint8, casting="no", copy=False)


def _get_labels(file: h5py.File, name: str, rows: int, content: mmap | None) -> LabelLists:
    names = read_texts(file, f"{name}/names")
    numbers = map_array(file, f"{name}/numbers", "u", (None,), content)
    offsets = read_offsets(file, name, len(numbers), rows, content)
    if len(numbers) and numbers.max() >= len(names):
        raise ValueError("the number of a label has no name")
    return LabelLists(names, numbers, offsets)


def _put_labels(file: h5py.File, name: str, rows: Sequence[tuple[str, ...]]) -> None:
    labels = LabelLists.of(rows).sorted_by_name()
    group = file.create_group(name)
    write_texts(group, "names", labels.names)
    write_packed(group, "numbers", labels, np.uint32)


def _label_set_headers(file: h5py.File) -> dict[str, _LabelSetHeader]:
    if LABEL_SETS not in file.attrs:  # there are none, or an earlier version wrote the file
        return {}
    return typed(_LabelSetHeaders, {"sets": json.loads(read_attribute(file, LABEL_SETS, str))}).sets


def _get_label_sets(file: h5py.File, rows: int, content: mmap | None) -> dict[str, LabelSet]:
    sets = {}
    for number, (name, header) in enumerate(_label_set_headers(file).items()):
        group = f"{LABEL_SETS}/{number}"
        unknown = _get_labels(file, f"{group}/unknown", rows, content) if f"{group}/unknown" in file else []
        labels = _get_labels(file, group, rows, content)
        sets[name] = LabelSet(header.text, header.columns, header.separator, labels, unknown)
    return sets


def label_set_texts(path: Path) -> dict[str, str]:
    """Name → what the user wrote to add it, of the label sets in a table's file; its rows are not read.

    Raises:
        StoreError: the file is not a table.
    """
    with open_hdf5(path) as file:
        return {name: header.text for name, header in _label_set_headers(file).items()}


def _get_named_columns(file: h5py.File) -> dict[str, list[str]]:
    if NAMED_COLUMNS not in file.attrs:  # the user named none, or an earlier version wrote the file
        return {}
    return typed(_NamedColumns, {"names": json.loads(read_attribute(file, NAMED_COLUMNS, str))}).names


def _get_label_reading(file: h5py.File) -> _LabelReading:
    if LABEL_READING not in file.attrs:  # the user set nothing, or an earlier version wrote the file
        return _LabelReading([], "")
    return typed(_LabelReading, json.loads(read_attribute(file, LABEL_READING, str)))


def save_table(
    table: Table, path: Path, sources: Sequence[SourceFile] = (), moved_from: Sequence[str] = ()
) -> None:
    """Write a table, its keys and the state of its source files, completely or not at all."""
    labelled, read_from = table.labels is not None, list(sources)
    header = TableHeader(
        table.source, table.split, len(table), labelled, read_from, table.corrections, moved_from
    )
    content = asdict(header)
    for name in OPTIONAL:
        if not content[name]:
            del content[name]
    text = json.dumps(content).encode()
    user_block = 1 << (STAMP_BYTES + len(text) - 1).bit_length()  # HDF5 requires a power of two
    with replacing(path) as temporary:
        with create_hdf5(temporary, userblock_size=user_block) as file:
            _put(table, file)
        with temporary.open("r+b") as target:
            write_at(target.fileno(), STAMP_BYTES, text)
        stamp_whole(temporary, _kind(table), {"header": {"bytes": len(text), "checksum": checksum(text)}})


def read_header(path: Path) -> TableHeader:
    """Read the header of a table written by `save_table`; for an earlier version, reads the whole table.

    Raises:
        StoreError: the file is not a table, or of another version.
        DamagedError: the header has changed since it was written.
    """
    with reading(path):
        stamp = read_stamp(path, KIND, SINCE)
        if stamp["version"] < WITH_HEADER:
            table = load_table(path)
            return TableHeader(table.source, table.split, len(table), table.labels is not None)
        place = typed(HeaderPlace, stamp["header"])
        with open_without_links(path) as file:
            file.seek(STAMP_BYTES)
            text = file.read(min(max(place.bytes, 0), path.stat().st_size))
        if checksum(text) != place.checksum:
            raise DamagedError(f"{path} is damaged")
        return typed(TableHeader, json.loads(text))


def _kind(table: Table) -> tuple[str, int]:
    """The format and the version to write."""
    return KIND[0], WITH_UNKNOWN if any(table.unknown) else WITH_HEADER


def _put(table: Table, file: h5py.File) -> None:
    file.attrs.update(dict(zip(("format", "version"), _kind(table), strict=True)))
    for name in ("source", "id_column", "label_separator", "split"):
        text = getattr(table, name).encode("utf-8", "surrogateescape")  # paths may contain any bytes
        file.attrs.create(name, text, dtype=h5py.string_dtype())
    if table.corrections:
        text = table.corrections.encode("utf-8", "surrogateescape")
        file.attrs.create("corrections", text, dtype=h5py.string_dtype())
    for name in ("ids", "images", "captions", "more_sources"):
        write_texts(file, name, getattr(table, name))
    _put_user_options(table, file)
    file["image_keys"], file["caption_keys"] = table.keys("image"), table.keys("caption")
    file["more_caption_keys"] = table.all_keys("caption")[1:]
    for number, texts in enumerate(table.more_captions):
        write_texts(file, f"more_captions/{number}", texts)
    write_texts(file, "column_names", list(table.columns))
    for number, texts in enumerate(table.columns.values()):
        write_texts(file, f"columns/{number}", texts)  # HDF5 does not allow every column name
    if table.labels is not None:
        _put_labels(file, "labels", table.labels)
    if any(table.unknown):
        _put_labels(file, "unknown", table.unknown)
    if table.label_sets:
        _put_label_sets(table.label_sets, file)


def _put_user_options(table: Table, file: h5py.File) -> None:
    if table.named_columns:
        text = json.dumps(table.named_columns).encode()
        file.attrs.create(NAMED_COLUMNS, text, dtype=h5py.string_dtype())
    if table.unknown_marks or table.uncertain:
        text = json.dumps(asdict(_LabelReading(table.unknown_marks, table.uncertain))).encode()
        file.attrs.create(LABEL_READING, text, dtype=h5py.string_dtype())


def _put_label_sets(label_sets: dict[str, LabelSet], file: h5py.File) -> None:
    headers = {name: _LabelSetHeader(s.text, s.columns, s.separator) for name, s in label_sets.items()}
    text = json.dumps({name: asdict(header) for name, header in headers.items()}).encode()
    file.attrs.create(LABEL_SETS, text, dtype=h5py.string_dtype())
    for number, label_set in enumerate(label_sets.values()):
        _put_labels(file, f"{LABEL_SETS}/{number}", label_set.labels)
        if any(label_set.unknown):
            _put_labels(file, f"{LABEL_SETS}/{number}/unknown", label_set.unknown)


def load_table(path: Path) -> Table:
    """Read a table written by `save_table`.

    Raises:
        StoreError: the file is not a table, or of another version.
        DamagedError: the file has changed since it was written.
    """
    check_whole(path, KIND, SINCE)
    with map_hdf5(path) as (file, content):
        ids = map_texts(file, "ids", None, content)
        rows = len(ids)
        names = read_texts(file, "column_names")
        source = read_attribute(file, "source", str)
        more: dict[str, Any] = {"split": Path(source).stem}
        if read_attribute(file, "version", int) >= WITH_CAPTIONS:
            keys = list(_get_keys(file, "more_caption_keys", (None, rows, KEY_BYTES), content))
            texts = [map_texts(file, f"more_captions/{i}", rows, content) for i in range(len(keys))]
            more = {
                "split": read_attribute(file, "split", str),
                "more_sources": read_texts(file, "more_sources"),
                "more_captions": texts,
                "more_caption_keys": keys,
            }
        return Table(
            source=source,
            ids=ids,
            images=map_texts(file, "images", rows, content),
            captions=map_texts(file, "captions", rows, content),
            labels=_get_labels(file, "labels", rows, content) if "labels" in file else None,
            unknown=_get_labels(file, "unknown", rows, content) if "unknown" in file else [],
            id_column=read_attribute(file, "id_column", str),
            label_separator=read_attribute(file, "label_separator", str),
            columns={name: map_texts(file, f"columns/{i}", rows, content) for i, name in enumerate(names)},
            image_keys=_get_keys(file, "image_keys", (rows, KEY_BYTES), content),
            caption_keys=_get_keys(file, "caption_keys", (rows, KEY_BYTES), content),
            named_columns=_get_named_columns(file),
            **asdict(_get_label_reading(file)),
            label_sets=_get_label_sets(file, rows, content),
            corrections=read_attribute(file, "corrections", str) if "corrections" in file.attrs else "",
            **more,
        )
