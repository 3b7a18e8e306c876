"""The classes of a table, and its label matrix."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from encode_once.cache import Table
from encode_once.cache.errors import DataError, unknown_name
from encode_once.cache.packed_columns import LabelLists
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import UNKNOWN, LabelMatrix, PartialLabels
from encode_once.classify.partial import count, is_partial

# Any number of labels per row, or exactly one of two classes or more.
MULTI, SINGLE = TASKS = "multi", "single"


def require_one_label(
    labels: PartialLabels, source: str = "the table", hint: str = "", ids: Sequence[str] = ()
) -> None:
    """Refuse labels (n, c) for the task "single" unless each row has exactly one.

    source: what the rows are of. hint: what to do, at the end of the message. ids: of the n rows, by which
        the message names a row.

    Raises:
        DataError: with the number of rows that have none or several; or there is one class only; or labels
            are unknown.
    """
    if is_partial(labels):
        raise DataError(
            f"task single requires every label, and {count(labels):,} of {labels.size:,} entries are "
            "unknown: --task multi leaves these out"
        )
    counts = labels.sum(axis=1)
    parts = []
    for rows, kind in (
        (np.flatnonzero(counts == 0), "no label"),
        (np.flatnonzero(counts > 1), "several labels"),
    ):
        if len(rows):
            example = f", such as {ids[rows[0]]}" if ids else ""
            parts.append(f"{len(rows)} of {len(labels)} rows have {kind}{example}")
    if parts:
        raise DataError(
            f"{source}: {', and '.join(parts)}: task single requires exactly one in each row{hint}"
        )
    if labels.shape[1] < 2:
        raise DataError(f"task single requires two classes or more, but all rows of {source} have the same")


def label_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelMatrix:
    """The labels of n rows as (n, c) bool; labels that are not among the classes are ignored."""
    column = {name: c for c, name in enumerate(classes)}
    labels = LabelLists.of(labels)
    column_of = np.array([column.get(name, -1) for name in labels.names], np.intp)  # -1: no class
    Y = np.zeros((len(labels), len(classes)), np.bool_)
    start = 0
    for numbers, lengths in labels.blocks():
        rows = np.repeat(np.arange(start, start + len(lengths)), lengths)
        columns = column_of[numbers]
        Y[rows[columns >= 0], columns[columns >= 0]] = True
        start += len(lengths)
    return Y


def table_labels(table: Table, classes: Sequence[str]) -> PartialLabels:
    """The labels (n, c) of a table, int8 if entries of these classes are unknown; none without labels."""
    if table.labels is None:
        return np.zeros((len(table), len(classes)), np.bool_)
    Y = label_matrix(table.labels, classes)
    unknown = label_matrix(table.unknown, classes)
    if not unknown.any():
        return Y
    partial = Y.view(np.int8)
    partial[unknown] = UNKNOWN
    return partial


def class_names(labels: Sequence[Sequence[str]]) -> list[str]:
    """Every label that occurs, in natural order: numbers in names compare as numbers, 2 before 10."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]

    return sorted(LabelLists.of(labels).distinct(), key=natural)


def restricted(classes: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Those of the classes that are chosen, in their own order; all if none is chosen.

    Raises:
        UsageError: a chosen name is no class.
    """
    for name in chosen:
        if name not in classes:
            raise unknown_name("class", name, classes)
    return [name for name in classes if name in {*chosen} or not chosen]


def left_out(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> list[str]:
    """A line about labels of rows that are not among the classes, and rows that are left without a label."""
    kept = {*classes}
    if kept.issuperset(LabelLists.of(labels).distinct()):
        return []
    counts = Counter(name for row in labels for name in {*row} - kept)
    if not counts:
        return []
    empty = sum(bool(row) and {*row}.isdisjoint(classes) for row in labels)
    return [
        f"--classes leaves out {len(counts)} of {len(counts) + len(classes)} classes, with {counts.total()} "
        f"labels, and {empty} of {len(labels)} rows without a label: {short_list(sorted(counts))}"
    ]
