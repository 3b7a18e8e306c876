"""Word vectors learned from the captions by gensim: word2vec and fastText.

They are rounded to float16 as soon as they are learned, so that a run stores exactly what its head was fitted
on, in half the space.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError
from encode_once.classify.arrays import State, Vectors
from encode_once.classify.data.text.sparse import CaptionVectors, MeanVectors, TokenVectors, WordSequences
from encode_once.classify.data.text.words import pack, unpack, words

MIN_COUNT = 2  # of a word, to be learned
EPOCHS = 5  # on 27,000 captions, 20 took four times as long and were not better (micro F1 .787 both)
BUCKETS = 20_000  # rows of fastText's table of n-grams; gensim's default is 2,000,000
SHORTEST, LONGEST = 3, 6  # characters of an n-gram


class Embedding(ABC):
    """Word vectors of `width` dimensions, by `pooling` averaged ("mean") or one by one ("tokens").

    Learned from each word's neighbours (skip-gram) or their sum (CBOW); equal seeds give equal vectors.
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
        if max(Counter(chain.from_iterable(sentences)).values(), default=0) < MIN_COUNT:
            raise DataError(
                f"word vectors are learned from words that occur at least {MIN_COUNT} times: "
                f"the {len(captions)} captions of the train rows have none"
            )
        with _quiet():
            self._learn(sentences)
        length = 1 if self.pooling == "mean" else max(map(len, self._number(sentences)[0]))
        self.shape = length, self.width
        return self

    def transform(self, captions: Sequence[str]) -> CaptionVectors:
        """The captions as sequences of word numbers, with the vectors of all words that occur."""
        numbered = WordSequences(*self._number([words(caption) for caption in captions]))
        return MeanVectors(numbered) if self.pooling == "mean" else TokenVectors(numbered, self.shape[0])

    def state(self) -> State:
        """The words, one a line in UTF-8, their vectors (words, d), and the shape of a block (2,)."""
        return {"words": pack(list(self.words_)), "vectors": self.vectors_, "shape": np.array(self.shape)}

    def load_state(self, state: State) -> None:
        """Restore what another vectoriser learned."""
        self._set_words(unpack(state["words"]), state["vectors"])
        length, width = state["shape"].tolist()
        self.shape = length, width

    @abstractmethod
    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        """Learn the words and their vectors, and store them by `_set_words`."""

    def _model(self, name: str, sentences: Sequence[Sequence[str]], **options: int) -> Any:
        """A trained model of gensim. One worker: with more, runs differ in spite of the seed."""
        return getattr(_gensim(), name)(
            sentences,
            vector_size=self.width,
            sg=int(self.skip_gram),
            min_count=MIN_COUNT,
            epochs=EPOCHS,
            seed=self.seed,
            workers=1,
            **options,
        )

    def _set_words(self, vocabulary: Sequence[str], vectors: NDArray[np.floating]) -> None:
        self.words_ = {word: number for number, word in enumerate(vocabulary)}
        self.vectors_ = vectors.astype(np.float16)  # (words, d)

    def _number(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], Vectors]:
        """The numbers of each sentence's words that have a vector, and the vectors (words, d)."""
        numbers = [[self.words_[word] for word in words if word in self.words_] for words in sentences]
        return numbers, self.vectors_.astype(np.float32)


class Word2Vec(Embedding):
    """Mikolov et al., 2013. A word that was not learned is skipped."""

    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        learned = self._model("Word2Vec", sentences).wv
        self._set_words(learned.index_to_key, learned.vectors)


class FastText(Embedding):
    """Bojanowski et al., 2017. A word that was not learned gets the mean of its n-grams' vectors."""

    def state(self) -> State:
        """As `Embedding.state`, and the vectors of the n-grams (buckets, d)."""
        return super().state() | {"ngrams": self.ngrams_}

    def load_state(self, state: State) -> None:
        """Restore what another vectoriser learned."""
        super().load_state(state)
        self.ngrams_ = state["ngrams"]

    def _learn(self, sentences: Sequence[Sequence[str]]) -> None:
        options = {"bucket": BUCKETS, "min_n": SHORTEST, "max_n": LONGEST}
        learned = self._model("FastText", sentences, **options).wv
        self._set_words(learned.index_to_key, learned.vectors)
        self.ngrams_ = learned.vectors_ngrams.astype(np.float16)

    def _number(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], Vectors]:
        new = dict.fromkeys(word for word in chain.from_iterable(sentences) if word not in self.words_)
        numbers = self.words_ | {word: len(self.words_) + n for n, word in enumerate(new)}
        new_vectors = [self._vector(word) for word in new]
        vectors = np.concatenate([self.vectors_.astype(np.float32), *new_vectors])
        return [[numbers[word] for word in words] for words in sentences], vectors

    def _vector(self, word: str) -> Vectors:
        """The vector (1, d) of a new word. Even words of two letters have n-grams, such as `<at`."""
        buckets = _gensim().fasttext.ft_ngram_hashes(word, SHORTEST, LONGEST, len(self.ngrams_))
        mean: Vectors = self.ngrams_[buckets].mean(axis=0, dtype=np.float32, keepdims=True)
        return mean


def _gensim() -> Any:
    """The module gensim.models.

    Raises:
        DataError: gensim is not installed.
    """
    try:
        return import_module("gensim.models")
    except ImportError as error:
        raise DataError("word2vec and fasttext need gensim: pip install 'encode-once[gensim]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide gensim's warnings about few captions."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
