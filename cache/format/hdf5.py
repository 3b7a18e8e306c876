"""Open HDF5 files that others may have written.

HDF5 can lead out of a file: to other files through external storage, external links and virtual data sets.
A file can also declare a shape of any size, or contain itself. So every file is checked as a whole before its
data is read: it has only groups and data sets of plain types that are stored in the file itself, uncompressed
and contiguous, each under one name, and together no larger than the file.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from encode_once.cache.format.atomic import write_at
from encode_once.cache.format.files import open_without_links, reading
from encode_once.cache.large_arrays import map_file
from encode_once.cache.packed_columns import PackedColumn, Texts

DEPTH = 8  # of nested groups; the library recurses
NUMBERS = "biuf"  # kinds of NumPy types: booleans, integers, floats
HEAP_PLACE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # of a text in a heap
HEAP_HEAD, OBJECT_HEAD = 16, 16  # bytes before the objects of a heap, and before the content of an object
COMPACT_BYTES = 1 << 16  # the most that HDF5 stores in a data set's header
# Smaller files are read instead of mapped: the system ends a process that reads a mapped page that is gone,
# as on NFS after another machine has replaced the file, and Python before 3.13 keeps a mapped file open.
MAPPED_BYTES = 1 << 26


@contextmanager
def open_hdf5(path: Path, texts_in_heap: bool = False) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; an error in the block is of one line and names the file.

    Args:
        texts_in_heap: it may have data sets for `read_heap_texts`.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedError: the path is not a regular file, or the file is not HDF5, leads out of itself, or has
            types or sizes that this program does not write.
        StoreError: the disk or the memory fails.
    """
    with reading(path), open_without_links(path) as content, h5py.File(content, "r") as file:
        _check(file, content, texts_in_heap)
        yield file


@contextmanager
def map_hdf5(path: Path) -> Iterator[tuple[h5py.File, mmap.mmap | None]]:
    """The same with the mapped file, for `map_array`; None if it is small."""
    with reading(path), open_without_links(path) as content, h5py.File(content, "r") as file:
        _check(file, content, texts_in_heap=False)
        is_large = os.fstat(content.fileno()).st_size >= MAPPED_BYTES
        yield file, map_file(content, mmap.ACCESS_READ) if is_large else None


class _Target(FileIO):
    """A new file that keeps errors instead of raising them: HDF5 cannot close a file after a failed write."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "r+")
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of the content."""
        place, content = self.tell(), memoryview(content).cast("B")
        try:
            write_at(self.fileno(), place, content)
        except OSError as error:
            self.error = self.error or error
        return self.seek(place + len(content)) - place

    def truncate(self, size: int | None = None) -> int:
        """Change the file's size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def create_hdf5(path: Path, **options: Any) -> Iterator[h5py.File]:
    """Create an HDF5 file, with options of `h5py.File`.

    Raises:
        OSError: the disk is full or fails.
    """
    with _Target(path) as target:
        with h5py.File(target, "w", **options) as file:
            yield file
        if target.error:
            raise target.error


def read_array(group: h5py.Group, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A data set of numbers.

    Args:
        kinds: of NumPy types, such as "f" for floats or "iu" for integers.
        shape: with None where any length is right.

    Raises:
        ValueError: there is no such data set, or it has another type or shape.
    """
    array: NDArray[Any] = _fitting(group, name, kinds, shape)[()]
    return array


def map_array(
    group: h5py.Group, name: str, kinds: str, shape: tuple[int | None, ...], content: mmap.mmap | None
) -> NDArray[Any]:
    """The same, mapped: it takes no memory of its own, cannot be changed, and outlives the open file.

    content: the mapped file; None: the data set is read.
    """
    dataset = _fitting(group, name, kinds, shape)
    start = dataset.id.get_offset()
    if content is None or not start or not dataset.size:
        array = read_array(group, name, kinds, shape)
        array.flags.writeable = False  # as if it were mapped
        return array
    return np.frombuffer(content, dataset.dtype, dataset.size, start).reshape(dataset.shape)


def _fitting(group: h5py.Group, name: str, kinds: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    dataset = _dataset(group, name)
    lengths = zip(dataset.shape, shape, strict=False)
    fits = len(dataset.shape) == len(shape) and all(b in (a, None) for a, b in lengths)
    if dataset.dtype.kind not in kinds or not fits:
        raise ValueError(f"{name} has the type {dataset.dtype} and the shape {dataset.shape}")
    return dataset


def write_packed(group: h5py.Group, name: str, column: PackedColumn[Any], dtype: Any) -> None:
    """Write a column's values, as a data set of that name and type, and its n + 1 `offsets` next to it."""
    offsets = group.create_dataset("offsets", (len(column) + 1,), np.uint64)
    values = group.create_dataset(name, (column.total(),), dtype)
    row, end = 0, 0
    offsets[0] = 0
    for block, lengths in column.blocks():
        values[end : end + len(block)] = block
        offsets[row + 1 : row + 1 + len(lengths)] = end + np.cumsum(lengths)
        row, end = row + len(lengths), end + len(block)


def write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Write texts (n,) as concatenated UTF-8 bytes and n + 1 offsets.

    HDF5's own texts of any length are in a heap, and the library does not return from reading a damaged one.
    """
    write_packed(group.create_group(name), "bytes", Texts.of(texts), np.uint8)


def read_texts(group: h5py.Group, name: str, rows: int | None = None) -> list[str]:
    """Texts written by `write_texts`; raises as `map_texts`."""
    return [*map_texts(group, name, rows, None)]


def map_texts(group: h5py.Group, name: str, rows: int | None, content: mmap.mmap | None) -> Texts:
    """Texts written by `write_texts`; `content` as in `map_array`.

    Raises:
        ValueError: they have another type, or another number than `rows`.
    """
    values = map_array(group, f"{name}/bytes", "u", (None,), content).astype(np.uint8, copy=False)
    return Texts(values, read_offsets(group, name, len(values), rows, content))


def read_heap_texts(path: Path, group: h5py.Group, name: str) -> list[str]:
    """A data set of HDF5's own texts of any length, (n,), of an open file at that path.

    Its bytes are read without the library, which does not return from reading a damaged heap. A heap is
    "GCOL", four bytes, its size (8 bytes), and objects: a number from 1 on (2 bytes), 6 bytes, its size (8),
    its content, padded to a multiple of 8. Runs before version 5 have such texts.

    Raises:
        ValueError: there is no such data set, or a text is not in the file.
    """
    dataset, content = _dataset(group, name), path.read_bytes()
    start = dataset.id.get_offset()
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    if not is_text or dataset.ndim != 1 or (dataset.size and start is None):
        raise ValueError(f"{name} has the type {dataset.dtype} and the shape {dataset.shape}")
    places = np.frombuffer(content, HEAP_PLACE, len(dataset), start).tolist() if dataset.size else []
    heaps: dict[int, dict[int, bytes]] = {}
    texts = []
    for length, heap, index in places:
        if heap not in heaps:
            heaps[heap] = _heap_objects(content, heap)
        text = heaps[heap].get(index, b"") if length else b""
        if len(text) < length:
            raise ValueError(f"a text of {name} is not in the file")
        texts.append(text[:length].decode("utf-8", "surrogateescape"))
    return texts


def _heap_objects(content: bytes, start: int) -> dict[int, bytes]:
    """The objects by number of a heap that starts at a place of a file, up to the first that is damaged."""
    objects: dict[int, bytes] = {}
    if content[start : start + 4] != b"GCOL":
        return objects
    end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
    at = start + HEAP_HEAD
    while at + OBJECT_HEAD <= end and (number := int.from_bytes(content[at : at + 2], "little")):
        size = int.from_bytes(content[at + 8 : at + 16], "little")
        at += OBJECT_HEAD
        objects[number] = content[at : min(at + size, end)]
        at += size + -size % 8
    return objects


def read_offsets(
    group: h5py.Group, name: str, end: int, rows: int | None, content: mmap.mmap | None = None
) -> NDArray[np.uint64]:
    """The offsets of a group, (rows + 1,), which rise from 0 to `end`; `content` as in `map_array`.

    Raises:
        ValueError: they do not.
    """
    offsets = map_array(group, f"{name}/offsets", "u", (None if rows is None else rows + 1,), content)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"the offsets of {name} are not rising from 0 to {end}")
    return offsets


def read_attribute(group: h5py.Group, name: str, kind: type[str] | type[int]) -> Any:
    """A text or an integer.

    Raises:
        ValueError: there is no such attribute, or it has another type.
    """
    if name not in group.attrs:
        raise ValueError(f"there is no attribute {name}")
    stored = group.attrs.get_id(name)
    is_right = h5py.check_string_dtype(stored.dtype) if kind is str else stored.dtype.kind in "iu"
    if not is_right or stored.shape != ():
        raise ValueError(f"the attribute {name} has the type {stored.dtype} and the shape {stored.shape}")
    value = group.attrs[name]
    return value if kind is str else int(value)


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"there is no data set {name}")
    return dataset


def _check(file: h5py.File, content: BinaryIO, texts_in_heap: bool) -> None:
    """Refuse what leads out of the file, and what would not fit into it.

    Raises:
        ValueError: the message says what.
    """
    size = os.fstat(content.fileno()).st_size
    room, addresses = size, {h5py.h5o.get_info(file.id).addr}
    pending: list[tuple[h5py.Group, int]] = [(file, 1)]
    while pending:
        group, depth = pending.pop()
        for name in group:
            if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
                raise ValueError(f"{name} is a link")
            entry = group[name]
            address = h5py.h5o.get_info(entry.id).addr
            if address in addresses or depth == DEPTH:
                raise ValueError(f"{name} occurs twice, or is nested too deeply")
            addresses.add(address)
            if isinstance(entry, h5py.Group):
                pending.append((entry, depth + 1))
            else:
                room -= _stored_bytes(entry, size, texts_in_heap)
                if room < 0:
                    raise ValueError("its data sets are larger than the file")


def _stored_bytes(dataset: Any, size: int, texts_in_heap: bool) -> int:
    """The number of bytes that a data set takes in a file of `size` bytes.

    Raises:
        ValueError: it has a type, storage or size that this program does not write.
    """
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError("it has an entry that is neither a group nor a data set")
    layout, name = dataset.id.get_create_plist(), dataset.name
    is_plain = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not layout.get_nfilters()
    if not is_plain or layout.get_external_count():
        raise ValueError(f"{name} is compressed, in pieces, or stored elsewhere")
    in_heap = texts_in_heap and h5py.check_string_dtype(dataset.dtype) is not None
    if not (in_heap or dataset.dtype.kind in NUMBERS) or dataset.shape is None:
        raise ValueError(f"{name} has the type {dataset.dtype}")
    used: int = prod(dataset.shape) * (HEAP_PLACE if in_heap else dataset.dtype).itemsize
    start: int = dataset.id.get_offset() or 0  # 0 if the data has no place of its own
    is_compact = layout.get_layout() == h5py.h5d.COMPACT and used <= COMPACT_BYTES
    if used and not is_compact and not 0 < start <= size - used:
        raise ValueError(f"{name} of shape {dataset.shape} is not in the file")
    return used
