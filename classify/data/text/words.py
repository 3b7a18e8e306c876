"""The words of a caption, and lists of words as arrays."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# scikit-learn's pattern: two characters or more. Single letters, such as "a" and the rest of "man's", say
# nothing about a picture, but are a tenth of all words and would lengthen the sequences.
WORD = re.compile(r"\b\w\w+\b")


def words(caption: str) -> list[str]:
    """The words of a caption in lower case."""
    return WORD.findall(caption.lower())


def pack(vocabulary: Sequence[str]) -> NDArray[np.uint8]:
    """Words as an array of bytes, one a line: no word contains a line break."""
    return np.frombuffer("\n".join(vocabulary).encode(), np.uint8)


def unpack(packed: NDArray[np.uint8]) -> list[str]:
    """The words of an array that `pack` returned."""
    return packed.tobytes().decode().split("\n")
