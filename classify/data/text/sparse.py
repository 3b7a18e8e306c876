"""Captions held sparse, or as numbers of words: dense only for the rows that are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from encode_once.classify.arrays import BoolArray, RowIndex, Vectors


class CaptionVectors(Protocol):
    """A block of vectors, (length, width), of each of n captions."""

    def __len__(self) -> int: ...

    def take(self, rows: RowIndex) -> Vectors:
        """Those blocks, (m, length, width): vectors first, then NaN; all NaN where a caption has nothing."""
        ...


@dataclass(frozen=True)
class WordWeights:
    """A weight for each word of a vocabulary, most of them 0; blocks are (1, words)."""

    matrix: Any  # (n, words) scipy.sparse CSR, float32
    there: BoolArray  # (n,): which captions have a word, known or not

    def __len__(self) -> int:
        return len(self.there)

    def take(self, rows: RowIndex) -> Vectors:
        blocks: Vectors = self.matrix[rows].toarray()
        blocks[~self.there[rows]] = np.nan
        return blocks[:, None]


class WordSequences:
    """Captions as numbers of words, end to end, and the words' vectors (words, d)."""

    def __init__(self, numbers: Sequence[Sequence[int]], vectors: Vectors) -> None:
        self.sizes = np.array([len(one) for one in numbers], np.intp)  # (n,)
        self.starts = np.cumsum(self.sizes) - self.sizes  # (n,)
        self.numbers = np.fromiter(chain.from_iterable(numbers), np.int32)  # (total,)
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.sizes)

    def words(self, rows: RowIndex, most: int) -> tuple[BoolArray, Vectors]:
        """Which of `most` places those rows fill, (m, most), and the vectors there, row by row, (k, d)."""
        places = np.arange(most)
        filled = places < self.sizes[rows][:, None]
        return filled, self.vectors[self.numbers[(self.starts[rows][:, None] + places)[filled]]]


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of a caption's words one by one, the first `length` of them; blocks are (length, d)."""

    captions: WordSequences
    length: int

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: RowIndex) -> Vectors:
        filled, vectors = self.captions.words(rows, self.length)
        blocks = np.full((*filled.shape, vectors.shape[1]), np.nan, np.float32)
        blocks[filled] = vectors
        return blocks


@dataclass(frozen=True)
class MeanVectors:
    """The mean of the vectors of a caption's words; blocks are (1, d)."""

    captions: WordSequences

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: RowIndex) -> Vectors:
        sizes = self.captions.sizes[rows]
        _, vectors = self.captions.words(rows, int(sizes.max(initial=0)))
        blocks = np.full((len(rows), 1, vectors.shape[1]), np.nan, np.float32)
        there = sizes > 0
        if there.any():
            first = np.cumsum(sizes) - sizes
            # Summed in each caption's order, so that it does not matter which others are asked for.
            sums = np.add.reduceat(vectors, first[there], axis=0)
            blocks[there, 0] = sums / sizes[there, None].astype(np.float32)
        return blocks
