"""tf-idf: how often a caption has each of the most frequent words, weighed by how rare they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from encode_once.cache import DataError
from encode_once.classify.arrays import State
from encode_once.classify.data.text.sparse import WordWeights
from encode_once.classify.data.text.words import pack, unpack, words


class TfIdf:
    """scikit-learn's, of unit length, over the `size` most frequent words of the captions, or all of fewer.

    Without its English stop words: of the 100 most frequent words of COCO's captions they are a third, and
    micro F1 without them is .039 better. A caption of none but words that do not count is all 0: that too
    says something of it. One without words is NaN.
    """

    shape: tuple[int, int]

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, captions: Sequence[str]) -> "TfIdf":
        """Choose the words and their weights."""
        self.vectoriser_ = _vectorizer(stop_words="english", max_features=self.size)
        try:
            self.vectoriser_.fit(captions)
        except ValueError as error:  # an empty vocabulary
            raise DataError(
                f"tfidf learns from captions' words: the {len(captions)} captions given have none"
            ) from error
        self.shape = 1, len(self.vectoriser_.vocabulary_)
        return self

    def transform(self, captions: Sequence[str]) -> WordWeights:
        """Blocks of one vector, a column a word."""
        there = np.fromiter((bool(words(caption)) for caption in captions), np.bool_)
        # One more than there are: scikit-learn refuses none at all.
        return WordWeights(self.vectoriser_.transform([*captions, ""])[:-1], there)

    def state(self) -> State:
        """The words, a line each in UTF-8, and their weights (words,)."""
        vocabulary = self.vectoriser_.get_feature_names_out().tolist()
        return {"words": pack(vocabulary), "idf": self.vectoriser_.idf_}

    def load_state(self, state: State) -> None:
        """Take up what another learned."""
        vocabulary = unpack(state["words"])
        self.vectoriser_ = _vectorizer(vocabulary=vocabulary)
        self.vectoriser_.idf_ = state["idf"]
        self.shape = 1, len(vocabulary)


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes seconds to import

    return TfidfVectorizer(dtype=np.float32, **options)
