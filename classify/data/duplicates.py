"""Which rows are the same or nearly so: equal contents by their keys, and vectors that point alike.

All pairs are compared, exactly, in blocks of matrix products: n²d operations for n vectors (n, d). On 2 cores
9,000 of 1,280 numbers take 0.9 s, 30,000 of 768 take 4.5 s, and ten times as many a hundred times that;
memory is that of the vectors, twice, and of a block. Millions would need an index of approximate neighbours.
"""

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.classify.arrays import Groups, Vectors

if TYPE_CHECKING:
    import torch

BLOCK = 2048  # rows by columns of cosines at a time: 17 MB
ROUNDING = 1e-6  # by which float32 may have a cosine too small: a row has 1 with itself


def exact(keys: Keys) -> Groups:
    """Of each row the first with the same content key, (n,), keys (n, 16); of one without content, itself."""
    return np.where(present(keys), KeyIndex(keys).find(keys), np.arange(len(keys)))


def near(X: Vectors, similarity: float, device: str = "auto") -> Groups:
    """Groups of rows that a chain of pairs of at least that cosine connects; X is (n, d), see `pairs`."""
    groups = np.arange(len(X))
    for rows, others, _ in pairs(X, similarity, device=device):
        groups = _connected(groups[rows], groups[others], len(X))[groups]
    return groups


def joined(one: Groups, other: Groups) -> Groups:
    """Groups of rows that are together in either of two groupings, or through a chain of them."""
    first, second = (np.unique(groups, return_inverse=True)[1] for groups in (one, other))
    return _connected(first, second + len(one), 2 * len(one))[first]


def pairs(
    X: Vectors, similarity: float, others: Vectors | None = None, device: str = "auto"
) -> Iterator[tuple[Groups, Groups, Vectors]]:
    """Pairs of rows of X (n, d) with at least that cosine, a block at a time: first and second rows, cosines.

    A pair comes once, its first row before its second. Given `others` (m, d), the second rows are of these. A
    vector with NaN, or of zeros alone, is of no pair.
    """
    import torch  # here, so that duplicates by key need no torch

    from encode_once.classify.device import choose_device

    place = choose_device(device)
    first = _directions(X).to(place)
    second = first if others is None else _directions(others).to(place)
    for start, other in product(range(0, len(first), BLOCK), range(0, len(second), BLOCK)):
        if others is None and other < start:
            continue
        cosines = first[start : start + BLOCK] @ second[other : other + BLOCK].T
        alike = cosines >= similarity - ROUNDING  # NaN is not
        if others is None and other == start:
            alike.triu_(diagonal=1)
        if alike.any():
            rows, columns = torch.nonzero(alike, as_tuple=True)
            found = cosines[rows, columns].cpu().numpy()
            yield start + rows.cpu().numpy(), other + columns.cpu().numpy(), np.minimum(found, 1)


def _directions(X: Vectors) -> "torch.Tensor":
    """Vectors (n, d) of length 1; NaN where there is none."""
    import torch

    vectors = torch.from_numpy(np.array(X, np.float32))  # a copy, to be divided in its place
    return vectors.div_(vectors.norm(dim=1, keepdim=True))


def _connected(rows: Groups, others: Groups, n: int) -> Groups:
    """The connected component, (n,), of each of n nodes under edges between rows (m,) and others (m,)."""
    edges = coo_array((np.ones(len(rows), np.bool_), (rows, others)), shape=(n, n))
    return np.asarray(connected_components(edges, directed=False)[1], np.intp)
