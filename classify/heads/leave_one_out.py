"""Prototypes of classes, and what they would be without one of their rows."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

TINY = 1e-12  # the least divisor


class ClassSums:
    """Sums of rows (m, d) of length 1 with labels (m, c), by class and in all."""

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        self.by_class, self.counts = labels.T @ rows, labels.sum(0)  # (c, d), (c,)
        self.total, self.n = rows.sum(0), len(rows)  # (d,)

    def prototypes(self) -> Tensor:
        """The mean of each class minus the mean of all rows, of length 1, (c, d); 0 for an empty class."""
        means = self.by_class / self.counts.clamp(min=1)[:, None] - self.total / max(self.n, 1)
        return normalize(means * (self.counts > 0)[:, None])

    def cosines_without_each(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Cosines (n, c) of rows (n, d) among the summed ones to the prototypes without that row.

        Let S be the sum of a class that contains the row x (y = 1) or not (y = 0), k = |class| - y, and T the
        sum of all m rows. Without x the prototype is p = (S - y x) / k - (T - x) / (m - 1). Both x·p and |p|²
        follow from products of x, S and T, so that no prototype is computed again.
        """
        S, T, x, y = (tensor.double() for tensor in (self.by_class, self.total, rows, labels))
        k, others = (self.counts - y).clamp(min=1), max(self.n - 1, 1)
        xS, xT, xx = x @ S.T, (x @ T)[:, None], (x * x).sum(1, keepdim=True)  # (n, c), (n, 1), (n, 1)
        xp = (xS - y * xx) / k - (xT - xx) / others
        SS = (S * S).sum(1) - 2 * y * xS + y * xx  # |S - y x|²
        ST = S @ T - xS - y * xT + y * xx  # (S - y x)·(T - x)
        TT = T @ T - 2 * xT + xx  # |T - x|²
        pp = SS / k**2 - 2 * ST / (k * others) + TT / others**2
        cosines = xp / pp.clamp(min=TINY).sqrt()
        return torch.where((self.counts - y > 0) & (pp > TINY), cosines, 0).clamp(-1, 1).float()
