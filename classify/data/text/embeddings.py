"""Word vectors learned from the captions by gensim: word2vec and fastText.

They are rounded to float16 as soon as they are learned, so that a run keeps exactly what its head was
fitted on, in half the space.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError
from encode_once.classify.arrays import State, Vectors
from encode_once.classify.data.text.sparse import CaptionVectors, MeanVectors, TokenVectors, WordSequences
from encode_once.classify.data.text.words import pack, unpack, words

LEAST = 2  # times a word occurs, at the least, to be learned
EPOCHS = 5  # of 27,000 captions, 20 took four times as long and were no better (micro F1 .787 both)
BUCKETS = 20_000  # rows of fastText's table of n-grams; 2,000,000 by default
SHORTEST, LONGEST = 3, 6  # characters of an n-gram


class Embedding(ABC):
    """Vectors of `width` dimensions of words, `pooling` "mean" or "tokens" over a caption.

    Learned from each word's neighbours (skip-gram) or from their sum (CBOW), the same for the same seed.
    """

    shape: tuple[int, int]

    def __init__(self, width: int, pooling: str, skip_gram: bool, seed: int = 0) -> None:
        self.width = width
        self.pooling = pooling
        self.skip_gram = skip_gram
        self.seed = seed

    def fit(self, captions: Sequence[str]) -> "Embedding":
        """Learn the vectors of the captions' words."""
        sentences = [words(caption) for caption in captions]
        if max(Counter(word for one in sentences for word in one).values(), default=0) < LEAST:
            raise DataError(
                f"word vectors are learned from words that occur {LEAST} times or more: "
                f"the {len(captions)} captions given have none"
            )
        with _quiet():
            self._learn(sentences)
        numbers, _ = self._number(sentences)
        length = 1 if self.pooling == "mean" else max(map(len, numbers))
        self.shape = length, self.width
        return self

    def transform(self, captions: Sequence[str]) -> CaptionVectors:
        """The captions' words as numbers, with the vectors of all that occur."""
        numbered = WordSequences(*self._number([words(caption) for caption in captions]))
        return MeanVectors(numbered) if self.pooling == "mean" else TokenVectors(numbered, self.shape[0])

    def state(self) -> State:
        """The words, a line each in UTF-8, their vectors (words, d), and the shape of a block (2,)."""
        return {"words": pack(list(self.words_)), "vectors": self.vectors_, "shape": np.array(self.shape)}

    def load_state(self, state: State) -> None:
        """Take up what another learned."""
        self._know(unpack(state["words"]), state["vectors"])
        length, width = state["shape"].tolist()
        self.shape = length, width

    @abstractmethod
    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        """Set the words and their vectors."""

    def _model(self, name: str, sentences: Sequence[Sequence[str]], **options: int) -> Any:
        """gensim's model of that name, trained. With more than one worker no two runs were alike."""
        return getattr(_gensim(), name)(
            sentences,
            vector_size=self.width,
            sg=int(self.skip_gram),
            min_count=LEAST,
            epochs=EPOCHS,
            seed=self.seed,
            workers=1,
            **options,
        )

    def _know(self, vocabulary: Sequence[str], vectors: NDArray[np.floating]) -> None:
        self.words_ = {word: number for number, word in enumerate(vocabulary)}
        self.vectors_ = vectors.astype(np.float16)  # (words, d)

    def _number(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], Vectors]:
        """Each sentence's words that have a vector as numbers, and the vectors (words, d)."""
        known = [[self.words_[word] for word in one if word in self.words_] for one in sentences]
        return known, self.vectors_.astype(np.float32)


class Word2Vec(Embedding):
    """Mikolov et al., 2013. A word it has not learned has no vector and is passed over."""

    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        learned = self._model("Word2Vec", sentences).wv
        self._know(learned.index_to_key, learned.vectors)


class FastText(Embedding):
    """Bojanowski et al., 2017. A word's n-grams have vectors too, so a word it has not learned has theirs."""

    def state(self) -> State:
        """As of any embedding, and the vectors of the n-grams (buckets, d)."""
        return super().state() | {"ngrams": self.ngrams_}

    def load_state(self, state: State) -> None:
        """Take up what another learned."""
        super().load_state(state)
        self.ngrams_ = state["ngrams"]

    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        options = {"bucket": BUCKETS, "min_n": SHORTEST, "max_n": LONGEST}
        learned = self._model("FastText", sentences, **options).wv
        self._know(learned.index_to_key, learned.vectors)
        self.ngrams_ = learned.vectors_ngrams.astype(np.float16)

    def _number(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], Vectors]:
        new = dict.fromkeys(word for one in sentences for word in one if word not in self.words_)
        numbers = self.words_ | {word: len(self.words_) + n for n, word in enumerate(new)}
        made = [self._vector(word) for word in new]
        vectors = np.concatenate([self.vectors_.astype(np.float32), *made])
        return [[numbers[word] for word in one] for one in sentences], vectors

    def _vector(self, word: str) -> Vectors:
        """A new word's vector, (1, d): the mean of its n-grams'. Words of two letters have n-grams: `<at`."""
        buckets = _gensim().fasttext.ft_ngram_hashes(word, SHORTEST, LONGEST, len(self.ngrams_))
        mean: Vectors = self.ngrams_[buckets].mean(axis=0, dtype=np.float32, keepdims=True)
        return mean


def _gensim() -> Any:
    """gensim's models.

    Raises:
        DataError: it is not installed.
    """
    try:
        return import_module("gensim.models")
    except ImportError as error:
        raise DataError("word2vec and fasttext need gensim: pip install 'encode-once[gensim]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without gensim's warnings that few captions are few."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
