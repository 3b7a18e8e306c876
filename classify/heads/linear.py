"""Logistic regression of all classes at once: one linear layer under BCE and an L2 penalty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from encode_once.classify.data.matrix import Labels, MatrixLike, chunks
from encode_once.classify.heads.device import choose_device, on_device
from encode_once.classify.heads.torch.training import fill
from encode_once.classify.heads.validation import with_validation

MAX_STEPS, MAX_EVALUATIONS = 500, 8
TINY = 1e-30  # in place of a zero divisor


@dataclass(eq=False, repr=False)
class Linear(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """For each class the weights w and intercept of least C Σ BCE + ½|w|², like sklearn's LogisticRegression.

    Each class takes the C of least BCE on the validation rows. Where none are given, a tenth of the rows is
    held out to choose it, and then all are fitted. `tolerance` is the steepest slope of the mean loss that
    counts as level, as scikit-learn's `tol`.
    """

    Cs: Sequence[float] = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    tolerance: float = 1e-4
    seed: int = 0
    device: str = "auto"

    def fit(
        self, X: MatrixLike, Y: Labels, X_val: MatrixLike | None = None, Y_val: Labels | None = None
    ) -> "Linear":
        """Learn the labels Y (n, c) of the rows X (n, d)."""
        layer, C = self._choose(*with_validation(X, Y, X_val, Y_val, self.seed))
        if X_val is None or Y_val is None:
            layer = self._problem(X, Y).solve(C, self.tolerance)
        self.coef_ = layer[:-1].T.cpu().numpy()
        self.intercept_, self.C_ = layer[-1].cpu().numpy(), C.cpu().numpy()
        return self

    def predict_proba(self, X: MatrixLike) -> NDArray[np.float32]:
        """Probabilities (n, c) of the labels of the rows X (n, d)."""
        logits = np.concatenate([X[part] @ self.coef_.T + self.intercept_ for part in chunks(len(X))])
        scores: NDArray[np.float32] = torch.from_numpy(logits).sigmoid().numpy()
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """The coefficients (c, d), the intercepts (c,) and the C chosen for each class (c,)."""
        return {"coef": self.coef_, "intercept": self.intercept_, "C": self.C_}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Take up what another head learned."""
        self.coef_, self.intercept_, self.C_ = state["coef"], state["intercept"], state["C"]

    def _problem(self, X: MatrixLike, Y: Labels) -> "_Problem":
        return _Problem(X, on_device(Y, choose_device(self.device)))

    def _choose(
        self,
        X: MatrixLike,
        Y: Labels,
        X_val: MatrixLike,
        Y_val: Labels,
    ) -> tuple[Tensor, Tensor]:
        """Each class's best layer (d + 1, c) and C (c,) on the way from the strongest penalty down."""
        problem = self._problem(X, Y)
        device = problem.Y.device
        truth = on_device(Y_val, device)
        layer = torch.zeros_like(problem.W)
        chosen, least = torch.zeros_like(layer[-1]), torch.full_like(layer[-1], torch.inf)
        total = torch.inf
        for C in sorted(self.Cs):
            tried = problem.solve(torch.full_like(least, C), self.tolerance)
            held = (on_device(X_val[part], device) for part in chunks(len(X_val)))
            logits = torch.cat([torch.addmm(tried[-1], rows, tried[:-1]) for rows in held])
            loss = binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(0)
            better = loss < least
            layer, chosen = torch.where(better, tried, layer), torch.where(better, C, chosen)
            least, total, last_total = torch.minimum(loss, least), float(loss.sum()), total
            if total > last_total:
                break  # it overfits, and a weaker penalty would the more
        return layer, chosen


class _Problem:
    """The rows of a regression, and the principal axes of the curvature of its loss."""

    def __init__(self, X: MatrixLike, Y: Tensor) -> None:
        self.Z = Y.new_ones(len(X), X.shape[1] + 1)  # the last weight is the intercept
        fill(self.Z[:, :-1], X)
        self.Y = Y
        self.W = Y.new_zeros(self.Z.shape[1], Y.shape[1])  # (d + 1, c)
        self.W[-1] = torch.logit((Y.sum(0) + 0.5) / (len(Y) + 1))
        # With all rows of one weight the curvature is a multiple of ZᵀZ; four rows a column estimate it well.
        some = self.Z[:: max(len(self.Z) // (4 * self.Z.shape[1]), 1)]
        squares, self.axes = _principal_axes(some.T @ some / len(some))
        self.squares = squares.clamp(min=0)[:, None]  # (d + 1, 1)

    def solve(self, C: Tensor, tolerance: float) -> Tensor:
        """The layer (d + 1, c) at C (c,), sought from the last one found.

        Nonlinear conjugate gradients (Polak and Ribière, 1969), preconditioned by the curvature of equally
        weighted rows, with a step length of its own for every class.
        """
        Z, Y, W = self.Z, self.Y, self.W
        penalty = (1 / (C * len(Z))).repeat(len(W), 1)  # (d + 1, c)
        penalty[-1] = 0
        logits = Z @ W
        p = logits.sigmoid()
        curvature = (p * (1 - p)).mean(0) * self.squares + penalty[0]  # along the axes, (d + 1, c)
        step, last_gradient, last_slope = torch.zeros_like(W), torch.zeros_like(W), torch.ones_like(C)
        for _ in range(MAX_STEPS):
            gradient = Z.T @ (logits.sigmoid() - Y) / len(Z) + penalty * W
            if gradient.abs().max() < tolerance:
                break
            descent = self.axes @ (self.axes.T @ gradient / curvature)
            slope = (gradient * descent).sum(0)
            conjugacy = (slope - (last_gradient * descent).sum(0)) / last_slope
            step = conjugacy.clamp(min=0) * step - descent
            last_gradient, last_slope = gradient, slope.clamp(min=TINY)
            change = Z @ step
            length = _line_minimum(logits, change, Y, (penalty * step * W).sum(0), (penalty * step**2).sum(0))
            W = W + length * step
            logits = logits + length * change
        self.W = W
        return W


def _principal_axes(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,) and eigenvectors (d, d) of a symmetric matrix (d, d)."""
    try:
        squares, axes = torch.linalg.eigh(curvature)
    except RuntimeError:  # did not converge: of few rows most eigenvalues are 0, which float32 may not part
        squares, axes = torch.linalg.eigh(curvature.double())
    return squares.to(curvature.dtype), axes.to(curvature.dtype)


def _line_minimum(logits: Tensor, change: Tensor, Y: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """The lengths t (c,), near enough, at which mean BCE at logits + t change, plus the penalty, is least.

    The penalty is slope t + ½ curvature t². Newton's steps, from t = 1, are kept between the lengths found
    too short and too long.
    """
    short, long = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    t = torch.ones_like(slope)
    for _ in range(MAX_EVALUATIONS):
        p = torch.addcmul(logits, change, t).sigmoid()
        first = ((p - Y) * change).mean(0) + slope + curvature * t
        second = (p * (1 - p) * change**2).mean(0) + curvature
        short, long = torch.where(first < 0, t, short), torch.where(first < 0, long, t)
        newton = t - first / second.clamp(min=TINY)
        middle = torch.where(long.isinf(), 2 * t, (short + long) / 2)
        t, previous = torch.where((short < newton) & (newton < long), newton, middle), t
        if ((t - previous).abs() <= 0.1 * previous).all():
            break
    return t
