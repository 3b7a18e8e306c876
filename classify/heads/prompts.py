"""Prompts of the head `prototype`: one vector, or several, for each class."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import DataError, MissingDataError, brief
from encode_once.classify.arrays import Vectors

Prompts = str | os.PathLike[str] | Sequence[Any] | NDArray[Any]


def read_prompts(prompts: Prompts, classes: Sequence[str] | None, d: int, c: int) -> Vectors:
    """One vector of length 1 for each class, (c, d); several prompts of a class are averaged.

    Raises:
        MissingDataError: the file does not exist.
        DataError: it cannot be read, has another shape, lacks a class, or holds NaN or infinity.
    """
    vectors, source, names = _load(prompts)
    if names is not None and classes is not None and vectors.ndim == 2 and len(names) == len(vectors):
        by_class = [np.array([name == class_name for name in names]) for class_name in classes]
        lacking = [name for name, rows in zip(classes, by_class, strict=True) if not rows.any()]
        if lacking:
            raise DataError(
                f"{source} has no prompt for {len(lacking)} of {c} classes, such as {lacking[0]!r}: "
                f"its rows' names are in {source}.ids.txt"
            )
        vectors = np.stack([_unit(vectors[rows]).mean(axis=0) for rows in by_class])
    if vectors.ndim == 3:
        vectors = _unit(vectors).mean(axis=1)
    if vectors.shape != (c, d):
        raise DataError(
            f"{source} holds {vectors.shape} numbers, but {c} classes and {d} columns need ({c}, {d}): a "
            "prompt for each class, in their order, and --features of the same encoder's images"
        )
    if not np.isfinite(vectors).all():
        raise DataError(f"{source} holds NaN or infinity: encode the prompts again")
    return _unit(vectors)


def _load(prompts: Prompts) -> tuple[Vectors, str, list[str] | None]:
    """The prompts, what messages call them, and the names of the rows if a file has them."""
    if not isinstance(prompts, str | os.PathLike):
        return np.asarray(prompts, np.float32), "the array of prompts", None
    path = os.fspath(prompts)
    try:
        vectors = np.load(path, allow_pickle=False).astype(np.float32)
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no file {path} of prompts") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as .npy: {brief(error)}") from error
    names = Path(f"{path}.ids.txt")
    return vectors, path, names.read_text(encoding="utf-8").split("\n")[:-1] if names.exists() else None


def _unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1 along the last axis; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
