"""Duplicates: rows of equal content, and rows whose vectors have a cosine near 1.

All pairs are compared exactly, in blocks of matrix products: n²d operations for vectors (n, d). On 2 cores
9,000 vectors of 1,280 numbers take 0.9 s, 30,000 of 768 take 4.5 s, and ten times as many rows take 100 times
as long. Memory holds the vectors and a block, or of a large matrix two blocks of rows: each is compared with
all later ones, which are read again. Millions of rows would need approximate neighbours.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.classify.arrays import Groups, Vectors
from encode_once.classify.data.matrix import MatrixLike, is_large

if TYPE_CHECKING:
    import torch

BLOCK = 2048  # rows by columns of cosines at a time: 17 MB
ROUNDING = 1e-6  # of cosines in float32, so that a row has at least 1 with itself


def exact(keys: Keys) -> Groups:
    """The first row with the same content key, (n,), for keys (n, 16); the row itself without content."""
    return np.where(present(keys), KeyIndex(keys).find(keys), np.arange(len(keys)))


def near(X: MatrixLike, similarity: float, device: str = "auto") -> Groups:
    """Groups of rows of X (n, d) that are connected by a chain of pairs with at least that cosine."""
    groups = np.arange(len(X))
    for rows, others, _ in pairs(X, similarity, device=device):
        groups = _connected(groups[rows], groups[others], len(X))[groups]
    return groups


def join(first: Groups, second: Groups) -> Groups:
    """Groups of rows that are together in either grouping, or through a chain of both."""
    n = len(first)
    first, second = (np.unique(groups, return_inverse=True)[1] for groups in (first, second))
    return _connected(first, second + n, 2 * n)[first]


def pairs(
    X: MatrixLike, similarity: float, others: MatrixLike | None = None, device: str = "auto"
) -> Iterator[tuple[Groups, Groups, Vectors]]:
    """Yield pairs of rows of X (n, d) with at least that cosine, by blocks: first rows, second rows, cosines.

    Each pair is yielded once, with its first row before its second. If `others` (m, d) is given, the second
    rows are from it. A vector that has a NaN or is all zeros is in no pair.
    """
    import torch  # duplicates by key do not need it

    from encode_once.classify.device import choose_device

    torch_device = choose_device(device)
    first = _unit_rows(X, torch_device)
    second = first if others is None else _unit_rows(others, torch_device)
    m = len(X if others is None else others)
    for start in range(0, len(X), BLOCK):
        block = first(slice(start, start + BLOCK))
        for other in range(start if others is None else 0, m, BLOCK):
            is_same = others is None and other == start
            cosines = block @ (block if is_same else second(slice(other, other + BLOCK))).T
            alike = cosines >= similarity - ROUNDING  # NaN is not
            if is_same:
                alike.triu_(diagonal=1)
            if alike.any():
                rows, columns = torch.nonzero(alike, as_tuple=True)
                similarities = np.minimum(cosines[rows, columns].cpu().numpy(), 1)
                yield start + rows.cpu().numpy(), other + columns.cpu().numpy(), similarities


def _unit_rows(X: MatrixLike, device: "torch.device") -> "Callable[[slice], torch.Tensor]":
    """A function from a slice of the rows X (n, d) to these at length 1; a large matrix is not held."""
    if is_large(X):
        return lambda rows: _unit_vectors(X[rows]).to(device)
    return _unit_vectors(X[:]).to(device).__getitem__


def _unit_vectors(X: Vectors) -> "torch.Tensor":
    """The vectors (n, d) scaled to length 1; NaN where they are zero."""
    import torch

    vectors = torch.from_numpy(np.array(X, np.float32))  # a copy, divided in place
    return vectors.div_(vectors.norm(dim=1, keepdim=True))


def _connected(rows: Groups, others: Groups, n: int) -> Groups:
    """The connected component, (n,), of each of n nodes under edges between rows (m,) and others (m,)."""
    edges = coo_array((np.ones(len(rows), np.bool_), (rows, others)), shape=(n, n))
    return np.asarray(connected_components(edges, directed=False)[1], np.intp)
