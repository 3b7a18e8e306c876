"""A hierarchy of classes: a row that has a label also has those above it, and may not have been given them.

A class may be below several others. Labels are *closed upward*: each gets all that are above it. Scores are
closed in the same way, by the maximum: of a class and those below it, the highest score is the class's, as a
row that has the lower one also has the higher one.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Table
from encode_once.cache.errors import DataError, MissingDataError, brief
from encode_once.cache.packed_columns import LabelLists
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import IntArray

COLUMNS = ("child", "parent")

Values = TypeVar("Values", NDArray[np.bool_], NDArray[np.float64])


@dataclass(frozen=True)
class Hierarchy:
    """Classes below others, as pairs (child, parent).

    Raises:
        DataError: a class is above itself, or a name is empty.

    Examples:
        >>> Hierarchy((("puppy", "dog"), ("dog", "animal"))).closed(["puppy"])
        ['puppy', 'animal', 'dog']
    """

    edges: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        for edge in self.edges:
            if len(edge) != len(COLUMNS) or not all(edge):
                raise DataError(f"a hierarchy has pairs of child and parent, not {list(edge)!r}")
        assert isinstance(self.above, dict)  # raises for a circle

    @cached_property
    def above(self) -> Mapping[str, frozenset[str]]:
        """Class → all that are above it; of each name that occurs."""
        parents: dict[str, set[str]] = {}
        for child, parent in self.edges:
            parents.setdefault(child, set()).add(parent)
        above: dict[str, frozenset[str]] = {}
        try:
            for name in TopologicalSorter(parents).static_order():  # parents first
                own = parents.get(name, set())
                above[name] = frozenset(own).union(*(above[parent] for parent in own))
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1]))
            raise DataError(
                f"a class of the hierarchy is above itself: {circle}; leave out one pair"
            ) from error
        return above

    def closed(self, labels: Iterable[str]) -> list[str]:
        """The labels, then those above them that are not among them, by name."""
        names = list(labels)
        higher = {name for label in names for name in self.above.get(label, ())}
        return [*names, *sorted(higher - {*names})]

    def close(self, table: Table) -> Table:
        """The table with labels closed upward.

        A class above an unknown label is unknown, too, unless it is a label of the row.
        """
        if not self.edges or table.labels is None:
            return table
        labels = LabelLists.of(map(self.closed, table.labels))
        unknown = LabelLists.of(
            [name for name in self.closed(row) if name not in names]
            for row, names in zip(table.unknown, labels, strict=False)  # there are none in most tables
        )
        return replace(table, labels=labels, unknown=unknown)

    def unknown_above(self, table: Table, closed: Table) -> list[str]:
        """A line about classes that only `close` made unknown, as the table may say that they are absent."""
        counts = Counter(
            name
            for before, after in zip(table.unknown, closed.unknown, strict=True)
            for name in {*after}.difference(before)
        )
        if not counts:
            return []
        named = short_list([f"{name} ({number})" for name, number in counts.most_common()])
        return [
            f"{counts.total()} label entries of {table.source} are unknown as a class below is, whatever "
            f"the table says there: {named}"
        ]

    def pairs(self, classes: Sequence[str]) -> IntArray | None:
        """The columns of a class and of one above it, (m, 2), for all such pairs; None if there is none."""
        column = {name: c for c, name in enumerate(classes)}
        pairs = [
            (column[name], column[higher])
            for name in classes
            for higher in self.above.get(name, ())
            if higher in column
        ]
        return np.array(sorted(pairs), np.intp) if pairs else None

    def check(self, labels: Sequence[str], source: str) -> list[str]:
        """A line about names that are neither labels nor above one.

        Args:
            labels: all that occur in the table `source`.

        Raises:
            DataError: no label is below a class.
        """
        known_names = {name for label in labels for name in (label, *self.above.get(label, ()))}
        others = sorted(self.above.keys() - known_names)
        near = {name: get_close_matches(name, labels, 1) for name in others[:20]}
        named = short_list([f"{name} (near: {near[name][0]})" if near.get(name) else name for name in others])
        if self.edges and not any(self.above.get(label) for label in labels):
            raise DataError(f"no label of {source} is a child in the hierarchy, which names {named}")
        if not others:
            return []
        return [
            f"{len(others)} of {len(self.above)} names of the hierarchy are neither labels of {source} nor "
            f"above one, and are not used: {named}"
        ]


def read_hierarchy(path: Path) -> list[tuple[str, str]]:
    """The pairs of a CSV file with the columns `child` and `parent`.

    Raises:
        MissingDataError: there is no such file.
        DataError: it cannot be read, or has other columns, no rows, an empty cell or a circle.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise MissingDataError(f"--hierarchy: {path} is not there") from error
    except OSError as error:
        raise DataError(f"--hierarchy: {path} cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"--hierarchy: {path} is not a CSV file: {brief(error)}") from error
    if sorted(columns) != sorted(COLUMNS):
        raise DataError(
            f"--hierarchy: {path} has the columns {', '.join(columns) or '(none)'}: call its two columns "
            f"{' and '.join(COLUMNS)}, in the first line"
        )
    edges = []
    for line, row in rows:
        child, parent = ((row[name] or "").strip() for name in COLUMNS)
        if not child or not parent or None in row:
            raise DataError(f"--hierarchy: {path}, line {line}: expected a child and a parent")
        edges.append((child, parent))
    if not edges:
        raise DataError(f"--hierarchy: {path} has no rows: expected a child and a parent in each")
    try:
        Hierarchy(edges)
    except DataError as error:
        raise DataError(f"--hierarchy: {path}: {error}") from error
    return [*dict.fromkeys(edges)]


def raised(values: Values, pairs: IntArray | None) -> Values:
    """Values (n, c), such as labels or scores, of which each is at least those of the classes below it.

    pairs: see `Hierarchy.pairs`; of all classes below another, not only the next ones.
    """
    if pairs is None:
        return values
    closed = values.copy()
    for child, parent in pairs.tolist():
        np.maximum(closed[:, parent], values[:, child], out=closed[:, parent])
    return closed


def levels(pairs: IntArray, c: int) -> list[int]:
    """The level of each of c classes: 1 without a class above it, else 1 more than the lowest of these."""
    above: list[list[int]] = [[] for _ in range(c)]
    for child, parent in pairs.tolist():
        above[child].append(parent)
    level = [1] * c
    for k in sorted(range(c), key=lambda k: len(above[k])):  # those above a class have fewer above them
        level[k] = 1 + max((level[parent] for parent in above[k]), default=0)
    return level
