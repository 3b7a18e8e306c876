"""Text features that a run learns from the captions of its train rows, by name. They need no encoder.

`tfidf:500` weights the 500 most frequent words; `word2vec:150/mean`, `word2vec-cbow:150/tokens` and
`fasttext:150/tokens` are word vectors of 150 dimensions, averaged over a caption or as a sequence.
"""

from collections.abc import Sequence
from typing import Protocol

from encode_once.cache import UsageError
from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import State
from encode_once.classify.data.text.embeddings import Embedding, FastText, Word2Vec
from encode_once.classify.data.text.sparse import CaptionVectors
from encode_once.classify.data.text.tfidf import TfIdf

EMBEDDINGS: dict[str, tuple[type[Embedding], bool]] = {  # family → class, and whether it is skip-gram
    "word2vec": (Word2Vec, True),
    "word2vec-cbow": (Word2Vec, False),
    "fasttext": (FastText, True),
}
SIZES = {"tfidf": 500, "word2vec": 150, "word2vec-cbow": 150, "fasttext": 150}  # by default


class Vectoriser(Protocol):
    """Turns each caption into a block of vectors; `fit` or `load_state` sets `shape` and all else."""

    shape: tuple[int, int]  # (length, width) of a caption's block; the length of a single vector is 1

    def fit(self, captions: Sequence[str]) -> "Vectoriser":
        """Learn from the captions of the train rows.

        Raises:
            DataError: the captions have too few words, or a library is missing.
        """
        ...

    def transform(self, captions: Sequence[str]) -> CaptionVectors:
        """The blocks of captions, new ones included."""
        ...

    def state(self) -> State:
        """What was learned, as named arrays."""
        ...

    def load_state(self, state: State) -> None:
        """Restore what another vectoriser of the same name learned; `transform` then returns equal blocks."""
        ...


def is_learned(name: str) -> bool:
    """Whether a feature name begins with one of these families; the rest of the name may be invalid."""
    return _parts(name)[0] in SIZES


def make_vectoriser(name: str, seed: int = 0) -> Vectoriser:
    """A new vectoriser; a name without a size takes the default of its family.

    Raises:
        UsageError: the name is unknown; the message suggests the nearest one.
    """
    family, size, pooling = _parts(name)
    usable = size.isascii() and size.isdecimal() and int(size) > 0
    if size and not usable and family in SIZES:
        raise UsageError(f"{name}: the size {size!r} is not an integer above 0, such as {SIZES[family]}")
    valid_names = [
        f"{valid_family}:{size if usable else default}{ending}"
        for valid_family, default in SIZES.items()
        for ending in ([""] if valid_family == "tfidf" else ["/mean", "/tokens"])
    ]
    full_name = f"{family}:{size or SIZES.get(family, '')}" + (f"/{pooling}" if pooling else "")
    if full_name not in valid_names:
        raise unknown_name("feature", name, valid_names)
    width = int(size or SIZES[family])
    if family == "tfidf":
        return TfIdf(width)
    embedding_class, skip_gram = EMBEDDINGS[family]
    return embedding_class(width, pooling, skip_gram, seed)


def _parts(name: str) -> tuple[str, str, str]:
    """Family, size and pooling of `word2vec:150/mean`; an absent part is empty."""
    front, _, pooling = name.partition("/")
    family, _, size = front.partition(":")
    return family, size, pooling
