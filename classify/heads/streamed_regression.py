"""Logistic regression of rows that are read in passes over the store, because they do not fit in memory."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from encode_once.classify.arrays import UNKNOWN, FloatArray, PartialLabels
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.device import on_device
from encode_once.classify.heads.checks import require_finite
from encode_once.classify.heads.lbfgs import minimise
from encode_once.classify.partial import is_partial, rows_by_class

MAX_PASSES = 200  # at one C


class StreamedRegression:
    """The minimum that `linear._Problem` describes, from passes over the rows, which are never held.

    The coordinates u are the same, w = V u for an orthonormal V (d, k), but the rows are not rotated: with
    rows Z (n, d) minus a centre, their logits are Z (V u) + b, and the gradient along u is Vᵀ Zᵀ (p - y).
    Any V, centre and variances s² are exact, and only condition, so that those of a sample are good enough.

    A pass gives the losses of all classes at one point, and their gradients. Conjugate gradients take two
    passes for a step, for the direction and its length; L-BFGS takes one, in coordinates v = u / scale in
    which the Hessian is about the identity: it begins near the solution, that of the sample, and needs ten
    to twenty. Logits (n, c) are not held either.

    Args:
        mean, axes, squares: of the sample's `_Problem`, (d,), (d, k) and (k + 1, 1).
        single: one multinomial regression, with the cross entropy of the softmax.
        positives: how often positives count, (c,); by default once.
    """

    def __init__(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        mean: Tensor,
        axes: Tensor,
        squares: Tensor,
        single: bool,
        positives: FloatArray | None = None,
    ) -> None:
        self.X, self.Y, self.single = X, Y, single
        self.mean, self.axes, self.squares = mean, axes, squares
        self.sizes = torch.as_tensor(rows_by_class(Y), device=mean.device).clamp(min=1)  # n_c
        self.positives = None if positives is None else on_device(positives, mean.device)
        self.passes = 0

    def solve(self, C: float, layer: Tensor, tolerance: float) -> tuple[Tensor, int]:
        """The layer (d + 1, c) at C, starting at one, and how many classes have not converged."""
        U = torch.cat([self.axes.T @ layer[:-1], (layer[-1] + self.mean @ layer[:-1])[None]])
        penalty = (1 / (C * self.sizes.double())).to(U).repeat(len(U), 1)
        penalty[-1] = 0
        losses, gradients, curvature = self._pass(U, slice(None))
        floor = 0.25 / len(self.X)
        scale = (curvature.clamp(min=floor) * self.squares + penalty).rsqrt()

        def penalised(
            U: Tensor, losses: Tensor, gradients: Tensor, columns: Tensor | slice
        ) -> tuple[Tensor, Tensor]:
            of_columns = penalty[:, columns]
            squared = (of_columns * U**2).sum(0).double() / 2
            squared = squared.sum()[None] if self.single else squared
            return losses + squared, scale[:, columns] * (gradients + of_columns * U)

        def evaluate(V: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
            U = scale[:, columns] * V
            losses, gradients, _ = self._pass(U, columns)
            return penalised(U, losses, gradients, columns)

        first = penalised(U, losses, gradients, slice(None))
        V, unsolved = minimise(evaluate, U / scale, *first, tolerance, MAX_PASSES, joint=self.single)
        U = scale * V
        W = self.axes @ U[:-1]
        layer = torch.cat([W, (U[-1] - self.mean @ W)[None]])
        return require_finite(layer, "weights of head linear"), unsolved

    def _pass(self, U: Tensor, columns: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Mean losses (p,) in float64, gradients (k + 1, m) and mean p (1 - p) (m,) of these classes at U.

        p is 1 for the softmax, which is of all classes, and m otherwise.
        """
        self.passes += 1
        n, d = self.X.shape
        W, b = self.axes @ U[:-1], U[-1]
        shape = 1 if self.single else U.shape[1]
        losses = torch.zeros(shape, dtype=torch.float64, device=U.device)
        gradients = torch.zeros(d + 1, U.shape[1], dtype=torch.float64, device=U.device)
        curvature = torch.zeros(U.shape[1], dtype=torch.float64, device=U.device)
        chosen = columns if isinstance(columns, slice) else columns.cpu().numpy()
        weights = (len(self.X) / self.sizes)[columns].to(U)
        for part in chunks(n, d):
            rows, labels = on_device(self.X[part], U.device) - self.mean, self.Y[part][:, chosen]
            truth = on_device(labels, U.device)
            logits = rows @ W + b
            p = logits.softmax(1) if self.single else logits.sigmoid()
            errors, curved = p - truth, p * (1 - p)
            if self.single:
                of_part = (logits.logsumexp(1) - (logits * truth).sum(1)).double().sum()[None]
            else:
                of_part = softplus(logits) - truth * logits
                if is_partial(labels) or self.positives is not None:
                    counted = (truth != UNKNOWN) * weights
                    if self.positives is not None:
                        counted *= 1 + truth.clamp(min=0) * (self.positives[columns] - 1)
                    errors, curved, of_part = errors * counted, curved * counted, of_part * counted
                of_part = of_part.double().sum(0)
            losses += of_part
            curvature += curved.sum(0)
            gradients[:-1] += rows.T @ errors
            gradients[-1] += errors.sum(0)
        gradients = torch.cat([self.axes.T.double() @ gradients[:-1], gradients[-1:]])
        return losses / n, (gradients / n).to(U), (curvature / n).to(U)
