"""tf-idf: how often a caption has each of the most frequent words, weighed by how rare they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from cache import DataError
from classify.corpus.blocks import Weights
from classify.corpus.words import pack, unpack, words


class TfIdf:
    """scikit-learn's, of unit length, over the `size` most frequent words of the captions, or all of fewer.

    A caption of none but other words is all 0: that too says something of it. One without words is NaN.
    """

    shape: tuple[int, int]

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, captions: Sequence[str]) -> "TfIdf":
        """Choose the words and their weights."""
        if not any(map(words, captions)):
            raise DataError(f"tfidf learns from captions: none of the {len(captions)} given has a word")
        self.vectoriser_ = TfidfVectorizer(analyzer=words, max_features=self.size, dtype=np.float32)
        self.vectoriser_.fit(captions)
        self.shape = 1, len(self.vectoriser_.vocabulary_)
        return self

    def transform(self, captions: Sequence[str]) -> Weights:
        """Blocks of one vector, a column a word."""
        there = np.fromiter((bool(words(caption)) for caption in captions), np.bool_)
        return Weights(self.vectoriser_.transform(captions), there)

    def state(self) -> dict[str, NDArray[Any]]:
        """The words, a line each in UTF-8, and their weights (words,)."""
        vocabulary = self.vectoriser_.get_feature_names_out().tolist()
        return {"words": pack(vocabulary), "idf": self.vectoriser_.idf_}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Take up what another learned."""
        vocabulary = unpack(state["words"])
        self.vectoriser_ = TfidfVectorizer(analyzer=words, vocabulary=vocabulary, dtype=np.float32)
        self.vectoriser_.idf_ = state["idf"]
        self.shape = 1, len(vocabulary)
