"""Rows of tables that double others: across the parts of a run, where labels differ, in another table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, Table
from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.classify.arrays import Groups, Vectors
from encode_once.classify.data import duplicates
from encode_once.classify.data.rows import content_keys

MOST = 1_000_000  # near pairs: more than a person, or a list, can hold


class Pair(NamedTuple):
    """A row, and the place of a row it doubles."""

    row: int
    other: int
    cosine: float = 1.0
    exact: bool = True  # the same content, not only near vectors


def within(
    table: Table, parts: NDArray[np.intp], X: Vectors | None, near: float, device: str = "auto"
) -> tuple[list[Pair], list[Pair]]:
    """Leaks and contradictions: of each row at most one of either, with the row it is most alike.

    A leak is a row whose double is of another part, (n,), the lower of which is the double's; a contradiction
    a row whose double has other labels. Of rows of one content, the double is one with the labels that most
    of them have. Near rows are those of X (n, d), where there is one.

    Raises:
        DataError: a million pairs of rows are as near as that.
    """
    sets = [frozenset(row) for row in table.labels or []]
    content = duplicates.exact(content_keys(table))
    leaks, contradictions = list[Pair](), list[Pair]()
    for members in _several(content):
        first = min(members, key=lambda row: parts[row])
        leaks += [Pair(row, first) for row in members if parts[row] != parts[first]]
        (usual, _), *_ = Counter(sets[row] for row in members).most_common(1)
        model = next(row for row in members if sets[row] == usual)
        contradictions += [Pair(row, model) for row in members if sets[row] != usual]
    for pair in [] if X is None else _near(X, near, device):
        if content[pair.row] == content[pair.other]:
            continue
        one, other = sorted(pair[:2], key=lambda row: -parts[row])
        pair = pair._replace(row=one, other=other)
        leaks += [pair] * bool(parts[one] != parts[other])
        contradictions += [pair] * (sets[one] != sets[other])
    return _closest(leaks), _closest(contradictions)


def across(
    keys: Keys, known: Keys, X: Vectors | None, known_X: Vectors | None, near: float, device: str = "auto"
) -> list[Pair]:
    """Rows, by content keys (m, 16) and vectors (m, d), each with the one of n known rows it is most alike.

    Raises:
        DataError: a million pairs of rows are as near as that.
    """
    found = np.where(present(keys), KeyIndex(known).find(keys), -1)
    pairs = [Pair(row, int(found[row])) for row in np.flatnonzero(found >= 0).tolist()]
    if X is not None and known_X is not None:
        pairs += _near(X, near, device, known_X)
    return _closest(pairs)


def like(pair: Pair, table: Table, other: Table) -> str:
    """How a row of one table is like one of the other: `the same image as 7.jpg`."""
    name = other.ids[pair.other]
    if not pair.exact:
        return f"looks like {name} (cosine {pair.cosine:.3f})"
    what = "image" if table.keys("image")[pair.row].any() else "caption"
    return f"the same {what} as {name}"


def _several(groups: Groups) -> Iterator[Sequence[int]]:
    """The rows of each group of more than one."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[order])) + 1
    yield from (rows.tolist() for rows in np.split(order, ends) if len(rows) > 1)


def _near(X: Vectors, near: float, device: str, others: Vectors | None = None) -> Iterator[Pair]:
    """Pairs of rows of X (n, d), or of one of X and one of others (m, d), as near as that."""
    many = 0
    for rows, columns, cosines in duplicates.pairs(X, near, others, device):
        many += len(rows)
        if many > MOST:
            raise DataError(f"more than {MOST:,} pairs of rows have a cosine of {near}: ask for a higher one")
        for row, other, cosine in zip(rows.tolist(), columns.tolist(), cosines.tolist(), strict=True):
            yield Pair(row, other, cosine, exact=False)


def _closest(pairs: Iterable[Pair]) -> list[Pair]:
    """Of each row the pair with the row it is most alike; the same content comes before all others."""
    closest: dict[int, Pair] = {}
    for pair in pairs:
        known = closest.get(pair.row)
        if known is None or (pair.exact, pair.cosine) > (known.exact, known.cosine):
            closest[pair.row] = pair
    return list(closest.values())
