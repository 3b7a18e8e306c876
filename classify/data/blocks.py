"""What a matrix of samples is made of: for each feature a block of columns, read as rows are asked for."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Feature
from encode_once.classify.arrays import BoolArray, RowIndex, Vectors
from encode_once.classify.data import text as corpus
from encode_once.classify.data.text import Vectoriser
from encode_once.classify.data.text.sparse import CaptionVectors


class Block(Protocol):
    """One feature of n samples: `length` vectors of `width` numbers each; of no sequence, the length is 1."""

    @property
    def name(self) -> str:
        """As `fit --features` has it."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Length and width."""
        ...

    @property
    def vectoriser(self) -> Vectoriser | None:
        """What makes it of captions, where it is learned from captions and has been."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: RowIndex) -> Vectors:
        """Those samples, (m, length, width): NaN behind the end of a sequence, and where one has none."""
        ...

    def missing(self) -> BoolArray:
        """Which samples have nothing of this feature, (n,)."""
        ...

    def fitted(self, rows: RowIndex) -> "Block":
        """This block, having learned from those samples whatever it has to learn."""
        ...


@dataclass(frozen=True)
class StoredBlock:
    """A feature of the store."""

    name: str
    feature: Feature
    # (k, n): the feature's row of each of a sample's k captions, or of its image; -1 for none. A sample of
    # several captions has the mean of their vectors, or their sequences one behind the other.
    rows: RowIndex
    length: int  # sequences are cut to it
    vectoriser: None = None

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
        found = self.rows[:, rows]  # (k, m)
        return self._sequences(found) if self.feature.ragged else self._vectors(found)[:, None]

    def _vectors(self, found: RowIndex) -> Vectors:
        vectors = np.full((found.shape[1], self.shape[1]), np.nan, np.float32)
        there = found >= 0
        if len(found) == 1:
            vectors[there[0]] = _float32(self.feature.take(found[0, there[0]]))
            return vectors
        vectors[there.any(axis=0)] = 0
        for row, has in zip(found, there, strict=True):
            vectors[has] += _float32(self.feature.take(row[has]))
        vectors /= np.maximum(there.sum(axis=0), 1)[:, None]
        return vectors

    def _sequences(self, found: RowIndex) -> Vectors:
        sequences = np.full((found.shape[1], *self.shape), np.nan, np.float32)
        ends = np.zeros(found.shape[1], np.intp)  # of what each sample has so far
        for row in found:
            there = np.flatnonzero(row >= 0)
            values, offsets = self.feature.take_ragged(row[there])
            lengths = np.diff(offsets)
            sample = np.repeat(there, lengths)  # whose each vector is, (total,)
            place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths) + ends[sample]
            fits = place < self.length
            sequences[sample[fits], place[fits]] = _float32(values)[fits]
            ends[there] += lengths
        return sequences


@dataclass(frozen=True)
class TextBlock:
    """A feature of captions that is learned from those of the training rows, such as tf-idf."""

    name: str
    texts: Sequence[str]  # (n,)
    vectoriser: Vectoriser | None = None  # None before `fitted`

    @property
    def shape(self) -> tuple[int, int]:
        return self.vectoriser.shape if self.vectoriser else (0, 0)

    def __len__(self) -> int:
        return len(self.texts)

    def missing(self) -> BoolArray:
        return np.array([not text for text in self.texts], np.bool_)

    def fitted(self, rows: RowIndex) -> "TextBlock":
        return replace(self, vectoriser=corpus.make(self.name).fit([self.texts[row] for row in rows]))

    @cached_property
    def _blocks(self) -> CaptionVectors:
        assert self.vectoriser is not None, "a vectoriser learns before it gives vectors"
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
class Matrix:
    """Blocks side by side, one row a sample, (n, d); `matrix[rows]` reads those rows."""

    blocks: Sequence[Block]
    warnings: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Feature → length and width of its block; the blocks' columns are d together."""
        return {block.name: block.shape for block in self.blocks}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(length * width for length, width in self.shapes.values())

    def __len__(self) -> int:
        return len(self.blocks[0])

    def __getitem__(self, rows: slice | RowIndex) -> Vectors:
        """Those rows, (m, d); NaN where one has no vector of a feature."""
        wanted = np.arange(len(self))[rows]
        taken = [block.take(wanted).reshape(len(wanted), math.prod(block.shape)) for block in self.blocks]
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=1)

    @property
    def vectorisers(self) -> dict[str, Vectoriser]:
        """Feature → what makes it of captions, for those that are learned from captions."""
        return {block.name: block.vectoriser for block in self.blocks if block.vectoriser}

    def missing(self) -> BoolArray:
        """Which samples have nothing of which feature, (n, features)."""
        return np.stack([block.missing() for block in self.blocks], axis=1)

    def fitted(self, rows: RowIndex) -> "Matrix":
        """This matrix, its blocks having learned from those samples what they have to learn."""
        return replace(self, blocks=[block.fitted(rows) for block in self.blocks])
