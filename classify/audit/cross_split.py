"""Duplicate rows: across the parts of a run, with different labels, and in another table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from encode_once.cache import DataError, Table
from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.classify.arrays import Groups, IntArray, Vectors
from encode_once.classify.data import duplicates
from encode_once.classify.data.rows import content_keys

MAX_PAIRS = 1_000_000  # near-duplicates: more than a person can check


class Pair(NamedTuple):
    """A row and its duplicate."""

    row: int
    other: int
    cosine: float = 1.0
    exact: bool = True  # of the same content, not only with similar vectors


def within(
    table: Table, parts: IntArray, X: Vectors | None, near: float, device: str = "auto"
) -> tuple[list[Pair], list[Pair]]:
    """Leaks and contradictions: for each row at most one of either, with its most similar duplicate.

    A leak is a row whose duplicate belongs to a lower part (n,); a contradiction is a row whose duplicate has
    other labels, of those that are known of both. Among rows of equal content, the duplicate is a row with
    the most frequent labels.
    Near-duplicates are those of the vectors X (n, d), if there are any.

    Raises:
        DataError: more than `MAX_PAIRS` near-duplicates.
    """
    label_sets = [frozenset(row) for row in table.labels or []]
    unknown = [frozenset(row) for row in table.unknown or [()] * len(table)]

    def contradict(row: int, other: int) -> bool:
        """Whether a label is present in one of two rows and absent in the other."""
        return not (label_sets[row] ^ label_sets[other]) <= unknown[row] | unknown[other]

    content = duplicates.exact(content_keys(table))
    leaks, contradictions = list[Pair](), list[Pair]()
    for rows in _repeated(content):
        first = min(rows, key=lambda row: parts[row])
        leaks += [Pair(row, first) for row in rows if parts[row] != parts[first]]
        (usual, _), *_ = Counter(label_sets[row] for row in rows).most_common(1)
        model = next(row for row in rows if label_sets[row] == usual)
        contradictions += [Pair(row, model) for row in rows if contradict(row, model)]
    for pair in [] if X is None else _near(X, near, device):
        if content[pair.row] == content[pair.other]:
            continue
        row, other = sorted(pair[:2], key=lambda row: -parts[row])
        pair = pair._replace(row=row, other=other)
        if parts[row] != parts[other]:
            leaks.append(pair)
        if contradict(row, other):
            contradictions.append(pair)
    return _closest(leaks), _closest(contradictions)


def across(
    keys: Keys,
    other_keys: Keys,
    X: Vectors | None,
    other_X: Vectors | None,
    near: float,
    device: str = "auto",
) -> list[Pair]:
    """Rows, by content keys (m, 16) and vectors (m, d), each with its most similar duplicate of n others.

    Raises:
        DataError: more than `MAX_PAIRS` near-duplicates.
    """
    others = np.where(present(keys), KeyIndex(other_keys).find(keys), -1)
    pairs = [Pair(row, int(others[row])) for row in np.flatnonzero(others >= 0).tolist()]
    if X is not None and other_X is not None:
        pairs += _near(X, near, device, other_X)
    return _closest(pairs)


def likeness(pair: Pair, table: Table, other: Table) -> str:
    """How a row of a table is like a row of another: `the same image as 7.jpg`."""
    name = other.ids[pair.other]
    if not pair.exact:
        return f"looks like {name} (cosine {pair.cosine:.3f})"
    content = "image" if table.keys("image")[pair.row].any() else "caption"
    return f"the same {content} as {name}"


def _repeated(groups: Groups) -> Iterator[Sequence[int]]:
    """The rows of each group with more than one row."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[order])) + 1
    yield from (rows.tolist() for rows in np.split(order, ends) if len(rows) > 1)


def _near(X: Vectors, near: float, device: str, others: Vectors | None = None) -> Iterator[Pair]:
    """Near-duplicates among the rows of X (n, d), or between these and others (m, d)."""
    count = 0
    for rows, columns, cosines in duplicates.pairs(X, near, others, device):
        count += len(rows)
        if count > MAX_PAIRS:
            raise DataError(
                f"more than {MAX_PAIRS:,} pairs of rows have a cosine of {near}: ask for a higher one"
            )
        for row, other, cosine in zip(rows.tolist(), columns.tolist(), cosines.tolist(), strict=True):
            yield Pair(row, other, cosine, exact=False)


def _closest(pairs: Iterable[Pair]) -> list[Pair]:
    """For each row the pair with its most similar duplicate; equal content comes first."""
    closest: dict[int, Pair] = {}
    for pair in pairs:
        best = closest.get(pair.row)
        if best is None or (pair.exact, pair.cosine) > (best.exact, best.cosine):
            closest[pair.row] = pair
    return list(closest.values())
