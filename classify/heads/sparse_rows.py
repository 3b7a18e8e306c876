"""Rows that differ from one vector in few places, such as standardised word counts, as a sparse tensor."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from encode_once.classify.arrays import Vectors
from encode_once.classify.data.matrix import MatrixLike, chunks

WIDE = 4096  # columns up to which dense rows are faster, or as fast
SPARSE = 0.05  # share of numbers that may differ from the background
SAMPLE = 256  # rows that the background is the median of


@dataclass(frozen=True)
class SparseRows:
    """Rows (n, d) = S + 1 zᵀ and a last column of ones, (n, d + 1): S is sparse, z the background.

    Standardising turns the zeros of a column into one other number, which is all that z holds.
    """

    S: Tensor  # (n, d) CSR
    St: Tensor  # (d, n) CSR
    z: Tensor  # (d,)

    @classmethod
    def of(cls, X: MatrixLike, background: Vectors, device: torch.device) -> "SparseRows":
        """The rows of X (n, d), which are read a chunk at a time."""
        parts = [sparse.csr_matrix(X[part] - background) for part in chunks(*X.shape)]
        S = sparse.vstack(parts, format="csr")
        return cls(_tensor(S, device), _tensor(S.T.tocsr(), device), torch.from_numpy(background).to(device))

    def __len__(self) -> int:
        return len(self.S)

    def __matmul__(self, U: Tensor) -> Tensor:
        """(n, c) from U (d + 1, c)."""
        return self.S @ U[:-1] + (self.z @ U[:-1] + U[-1])

    def transposed_times(self, G: Tensor) -> Tensor:
        """(d + 1, c) from G (n, c)."""
        total = G.sum(0)
        return torch.cat([self.St @ G + torch.outer(self.z, total), total[None]])

    def mean_squares(self) -> Tensor:
        """The mean square of each column, (d + 1,)."""
        columns, values = self.S.col_indices(), self.S.values()
        first, second = (
            torch.zeros_like(self.z).index_add(0, columns, part) / len(self) for part in (values, values**2)
        )
        return torch.cat([second + 2 * self.z * first + self.z**2, self.z.new_ones(1)])


def background_of(X: MatrixLike) -> Vectors | None:
    """The usual number of each column of X (n, d), (d,).

    None if X is not wide, or too many numbers are not the usual ones.
    """
    n, d = X.shape
    if d <= WIDE:
        return None
    rows = X[np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.intp))]
    usual: Vectors = np.median(rows, axis=0).astype(np.float32)
    return usual if (rows != usual).mean() < SPARSE else None


def _tensor(S: sparse.csr_matrix, device: torch.device) -> Tensor:
    starts, columns, values = (torch.from_numpy(part).to(device) for part in (S.indptr, S.indices, S.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are in beta
        return torch.sparse_csr_tensor(starts, columns, values, S.shape, check_invariants=False)
