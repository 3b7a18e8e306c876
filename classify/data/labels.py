"""The classes of a table, and its label matrix."""

import re
from collections.abc import Sequence

import numpy as np

from encode_once.classify.arrays import LabelMatrix


def label_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelMatrix:
    """The labels of n rows as (n, c) bool; labels that are not among the classes are ignored."""
    column = {name: c for c, name in enumerate(classes)}
    Y = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        Y[row, [column[name] for name in names if name in column]] = True
    return Y


def class_names(labels: Sequence[Sequence[str]]) -> list[str]:
    """Every label that occurs, in natural order: numbers in names compare as numbers, 2 before 10."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]

    return sorted({label for row in labels for label in row}, key=natural)
