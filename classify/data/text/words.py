"""The words of a caption, and lists of words as arrays."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# scikit-learn's own: of two characters or more. "a" says nothing of what a picture shows, nor what an
# apostrophe leaves of "man's"; as a tenth of all words it would only lengthen the sequences.
WORD = re.compile(r"\b\w\w+\b")


def words(caption: str) -> list[str]:
    """Its words in lower case."""
    return WORD.findall(caption.lower())


def pack(vocabulary: Sequence[str]) -> NDArray[np.uint8]:
    """Words as one array of bytes, a line each: no word has a line's end in it."""
    return np.frombuffer("\n".join(vocabulary).encode(), np.uint8)


def unpack(packed: NDArray[np.uint8]) -> list[str]:
    """The words of such an array."""
    return packed.tobytes().decode().split("\n")
