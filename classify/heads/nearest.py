"""The nearest of many rows, exactly, a block of them at a time."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encode_once.classify.data.matrix import is_large

BLOCK = 2**25  # numbers of stored rows that queries are compared with at a time, if these are many: 128 MiB


class Nearest(NamedTuple):
    """Rows that are near to each of m queries, the nearest first."""

    values: Tensor  # (m, k), that order them
    indices: Tensor  # (m, k)

    def merged(self, others: "Nearest", k: int) -> "Nearest":
        """The k nearest of both."""
        values = torch.cat([self.values, others.values], dim=1)
        nearest = values.topk(k, largest=False)
        indices = torch.cat([self.indices, others.indices], dim=1).gather(1, nearest.indices)
        return Nearest(nearest.values, indices)


class ExactSearch:
    """Compares queries with all rows (n, d), which are float16."""

    def __init__(self, rows: NDArray[np.float16], device: torch.device) -> None:
        stored = torch.as_tensor(rows)
        self._size = max(BLOCK // stored.shape[1], 1) if is_large(rows) else len(rows)
        self._rows = stored if is_large(rows) else stored.to(device).float()
        squares = [block.to(device).float().square().sum(1) for block in torch.split(self._rows, self._size)]
        self._squares = torch.cat(squares)  # (n,)

    def nearest(self, queries: Tensor, k: int) -> Nearest:
        """The squared distances of the queries (m, d) to their k nearest rows, and the indices of these.

        |a - b|² = |a|² + |b|² - 2ab, which is 2 (1 - cosine) for vectors of length 1.
        """
        nearest, start = None, 0
        for block in torch.split(self._rows, max(self._size, k)):
            rows = block.to(queries)
            # With the long side first, a CPU multiplies a third faster.
            squares = self._squares[start : start + len(rows), None]
            partial = torch.addmm(squares, rows, queries.T, alpha=-2)
            of_block = partial.T.contiguous().topk(min(k, len(rows)), largest=False)  # of (m, rows)
            near = Nearest(of_block.values, of_block.indices + start)
            nearest, start = near if nearest is None else nearest.merged(near, k), start + len(rows)
        assert nearest is not None
        squared = nearest.values + (queries * queries).sum(1, keepdim=True)
        return Nearest(squared.clamp(min=0), nearest.indices)
