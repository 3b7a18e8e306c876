"""Read one part file of a feature: plain HDF5 with contiguous datasets and checksums (see SPEC.md).

Reading does not use the HDF5 library: the file is mapped, and its stamp says where each dataset starts.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from encode_once.cache.errors import DamagedError, StoreError, collected
from encode_once.cache.format.files import open_without_links, reading, typed
from encode_once.cache.format.hdf5 import open_hdf5
from encode_once.cache.format.header import STAMP_BYTES, checksum, checksums, read_stamp
from encode_once.cache.keys import KEY_BYTES, Keys, RowIndex

KIND = "encode-once part", 2
DTYPES = ("<f2", "<f4", "|u1")
BLOCK_BYTES = 1 << 20  # of values under one checksum, for reading many consecutive rows
INFINITE_HALF = 0x7C00  # the bits of infinity as float16; those of NaN are greater
SEQUENCES = 1 << 16  # whose places are in memory as Python numbers
COPY_BYTES = 1 << 26  # of vectors that a copy keeps in memory
Values = NDArray[Any]  # (vectors, d), float16 or float32; uint8 with d = 1 if rows are texts
Lengths = NDArray[np.intp]  # (n,): vectors per row of a ragged feature
Offsets = NDArray[np.intp]  # (n + 1,): the start of each row's vectors, and the end of the last
RowBlock = tuple[Keys, Values, Lengths | None]  # lengths only if the feature is ragged


def offsets_of(lengths: Lengths) -> Offsets:
    """The start of each sequence, and the end of the last, (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.intp)])


def ranges(starts: NDArray[np.intp], lengths: Lengths) -> NDArray[np.intp]:
    """start, start + 1, … of each sequence, concatenated, (lengths.sum(),)."""
    preceding = np.cumsum(lengths) - lengths
    return np.repeat(starts - preceding, lengths) + np.arange(lengths.sum())


@dataclass(frozen=True)
class Shape:
    """The capacity of a part, and the kind of its rows."""

    rows: int
    vectors: int  # equals `rows`, or the sum of the rows' lengths if the feature is ragged
    dim: int
    dtype: str
    ragged: bool

    @property
    def kind(self) -> tuple[bool, int, str]:
        """What all parts of a feature have in common."""
        return self.ragged, self.dim, self.dtype

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dim * np.dtype(self.dtype).itemsize

    def datasets(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name → (shape, dtype) of each dataset of a part."""
        blocks = -(-self.vectors * self.vector_bytes // BLOCK_BYTES)
        return {
            "keys": ((self.rows, KEY_BYTES), "|u1"),
            "sums": ((self.rows,), "<u8"),
            "block_sums": ((blocks,), "<u8"),
            "values": ((self.vectors, self.dim), self.dtype),
        } | ({"offsets": ((self.rows + 1,), "<u8")} if self.ragged else {})

    def check(self) -> None:
        """Refuse what a part cannot be, since the file may be crafted.

        Raises:
            ValueError: a size or the dtype is impossible.
        """
        sizes = self.rows, self.vectors, self.dim
        if not all(0 <= size < 1 << 48 for size in sizes) or not self.dim or self.dtype not in DTYPES:
            raise ValueError(f"impossible shape {self}")


@dataclass(frozen=True)
class PartStamp:
    """The stamp of a part; see SPEC.md."""

    format: str
    version: int
    feature: str
    feature_key: str
    sealed: bool
    commit: int
    rows: int
    vectors: int
    shape: Shape
    places: dict[str, int]
    checksums: dict[str, str]
    size: int | None = None  # of a sealed part's file

    def check(self) -> None:
        """Refuse numbers that do not fit together, since the file may be crafted.

        Raises:
            ValueError: a number is impossible.
        """
        self.shape.check()
        committed, capacity = (self.rows, self.vectors), (self.shape.rows, self.shape.vectors)
        fits = 0 <= self.rows <= self.shape.rows and 0 <= self.vectors <= self.shape.vectors
        if (
            not fits
            or (self.sealed and committed != capacity)
            or self.places.keys() != self.shape.datasets().keys()
        ):
            raise ValueError(f"{committed} rows and vectors in {self.shape}")
        if not self.shape.ragged and self.rows != self.vectors:
            raise ValueError(f"{self.rows} rows with {self.vectors} vectors")


class VectorSource(Protocol):
    """Fetches the vectors of parts that are here without them."""

    def complete(self, part: Path) -> BinaryIO:
        """Fetch the vectors into the part's file unless it has them; they stay while the result is open."""


class Part:
    """The committed rows of a part: `keys` (n, 16), mapped `values` (n, d) or (total, d), `offsets` (n + 1,).

    The stamp, keys, checksums and offsets are verified when it is opened, each row's values when first read.

    Args:
        vectors: fetches the values before they are first read; None: the file has them.

    Raises:
        StoreError: another format, version or feature.
        DamagedError: the file has changed since it was written.
    """

    def __init__(self, path: Path, feature_key: str, vectors: VectorSource | None = None) -> None:
        self.path, self._source = path, vectors
        self._in_use: BinaryIO | None = None
        with reading(path):
            self.stamp = typed(PartStamp, read_stamp(path, KIND))
            self.stamp.check()
            if self.stamp.feature_key != feature_key:
                raise StoreError(f"{path} belongs to another feature ({self.stamp.feature})")
            self.shape, self.rows, self.vectors = self.stamp.shape, self.stamp.rows, self.stamp.vectors
            with open_without_links(path) as file:
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.keys: Keys = self._mapped("keys")[: self.rows]
            self._sums = self._mapped("sums")[: self.rows]
            self._block_sums = self._mapped("block_sums")
            self.offsets = self._mapped("offsets")[: self.rows + 1] if self.shape.ragged else None
            if self.offsets is not None and not self.rows:
                self.offsets = np.zeros(1, "<u8")  # a hole in the file, which a full tmpfs cannot map
            self._values: Values = self._mapped("values")[: self.vectors]
            self._is_verified = np.zeros(self.rows, np.bool_)
            whole = self._is_whole()
        if not whole:
            raise DamagedError(
                f"{path} is damaged: a checksum of its keys, sums or offsets is wrong: "
                "see `store verify --repair`"
            )

    @property
    def values(self) -> Values:
        """The vectors of all rows, (n, d) or (total, d), mapped."""
        if self._source and not self._in_use:
            self._in_use = self._source.complete(self.path)
        return self._values

    def _mapped(self, name: str) -> NDArray[Any]:
        dimensions, dtype = self.shape.datasets()[name]
        flat = np.frombuffer(self.content, dtype, prod(dimensions), self.stamp.places[name])
        return flat.reshape(dimensions)

    def _is_whole(self) -> bool:
        arrays = {"keys": self.keys, "sums": self._sums}
        if self.offsets is not None:
            arrays["offsets"] = self.offsets
        sealed = self.stamp.sealed
        if sealed:
            arrays["block_sums"] = self._block_sums
        return (
            {name: checksum(array) for name, array in arrays.items()}
            == {name: sum_ for name, sum_ in self.stamp.checksums.items() if name != "rest"}
            and (not sealed or len(self.content) == self.stamp.size)
            and (sealed or self.path.suffix != ".h5")
            and (self.offsets is None or self._offsets_fit(self.offsets))
        )

    def _offsets_fit(self, offsets: NDArray[np.uint64]) -> bool:
        return bool(offsets[0] == 0 and offsets[-1] == self.vectors and (offsets[1:] >= offsets[:-1]).all())

    @property
    def nbytes(self) -> int:
        """Size of the file, in bytes."""
        return len(self.content)

    def consecutive(self, first: int, end: int) -> Values:
        """The vectors of rows first … end - 1, mapped, not copied.

        Raises:
            DamagedError: a row has changed since it was written.
        """
        start, stop = self._span(first, end)
        if not self._is_verified[first:end].all():
            size = self.shape.vector_bytes
            if self.stamp.sealed and (stop - start) * size > 2 * BLOCK_BYTES:  # fewer, longer checksums
                blocks = slice(start * size // BLOCK_BYTES, -(-stop * size // BLOCK_BYTES))
                as_written = (checksums(self.blocks(blocks)) == self._block_sums[blocks]).all()
                is_sound = as_written and all_finite(self.values[start:stop])
            else:
                is_sound = self.sound(first, end).all()
            if not is_sound:
                raise self._damaged(first, end)
            self._is_verified[first:end] = True
        return self.values[start:stop]

    def gather(self, rows: RowIndex) -> Values:
        """The vectors of these rows, (n, d), of a part that is not ragged.

        Raises:
            DamagedError: a row has changed since it was written.
        """
        values = self.values.take(rows, axis=0)
        new = np.flatnonzero(~self._is_verified[rows])
        if len(new):
            unverified = values if len(new) == len(rows) else values[new]
            self._verify(rows[new], unverified, unverified)
        return values

    def _verify(self, rows: RowIndex, values: Values, by_row: Iterable[Values]) -> None:
        """Compare each row's vectors with its checksum, and refuse NaN, which another program may write."""
        if not all_finite(values) or (checksums(by_row) != self._sums[rows]).any():
            raise self._damaged(int(rows.min()), int(rows.max()) + 1)
        self._is_verified[rows] = True

    def gather_ragged(self, rows: RowIndex) -> tuple[Values, Lengths]:
        """The sequences of these rows, (total, d), and their lengths (n,), of a part that is ragged.

        Raises:
            DamagedError: a row has changed since it was written.
        """
        assert self.offsets is not None
        starts = self.offsets[rows].astype(np.intp)
        lengths = self.offsets[rows + 1].astype(np.intp) - starts
        values = self.values.take(ranges(starts, lengths), axis=0)
        if not self._is_verified[rows].all():
            by_row = (values[a:b] for a, b in pairwise(offsets_of(lengths).tolist()))
            self._verify(rows, values, by_row)
        return values, lengths

    def sound(self, first: int, end: int) -> NDArray[np.bool_]:
        """Whether each of the rows first … end - 1 is as it was written, and finite, (end - first,)."""
        start, stop = self._span(first, end)
        rows: Any = self.values[start:stop]
        if self.offsets is not None:
            rows = self._sequences(first, end)
        sound = np.asarray(checksums(rows) == self._sums[first:end])
        if not all_finite(self.values[start:stop]):
            sound &= [all_finite(self.values[slice(*self._span(row, row + 1))]) for row in range(first, end)]
        return sound

    def _sequences(self, first: int, end: int) -> Iterator[Values]:
        assert self.offsets is not None
        for start in range(first, end, SEQUENCES):
            offsets = self.offsets[start : min(start + SEQUENCES, end) + 1].tolist()
            yield from (self.values[a:b] for a, b in pairwise(offsets))

    def _span(self, first: int, end: int) -> tuple[int, int]:
        if self.offsets is None:
            return first, end
        return int(self.offsets[first]), int(self.offsets[end])

    def blocks(self, which: slice = slice(None)) -> Iterator[memoryview]:
        """The values' bytes, in the blocks of `block_sums`."""
        values: Any = self.values
        content = memoryview(values).cast("B") if self.values.size else memoryview(b"")
        for start in range(0, len(content), BLOCK_BYTES)[which]:
            yield content[start : start + BLOCK_BYTES]

    def _damaged(self, first: int, end: int) -> DamagedError:
        remedy = (
            "fetches it again" if self._source else "drops such rows, and the next extract encodes them again"
        )
        return DamagedError(
            f"{self.path} is damaged among its rows {first} to {end - 1}: `store verify --repair` {remedy}"
        )

    def lengths(self) -> Lengths:
        """The number of vectors of each row of a ragged part, (n,)."""
        assert self.offsets is not None
        return np.diff(self.offsets).astype(np.intp)

    def shape_of(self, rows: RowIndex) -> Shape:
        """The shape of a part of exactly these rows."""
        vectors = len(rows) if self.offsets is None else int(self.lengths()[rows].sum())
        return replace(self.shape, rows=len(rows), vectors=vectors)

    def block(self, rows: RowIndex) -> RowBlock:
        """The contents of these rows, in their order.

        Raises:
            DamagedError: a row has changed since it was written.
        """
        if self.offsets is None:
            return self.keys[rows], self.gather(rows), None
        return self.keys[rows], *self.gather_ragged(rows)

    def problems(self) -> list[str]:
        """Read all bytes; one line for each problem."""
        problems = []
        damaged = np.flatnonzero(~self.sound(0, self.rows))
        if len(damaged):
            problems.append(
                f"{self.path}: {len(damaged)} of {self.rows} rows damaged, the first {damaged[0]}"
            )
        if len(damaged) and not all_finite(self.values):  # rows that are sound are finite
            problems.append(f"{self.path}: contains NaN or infinity")
        if not self.stamp.sealed:
            return problems
        if (checksums(self.blocks()) != self._block_sums).any():
            problems.append(f"{self.path}: blocks damaged")
        rest = checksum_of_rest(self.content, self.shape, self.stamp.places)
        if rest != self.stamp.checksums.get("rest"):
            return [*problems, f"{self.path}: its HDF5 structure is damaged"]
        return problems + self._hdf5_problems()  # HDF5 may crash on a file that was not verified

    def _hdf5_problems(self) -> list[str]:
        """Datasets that the HDF5 library reads differently from the stamp."""
        problems: list[str] = []
        with collected(problems), open_hdf5(self.path) as file:
            for name, (dimensions, dtype) in self.shape.datasets().items():
                dataset, place = file[name], self.stamp.places[name]
                in_place = not dataset.size or dataset.id.get_offset() == place
                if not in_place or (dataset.shape, dataset.dtype.str) != (dimensions, dtype):
                    problems.append(f"{self.path}: HDF5 has another {name} than the stamp")
        return problems


def all_finite(values: Values) -> bool:
    """Whether no value is NaN or infinite; for float16 by its bits, which is ten times as fast as NumPy."""
    step = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    for first in range(0, len(values), step):
        piece = values[first : first + step]
        if piece.dtype == np.float16 and piece.flags.c_contiguous:
            without_sign = piece.view(np.uint16) << 1
            if without_sign.max(initial=0) >= INFINITE_HALF << 1:
                return False
        elif not np.isfinite(piece).all():
            return False
    return True


def checksum_of_rest(content: Any, shape: Shape, places: Mapping[str, int]) -> str:
    """The checksum of all bytes outside the stamp and the datasets: HDF5's own structure, and padding."""
    view = memoryview(content)
    rest, at = xxhash.xxh3_64(), STAMP_BYTES
    for name, (dimensions, dtype) in sorted(shape.datasets().items(), key=lambda item: places[item[0]]):
        size = prod(dimensions) * np.dtype(dtype).itemsize
        if size:
            rest.update(view[at : places[name]])
            at = places[name] + size
    rest.update(view[at:])
    return rest.hexdigest()


def chunks(shape: Shape) -> Iterator[slice]:
    """The rows of a part, in slices of at most about `COPY_BYTES`."""
    step = max(1, COPY_BYTES * shape.rows // max(1, shape.vectors * shape.vector_bytes))
    for start in range(0, shape.rows, step):
        yield slice(start, start + step)


def part_files(folder: Path) -> list[Path]:
    """The parts in a feature's folder, sealed and in progress."""
    return sorted([*folder.glob("*.h5"), *folder.glob("*.partial")])
