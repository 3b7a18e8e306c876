"""Nearest rows by an inverted file of faiss: a query is compared with the rows of the nearest cells only.

Files of faiss are neither written nor read, because a crafted one can crash the process. What is kept are
arrays, the centroids of the cells and the cell of each row, from which the index is filled.
"""

from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError
from encode_once.classify.arrays import IntArray, State, Vectors
from encode_once.classify.data.matrix import chunks, sample
from encode_once.classify.heads.nearest import ExactSearch, Nearest

EXTRA = "pip install 'encode-once[faiss]'"
ROWS_PER_CELL = 40  # the fewest, and how many of each the centroids are learned from
ITERATIONS = 10  # of k-means
RECALL = 0.95  # as many cells are searched as find this share of the neighbours
MOST = 4  # at most one cell of so many is searched: with more, exact search is as fast
ROUNDING = 1e-5  # of squared distances, relative to the square of the query's length


def is_installed() -> bool:
    """Whether faiss is installed."""
    return find_spec("faiss") is not None


def load_faiss() -> Any:
    """The library.

    Raises:
        UsageError: it is missing.
    """
    if not is_installed():
        raise UsageError(f"the neighbours of this head knn are searched by faiss, which is missing: {EXTRA}")
    import faiss

    return faiss


class InvertedFile:
    """Rows (n, d) in cells, as float16, of which each query searches the nearest `probes`.

    Attributes:
        recall: the share of the `neighbours` nearest rows that are in these cells.

    Raises:
        UsageError: faiss is missing.
        ValueError: the arrays do not fit one another.
    """

    def __init__(
        self,
        rows: NDArray[np.float16],
        centroids: Vectors,
        cells: IntArray,
        probes: int = 1,
        recall: float = 0.0,
        neighbours: int = 0,
    ) -> None:
        count, d = len(centroids), rows.shape[1]
        if centroids.shape != (count, d) or centroids.dtype != np.float32 or not 1 <= probes <= count:
            raise ValueError(f"there are no {probes} cells of rows of {d} numbers in the index")
        self.centroids, self.probes, self.recall, self.neighbours = centroids, probes, recall, neighbours
        faiss = load_faiss()
        self._quantizer = _flat(centroids)
        of_float16 = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantizer, d, count, of_float16, faiss.METRIC_L2, False
        )
        self._index.is_trained = True  # a float16 has nothing to learn
        self._fill(rows, cells)

    @classmethod
    def learned(cls, rows: NDArray[np.float16]) -> "InvertedFile":
        """Cells by k-means of a sample of the rows (n, d), the same each time."""
        n, d = rows.shape
        count = max(1, min(int(2 * np.sqrt(n)), n // ROWS_PER_CELL))
        kmeans = load_faiss().Kmeans(
            d, count, niter=ITERATIONS, seed=0, min_points_per_centroid=1, max_points_per_centroid=n
        )
        kmeans.train(rows[sample(n, count * ROWS_PER_CELL)].astype(np.float32))
        return cls(rows, kmeans.centroids, _assigned(rows, kmeans.centroids))

    @classmethod
    def restored(cls, rows: NDArray[np.float16], state: State) -> "InvertedFile":
        """The index of that state."""
        probes, recall, neighbours = (state[name][0].item() for name in ("probes", "recall", "neighbours"))
        return cls(rows, state["centroids"], state["cells"], probes, recall, neighbours)

    def refill(self, rows: NDArray[np.float16]) -> None:
        """Hold other rows in the same cells instead."""
        self._index.reset()
        self._fill(rows, _assigned(rows, self.centroids))

    def _fill(self, rows: NDArray[np.float16], cells: IntArray) -> None:
        # faiss writes to a cell without a look at its number.
        numbers_fit = cells.dtype == np.int64 and cells.min() >= 0 and cells.max() < len(self.centroids)
        if cells.shape != (len(rows),) or not numbers_fit:
            raise ValueError("the cells of the index are not those of the rows")
        self.rows, self.cells = rows, cells
        pointer = load_faiss().swig_ptr
        for part in chunks(*rows.shape):
            block, of_block = rows[part].astype(np.float32), np.ascontiguousarray(cells[part])
            self._index.add_core(len(block), pointer(block), None, pointer(of_block))

    def state(self) -> State:
        """The centroids (cells, d), the cell of each row, (n,), and what was measured, (1,) each."""
        return {
            "centroids": self.centroids,
            "cells": self.cells,
            "probes": np.array([self.probes], np.int64),
            "recall": np.array([self.recall], np.float32),
            "neighbours": np.array([self.neighbours], np.int64),
        }

    def __str__(self) -> str:
        return (
            f"searches {self.probes:,} of {len(self.centroids):,} cells of an index, and finds "
            f"{self.recall:.1%} of the {self.neighbours:,} nearest of {len(self.rows):,} rows"
        )

    @cached_property
    def _exact(self) -> ExactSearch:
        return ExactSearch(self.rows, torch.device("cpu"))

    def nearest(self, queries: torch.Tensor, k: int) -> Nearest:
        """As `ExactSearch.nearest`, but of the rows in the cells; of all rows if those are fewer than k."""
        values, indices = self._in_cells(queries, min(k, len(self.rows)))
        lacking = (indices < 0).any(1)
        if lacking.any():
            values[lacking], indices[lacking] = self._exact.nearest(queries.cpu()[lacking], k)
        return Nearest(values.to(queries), indices.to(queries.device))

    def _in_cells(self, queries: torch.Tensor, k: int) -> Nearest:
        """The nearest rows in the cells; where these hold fewer than k, an index is -1 and its value huge."""
        self._index.nprobe = self.probes
        return Nearest(*map(torch.as_tensor, self._index.search(queries.cpu().numpy(), k)))

    def choose_probes(self, queries: torch.Tensor, k: int) -> None:
        """Search as many cells as find `RECALL` of the k nearest rows of the queries (m, d).

        A row is found if it is as near as the k-th of all rows, because any of equal rows will do.
        """
        limits = self._exact.nearest(queries, k).values[:, -1:] + ROUNDING * (queries**2).sum(1, keepdim=True)
        most = max(1, len(self.centroids) // MOST)
        self.probes, self.recall, self.neighbours = 0, 0.0, k
        while self.recall < RECALL and self.probes < most:
            self.probes = min(max(2 * self.probes, 1), most)
            self.recall = float((self._in_cells(queries, k).values <= limits).float().mean())
        del self._exact  # it may hold the rows as float32


def _assigned(rows: NDArray[np.float16], centroids: Vectors) -> IntArray:
    """The cell of each row, (n,)."""
    quantizer = _flat(centroids)
    return np.concatenate(
        [quantizer.assign(rows[part].astype(np.float32), 1)[:, 0] for part in chunks(*rows.shape)]
    )


def _flat(centroids: Vectors) -> Any:
    """An exact index of faiss."""
    index = load_faiss().IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    return index
