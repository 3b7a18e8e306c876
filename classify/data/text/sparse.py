"""Captions as sparse weights or numbers of words, which become vectors only for rows that are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from encode_once.classify.arrays import BoolArray, RowIndex, Vectors


class CaptionVectors(Protocol):
    """A block of vectors (length, width) for each of n captions."""

    def __len__(self) -> int: ...

    def take(self, rows: RowIndex) -> Vectors:
        """The blocks of these rows, (m, length, width): vectors, then NaN; all NaN without words."""
        ...


@dataclass(frozen=True)
class WordWeights:
    """A weight for each word of the vocabulary, most of them 0; blocks are (1, words)."""

    matrix: Any  # (n, words) scipy.sparse CSR, float32
    has_words: BoolArray  # (n,): which captions have words, in the vocabulary or not

    def __len__(self) -> int:
        return len(self.has_words)

    def take(self, rows: RowIndex) -> Vectors:
        blocks: Vectors = self.matrix[rows].toarray()
        blocks[~self.has_words[rows]] = np.nan
        return blocks[:, None]


class WordSequences:
    """Captions as numbers of words, joined to one array, and the words' vectors (words, d)."""

    def __init__(self, numbers: Sequence[Sequence[int]], vectors: Vectors) -> None:
        self.sizes = np.array([len(caption) for caption in numbers], np.intp)  # (n,)
        self.starts = np.cumsum(self.sizes) - self.sizes  # (n,)
        self.numbers = np.fromiter(chain.from_iterable(numbers), np.int32)  # (total,)
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.sizes)

    def words(self, rows: RowIndex, length: int) -> tuple[BoolArray, Vectors]:
        """Which of `length` places these rows fill, (m, length), and the vectors, row by row, (k, d)."""
        places = np.arange(length)
        filled = places < self.sizes[rows][:, None]
        return filled, self.vectors[self.numbers[(self.starts[rows][:, None] + places)[filled]]]


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of the first `length` words of a caption; blocks are (length, d)."""

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
        has_words = sizes > 0
        if has_words.any():
            first = np.cumsum(sizes) - sizes
            # Summed caption by caption, so that a mean does not depend on the other rows.
            sums = np.add.reduceat(vectors, first[has_words], axis=0)
            blocks[has_words, 0] = sums / sizes[has_words, None].astype(np.float32)
        return blocks
