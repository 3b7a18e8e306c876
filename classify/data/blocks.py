"""The blocks of columns that make up a matrix of samples, one per feature, read when rows are asked for."""

import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DamagedError, Feature
from encode_once.cache.packed_columns import taken
from encode_once.cache.representation import short_repr
from encode_once.cache.terminal import one_line
from encode_once.classify.arrays import BoolArray, RowIndex, Vectors
from encode_once.classify.data.columns import ColumnValues, column_of, is_missing, is_of_column, kind_of
from encode_once.classify.data.learned import make_vectoriser
from encode_once.classify.data.matrix import LazyMatrix
from encode_once.classify.data.text import Vectoriser
from encode_once.classify.data.text.sparse import CaptionVectors


class Block(Protocol):
    """A feature of n samples, each with up to `length` vectors of `width` numbers; 1 without sequences."""

    @property
    def name(self) -> str:
        """The name as `fit --features` takes it."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Length and width."""
        ...

    @property
    def vectoriser(self) -> Vectoriser | None:
        """What turns captions into vectors, if the feature is learned and has been fitted."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What was guessed about the feature, as lines for the user."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: RowIndex) -> Vectors:
        """The samples of these rows, (m, length, width): NaN after a sequence's end and where missing."""
        ...

    def missing(self) -> BoolArray:
        """Which samples lack this feature, (n,)."""
        ...

    def fitted(self, rows: RowIndex) -> "Block":
        """A copy that is fitted on these rows, if there is anything to learn."""
        ...


class FeatureRows(Protocol):
    """The rows of a feature by their numbers. A `cache.Feature` is one."""

    @property
    def ragged(self) -> bool | None:
        """Whether each row is a sequence of vectors."""
        ...

    @property
    def dim(self) -> int | None:
        """The width of its vectors."""
        ...

    def take(self, rows: RowIndex) -> NDArray[Any]:
        """Vectors (m, d) of rows."""
        ...

    def take_ragged(self, rows: RowIndex) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Sequences of rows: values (total, d) and offsets (m + 1,)."""
        ...


@dataclass(frozen=True)
class MemoryRows:
    """Rows in memory: vectors (d,), or sequences (length, d) if they are ragged."""

    rows: Sequence[NDArray[Any]]
    ragged: bool
    dim: int

    __repr__ = short_repr

    def take(self, rows: RowIndex) -> NDArray[Any]:
        return np.stack([self.rows[row] for row in rows]) if len(rows) else np.empty((0, self.dim))

    def take_ragged(self, rows: RowIndex) -> tuple[NDArray[Any], NDArray[np.intp]]:
        chosen = [self.rows[row] for row in rows]
        offsets = np.cumsum([0, *map(len, chosen)], dtype=np.intp)
        return np.concatenate(chosen) if chosen else np.empty((0, self.dim)), offsets


@dataclass(frozen=True)
class StoredBlock:
    """A feature as an encoder made it."""

    name: str
    feature: FeatureRows
    # (k, n): the feature's row of each sample's k captions, or of its image; -1 for none. Vectors of several
    # captions are averaged, their sequences joined.
    rows: RowIndex
    length: int  # longer sequences are cut
    vectoriser: None = None
    remarks: ClassVar[Sequence[str]] = ()

    __repr__ = short_repr

    @property
    def shape(self) -> tuple[int, int]:
        return self.length, self.feature.dim or 0

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def missing(self) -> BoolArray:
        return np.array((self.rows < 0).all(axis=0), np.bool_)

    def fitted(self, rows: RowIndex) -> "StoredBlock":
        return self

    def take(self, rows: RowIndex) -> Vectors:
        feature_rows = self.rows[:, rows]  # (k, m)
        return self._sequences(feature_rows) if self.feature.ragged else self._vectors(feature_rows)[:, None]

    def _vectors(self, rows: RowIndex) -> Vectors:
        """The mean vectors (m, width) of the feature's rows (k, m)."""
        present = rows >= 0
        if len(rows) == 1 and present.all():
            return _float32(self.feature.take(rows[0]))
        vectors = np.full((rows.shape[1], self.shape[1]), np.nan, np.float32)
        if len(rows) == 1:
            vectors[present[0]] = _float32(self.feature.take(rows[0, present[0]]))
            return vectors
        vectors[present.any(axis=0)] = 0
        for caption, has_vector in zip(rows, present, strict=True):
            vectors[has_vector] += _float32(self.feature.take(caption[has_vector]))
        vectors /= np.maximum(present.sum(axis=0), 1)[:, None]
        return vectors

    def _sequences(self, rows: RowIndex) -> Vectors:
        """The joined sequences (m, length, width) of the feature's rows (k, m)."""
        sequences = np.full((rows.shape[1], *self.shape), np.nan, np.float32)
        ends = np.zeros(rows.shape[1], np.intp)  # where the next sequence of each sample starts
        for caption in rows:
            samples = np.flatnonzero(caption >= 0)
            values, offsets = self.feature.take_ragged(caption[samples])
            lengths = np.diff(offsets)
            sample = np.repeat(samples, lengths)  # the sample of each vector, (total,)
            place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths) + ends[sample]
            fits = place < self.length
            sequences[sample[fits], place[fits]] = _float32(values)[fits]
            ends[samples] += lengths
        return sequences


@dataclass(frozen=True)
class SparseBlock:
    """A feature of the store whose vectors are sparse; only the rows that are asked for become dense."""

    name: str
    feature: Feature
    rows: RowIndex  # (n,): the feature's row of each sample; -1 for none
    vectoriser: None = None
    remarks: ClassVar[Sequence[str]] = ()

    __repr__ = short_repr

    @property
    def shape(self) -> tuple[int, int]:
        return 1, self.feature.width

    def __len__(self) -> int:
        return len(self.rows)

    def missing(self) -> BoolArray:
        return np.array(self.rows < 0, np.bool_)

    def fitted(self, rows: RowIndex) -> "SparseBlock":
        return self

    def take(self, rows: RowIndex) -> Vectors:
        feature_rows = self.rows[rows]
        present = np.flatnonzero(feature_rows >= 0)
        pairs, offsets = self.feature.take_ragged(feature_rows[present])  # (total, 2): column, number
        columns = pairs[:, 0].astype(np.intp)
        if len(columns) and not (columns.min() >= 0 and columns.max() < self.feature.width):
            raise DamagedError(
                f"{self.feature.folder}: a vector has a column that its spec.json does not allow"
            )
        vectors = np.full((len(rows), *self.shape), np.nan, np.float32)
        vectors[present] = 0
        vectors[np.repeat(present, np.diff(offsets)), 0, columns] = pairs[:, 1]
        return vectors


@dataclass(frozen=True)
class TextBlock:
    """A feature that is learned from texts of the train rows, such as tf-idf of captions, or a column."""

    name: str
    texts: Sequence[str]  # (n,)
    vectoriser: Vectoriser | None = None  # None before `fitted`

    __repr__ = short_repr

    @property
    def shape(self) -> tuple[int, int]:
        return self.vectoriser.shape if self.vectoriser else (0, 0)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def remarks(self) -> Sequence[str]:
        if isinstance(self.vectoriser, ColumnValues) and (unseen := self.vectoriser.unseen(self.texts)):
            return [
                f"{self.name}: {len(unseen)} of {len(self)} rows have a category that was not learned, "
                f"such as {one_line(unseen[0])}"
            ]
        if not is_of_column(self.name) or self.vectoriser or column_of(self.name)[1]:
            return ()
        kind, other = ("numbers", "category") if kind_of(self.texts) == "number" else ("categories", "number")
        return [f"{self.name} is read as {kind}; {self.name}:{other} reads it otherwise"]

    def missing(self) -> BoolArray:
        if isinstance(self.vectoriser, ColumnValues):
            return self.vectoriser.missing(self.texts)
        is_blank = is_missing if is_of_column(self.name) else operator.not_
        return np.array([is_blank(text) for text in self.texts], np.bool_)

    def fitted(self, rows: RowIndex) -> "TextBlock":
        return replace(self, vectoriser=make_vectoriser(self.name).fit([*taken(self.texts, rows)]))

    @cached_property
    def _blocks(self) -> CaptionVectors:
        assert self.vectoriser is not None, "fit the vectoriser first"
        return self.vectoriser.transform(self.texts)

    def take(self, rows: RowIndex) -> Vectors:
        return self._blocks.take(rows)


def _float32(values: NDArray[np.generic]) -> Vectors:
    """The same numbers. torch converts float16 ten times as fast as NumPy, but is not imported for that."""
    if "torch" not in sys.modules:
        return np.asarray(values, np.float32)
    import torch

    return torch.tensor(values, dtype=torch.float32).numpy()


@dataclass(frozen=True)
class Matrix(LazyMatrix):
    """Blocks side by side, one row a sample, (n, d); `matrix[rows]` reads the rows."""

    blocks: Sequence[Block]
    warnings: list[str] = field(default_factory=list)

    __repr__ = short_repr

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Feature → length and width of its block; the blocks have d columns in all."""
        return {block.name: block.shape for block in self.blocks}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(length * width for length, width in self.shapes.values())

    def __len__(self) -> int:
        return len(self.blocks[0])

    def __getitem__(self, rows: slice | RowIndex | int | tuple[Any, ...]) -> Vectors:
        """These rows, (m, d), or one, (d,), read from files; NaN where a row lacks a feature.

        With an index of columns as well, all rows are read.
        """
        if isinstance(rows, tuple):
            return np.asarray(np.asarray(self)[rows])
        indices = np.arange(len(self))[rows]
        flat = indices.reshape(-1)
        parts = [block.take(flat).reshape(len(flat), math.prod(block.shape)) for block in self.blocks]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return joined.reshape(*indices.shape, joined.shape[1])

    @property
    def places(self) -> RowIndex:
        """The order in which the store holds the samples' vectors, (n,): in it, reading is sequential.

        Of several features, it is that of the widest.
        """
        stored = [block for block in self.blocks if isinstance(block, StoredBlock | SparseBlock)]
        if not stored:
            return np.arange(len(self))
        widest = max(stored, key=lambda block: math.prod(block.shape))
        places: RowIndex = widest.rows.reshape(-1, len(self))[0]
        return places

    @property
    def vectorisers(self) -> dict[str, Vectoriser]:
        """Feature → what turns captions into its vectors, for features that are learned from captions."""
        return {block.name: block.vectoriser for block in self.blocks if block.vectoriser}

    def missing(self) -> BoolArray:
        """Which samples lack which feature, (n, features)."""
        return np.stack([block.missing() for block in self.blocks], axis=1)

    def fitted(self, rows: RowIndex) -> "Matrix":
        """A copy whose blocks are fitted on these rows."""
        return replace(self, blocks=[block.fitted(rows) for block in self.blocks])
