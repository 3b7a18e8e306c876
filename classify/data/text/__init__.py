"""Text features that are learned from the captions of the training rows, by name. No encoder makes them.

`tfidf:500` weighs the 500 most frequent words; `word2vec:150/mean`, `word2vec-cbow:150/tokens` and
`fasttext:150/tokens` are word vectors of 150 dimensions, averaged over a caption or one by one.
"""

from collections.abc import Sequence
from typing import Protocol

from encode_once.cache import UsageError
from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import State
from encode_once.classify.data.text.embeddings import Embedding, FastText, Word2Vec
from encode_once.classify.data.text.sparse import CaptionVectors
from encode_once.classify.data.text.tfidf import TfIdf

EMBEDDINGS: dict[str, tuple[type[Embedding], bool]] = {  # family → its class, and whether it is skip-gram
    "word2vec": (Word2Vec, True),
    "word2vec-cbow": (Word2Vec, False),
    "fasttext": (FastText, True),
}
SIZES = {"tfidf": 500, "word2vec": 150, "word2vec-cbow": 150, "fasttext": 150}  # where the name has none


class Vectoriser(Protocol):
    """What makes a block of vectors of a caption; `fit` or `load_state` sets `shape` and all else."""

    shape: tuple[int, int]  # (length, width) of a caption's block; of one vector, the length is 1

    def fit(self, captions: Sequence[str]) -> "Vectoriser":
        """Learn from the captions of the rows that may be learned from, and from nothing else.

        Raises:
            DataError: there is nothing to learn, or a library is missing.
        """
        ...

    def transform(self, captions: Sequence[str]) -> CaptionVectors:
        """The blocks of any captions."""
        ...

    def state(self) -> State:
        """All that was learned, as named arrays."""
        ...

    def load_state(self, state: State) -> None:
        """Take up what another of the same name learned: `transform` then gives the same, to the bit."""
        ...


def is_corpus(name: str) -> bool:
    """Whether a feature's name is of this kind, be the rest of it right or wrong."""
    return _parts(name)[0] in SIZES


def make(name: str, seed: int = 0) -> Vectoriser:
    """The vectoriser of that name, not fitted; without a size it takes the usual one.

    Raises:
        UsageError: there is none of that name; the message has the nearest that there is.
    """
    family, size, pooling = _parts(name)
    usable = size.isascii() and size.isdecimal() and int(size) > 0
    if size and not usable and family in SIZES:
        raise UsageError(f"{name}: the size {size!r} is not a whole number above 0, as {SIZES[family]}")
    known = [
        f"{one}:{size if usable else usual}{ending}"
        for one, usual in SIZES.items()
        for ending in ([""] if one == "tfidf" else ["/mean", "/tokens"])
    ]
    whole = f"{family}:{size or SIZES.get(family, '')}" + (f"/{pooling}" if pooling else "")
    if whole not in known:
        raise unknown_name("feature", name, known)
    width = int(size or SIZES[family])
    if family == "tfidf":
        return TfIdf(width)
    kind, skip_gram = EMBEDDINGS[family]
    return kind(width, pooling, skip_gram, seed)


def _parts(name: str) -> tuple[str, str, str]:
    """Family, size and pooling of `word2vec:150/mean`; empty where it has none."""
    front, _, pooling = name.partition("/")
    family, _, size = front.partition(":")
    return family, size, pooling
