"""The labels of a table: which table to learn from, its classes, and its label matrix."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encode_once.cache import DataError, Store, Table
from encode_once.classify.arrays import LabelMatrix

MAX_NAMED = 10  # classes that a message names


def choose_table(store: Store, data: str | os.PathLike[str] | None) -> Table:
    """The labelled table to learn from: the only one in `data`, or in the store; of several splits, train.

    Raises:
        DataError: there is no such table, or several, or its file changed since it was extracted.
    """
    tables = [header for header in store.headers() if header.labelled]
    if data is not None:
        root = Path(data).resolve()
        tables = [header for header in tables if Path(header.source).is_relative_to(root)]
    if not tables:
        raise DataError(
            f"{store.path} knows no table with labels{f' in {data}' if data else ''}: run extract first"
        )
    if len(tables) > 1:
        tables = [header for header in tables if header.split.startswith("train")] or tables
    if len(tables) > 1:
        sources = ", ".join(header.source for header in tables)
        raise DataError(
            f"{store.path} knows {len(tables)} tables with labels ({sources}): choose one with --data"
        )
    if store.is_outdated(tables[0]):
        raise DataError(f"{tables[0].source} changed since: run extract again (it encodes only what is new)")
    return store.load(tables[0])


def label_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelMatrix:
    """The labels of n rows as (n, c) bool; labels that are not among the classes are ignored."""
    column = {name: c for c, name in enumerate(classes)}
    Y = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        Y[row, [column[name] for name in names if name in column]] = True
    return Y


def named(names: Sequence[str]) -> str:
    """The names, of many only the first, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def class_names(labels: Sequence[Sequence[str]]) -> list[str]:
    """Every label that occurs, in natural order: numbers in names compare as numbers, 2 before 10."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]

    return sorted({label for row in labels for label in row}, key=natural)
