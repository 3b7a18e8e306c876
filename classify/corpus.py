"""Text features fitted on the captions of the training rows."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Blocks(Protocol):
    """Captions as vectors."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """(m, length, width)."""
        ...


class Vectoriser(Protocol):
    """What makes vectors of captions."""

    shape: tuple[int, int]

    def fit(self, captions: Sequence[str]) -> "Vectoriser": ...
    def transform(self, captions: Sequence[str]) -> Blocks: ...
    def state(self) -> dict[str, NDArray[Any]]: ...
    def load_state(self, state: dict[str, NDArray[Any]]) -> None: ...


def make(name: str) -> Vectoriser:
    """A vectoriser."""
    raise NotImplementedError


def is_corpus(name: str) -> bool:
    """Whether a feature is one of these."""
    return False
