"""Logistic regression of all classes at once: one linear layer under BCE or softmax, and an L2 penalty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from encode_once.cache.errors import UsageError
from encode_once.classify.arrays import (
    UNKNOWN,
    FloatArray,
    PartialLabels,
    Scores,
    as_partial_labels,
)
from encode_once.classify.data.labels import MULTI, SINGLE, TASKS, require_one_label
from encode_once.classify.data.matrix import MatrixLike, chunks, is_large, sample
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_finite
from encode_once.classify.heads.class_weights import CHOICES, NONE, OPTION, ClassWeights, is_set, weights_of
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.sparse_rows import SparseRows, background_of
from encode_once.classify.heads.streamed_regression import MAX_PASSES, StreamedRegression
from encode_once.classify.heads.task import mean_loss, probabilities
from encode_once.classify.heads.torch.batches import fill, fits_on
from encode_once.classify.heads.validation import with_validation
from encode_once.classify.partial import entry_weights, positives

MAX_STEPS = 500  # of conjugate gradients at one C
MAX_EVALUATIONS = 20  # of the loss along one step
TINY = 1e-30  # the least divisor
OVERSAMPLING = 16  # axes beyond `components` that are searched, so that the last of these are found, too
ITERATIONS = 3  # multiplications by the covariance, for these axes
SAMPLE = 2**26  # numbers of the rows that C is chosen on if all rows are streamed: 256 MiB as float32


@dataclass(eq=False, repr=False)
class Linear(Head, Estimator):
    """Logistic regression of each class: the minimum of C Σ BCE + ½|w|², as scikit-learn's.

    With --task single it is one multinomial regression, whose loss is the cross entropy of the softmax.

    All classes share one C: C increases until the mean BCE of the validation rows rises, and the last value
    before that is taken. A C for each class would follow the noise of its few positives: on emotions, scene,
    medical and twenty classes of delicious the shared one has the lower test loss (.0581 against .0638 on
    medical). Without validation rows, a tenth of the rows is set aside to choose C, and then all are fitted.

    A class learns from the rows whose label is known, and the others count nowhere.

    Cs: the values to try.
    components: keep only so many of the first principal axes, by default all. A strong penalty shrinks the
        weights along the others anyway, and to find all of several thousand takes most of the time.
    class_weights: as of the torch heads: "auto", a list, or names of classes with weights of their positives.
    tolerance: see `_Problem.solve`.
    """

    SEEDED: ClassVar[bool] = False
    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {"task": TASKS, OPTION: CHOICES}
    PARTIAL: ClassVar[bool] = True
    # The coefficients (c, d), the intercepts (c,) and the C they were fitted at (c,).
    STATE: ClassVar[Sequence[str]] = ("coef", "intercept", "C")

    Cs: Sequence[float] = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    tolerance: float = 1e-4
    components: int | None = None
    class_weights: ClassWeights = NONE
    seed: int = 0
    device: str = "auto"
    task: str = MULTI

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Linear":
        """Learn the labels Y (n, c) of the rows X (n, d)."""
        Y = as_partial_labels(Y, len(X))
        if self.task == SINGLE:
            require_one_label(Y)
        self._positives = weights_of(self.class_weights, Y)
        rows = with_validation(X, Y, X_val, Y_val, self.seed)
        self.notes_: list[str] = []
        steps = MAX_STEPS
        if self._is_streamed(X):
            C, layer, unsolved = self._fit_streamed(X, Y, *rows)
            steps = MAX_PASSES
        else:
            C, layer, unsolved = self._choose(*rows)
            if X_val is None or Y_val is None:
                layer, unsolved = self._solve(self._problem(X, Y), C)
        self.coef_ = layer[:-1].T.contiguous().cpu().numpy()  # in the order of a loaded state
        self.intercept_ = layer[-1].cpu().numpy()
        self.C_ = np.full(Y.shape[1], C, np.float32)
        self.warnings_ = []
        if unsolved:
            self.warnings_.append(
                f"head linear has not converged for {unsolved} of {Y.shape[1]} classes after {steps} "
                f"steps at C = {C:g}, so their scores are not final: raise its option tolerance "
                f"({self.tolerance:g}) or leave out the largest of its Cs"
            )
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        # In float64: sums in float32 differ in the last digits with the place of a row among the others.
        weights = self.coef_.T.astype(np.float64)
        logits = np.concatenate([X[part] @ weights + self.intercept_ for part in chunks(*X.shape)])
        scores: Scores = probabilities(torch.from_numpy(logits), self.task).float().numpy()
        return scores

    def check(self) -> None:
        if self.task == SINGLE and is_set(self.class_weights):
            raise UsageError(f"{OPTION} are not for --task single: leave them out")

    def _is_streamed(self, X: MatrixLike) -> bool:
        """Whether the rows of X (n, d) are not held: they are large, dense, and more than a sample."""
        n, d = X.shape
        many = is_large(X) and n > _sample_size(d)
        return many and not fits_on(choose_device(self.device), X) and background_of(X) is None

    def _fit_streamed(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_train: MatrixLike,
        Y_train: PartialLabels,
        X_val: MatrixLike,
        Y_val: PartialLabels,
    ) -> tuple[float, Tensor, int]:
        """The C that is best for a sample, and the layer (d + 1, c) at that C of all rows X.

        C is the variance of a prior of the weights: the best one hardly depends on the number of rows.
        """
        size = _sample_size(X.shape[1])
        train, validation = sample(len(X_train), size), sample(len(X_val), size)
        problem = self._problem(X_train[train], Y_train[train])
        C, layer, _ = self._choose_with(problem, X_val[validation], Y_val[validation])
        assert isinstance(problem.axes, Tensor)
        single = self.task == SINGLE
        regression = StreamedRegression(
            X, Y, problem.mean, problem.axes, problem.squares, single, self._positives
        )
        del problem
        layer, unsolved = regression.solve(C, layer, self.tolerance)
        self.notes_ = [
            f"head linear chose C on {len(train):,} of {len(X_train):,} rows, and read all "
            f"{regression.passes} times, as they are not held in memory"
        ]
        return C, layer, unsolved

    def _problem(self, X: MatrixLike, Y: PartialLabels) -> "_Problem":
        problem = _Problem(X, on_device(Y, choose_device(self.device)), self._positives, self.components)
        if self.components and problem.axes is None:
            self.notes_ = [
                "head linear kept all columns, which are sparse: its option components has no effect"
            ]
        return problem

    def _solve(self, problem: "_Problem", C: float) -> tuple[Tensor, int]:
        """The layer (d + 1, c) at C, and how many classes have not converged."""
        return (problem.solve_softmax if self.task == SINGLE else problem.solve)(C, self.tolerance)

    def _choose(
        self, X: MatrixLike, Y: PartialLabels, X_val: MatrixLike, Y_val: PartialLabels
    ) -> tuple[float, Tensor, int]:
        """The C of least validation loss, its layer (d + 1, c) and how many classes have not converged."""
        return self._choose_with(self._problem(X, Y), X_val, Y_val)

    def _choose_with(
        self, problem: "_Problem", X_val: MatrixLike, Y_val: PartialLabels
    ) -> tuple[float, Tensor, int]:
        device, weights = problem.Y.device, entry_weights(Y_val)
        if self._positives is not None:
            of_positives = np.where(positives(Y_val), self._positives, 1)
            weights = of_positives if weights is None else weights * of_positives
        labels, rows = on_device(positives(Y_val), device), problem.with_ones(X_val)
        counted = None if weights is None else on_device(weights / max(weights.mean(), TINY), device)
        best, best_loss = (0.0, problem.layer(), 0), torch.inf
        for C in sorted(self.Cs):
            layer, unsolved = self._solve(problem, C)
            loss = require_finite(
                mean_loss(self.task)(rows @ layer, labels, counted),
                f"validation loss of head linear at C = {C}",
            )
            if loss >= best_loss:
                break  # weaker penalties would overfit further
            best, best_loss = (C, layer, unsolved), float(loss)
        return best


class _Problem:
    """The regressions of all classes on the same rows, in coordinates in which they are well conditioned.

    Let Z (n, d) be the rows X minus their mean m, and k = min(n, d). For each class the head minimises

        L(w, b) = mean BCE(Z w + b, y) + |w|² / (2 C n),

    where centring changes nothing but the intercept: X w + (b - m·w) are the same logits, and the intercept
    has no penalty. L sees w only through Z w and |w|, so what w has outside the row space of Z only adds to
    the penalty: the optimum is w = V u for any orthonormal V (d, k) that spans the row space. With T = Z V
    (n, k), because |V u| = |u|,

        L(u, b) = mean BCE(T u + b, y) + |u|² / (2 C n),

    the same regression with k columns. Take for V the principal axes, with variances s² (k,). Then TᵀT / n =
    diag(s²), and the Hessian for rows of equal weight p(1 - p) is diagonal: p(1 - p) s² + 1 / (C n) along u
    and p(1 - p) along b. It preconditions the conjugate gradients of `solve`.

    Where entries of Y are unknown, the BCE of each row is multiplied by a weight (n, c) of 0 or, for the n_c
    rows whose label is known, n / n_c, and n_c replaces n in the penalty: the mean is over these rows alone.
    Class weights multiply it, too, where y is 1.

        n ≥ d   ZᵀZ / n = V diag(s²) Vᵀ, a (d, d) eigenproblem. Any orthonormal V is exact, and s² only
                conditions, so that four rows per column are enough to find them.
        n < d   the dual: Zᵀ = Q R with Q (d, n), and RRᵀ / n = QᵀZᵀZQ / n = U diag(s²) Uᵀ, an (n, n)
                eigenproblem; V = Q U. Nothing of size (d, d) is built. Q, unlike Zᵀ U / s from the
                eigenvectors of ZZᵀ, stays orthonormal where rows depend on each other and s is 0.

    Of the first axes alone, `components`, w is confined to their span.

    Both factorisations are in float64: of few rows most eigenvalues are 0, and LAPACK's float32 eigh then
    fails or, worse, returns NaN. Wide, sparse rows, such as tf-idf of 50,000 words, are not factorised: T is
    `SparseRows`, and s² are the columns' mean squares, along which the Hessian is only nearly diagonal.
    """

    def __init__(
        self, X: MatrixLike, Y: Tensor, positives: FloatArray | None = None, components: int | None = None
    ) -> None:
        self.weights: Tensor | None = None  # (n, c)
        self.sizes = Y.new_full((Y.shape[1],), len(Y))  # n_c
        if (Y == UNKNOWN).any():
            self.weights = (Y != UNKNOWN).float()
            self.sizes = self.weights.sum(0).clamp(min=1)
            self.weights *= len(Y) / self.sizes
            Y = Y.clamp(min=0)
        if positives is not None:
            of_positives = 1 + Y * (on_device(positives, Y.device) - 1)
            self.weights = of_positives if self.weights is None else self.weights * of_positives
        self.Y = Y
        self.axes: Tensor | None = None  # (d, k)
        self.mean = Y.new_zeros(X.shape[1])
        self.background = background_of(X)
        self.T = self.with_ones(X)
        if isinstance(self.T, SparseRows):
            self.squares = self.T.mean_squares()[:, None]  # (k + 1, 1)
        else:
            self.T, self.squares = self._rotated(self.T, components)
        self.U = Y.new_zeros(len(self.squares), Y.shape[1])
        self.U[-1] = torch.logit((Y.sum(0) + 0.5) / (self.sizes + 1))

    def with_ones(self, X: MatrixLike) -> "Tensor | SparseRows":
        """The rows X (n, d) and a column of ones, (n, d + 1), for the intercepts."""
        if self.background is not None:
            return SparseRows.of(X, self.background, self.Y.device)
        rows = self.Y.new_ones(len(X), X.shape[1] + 1)
        fill(rows[:, :-1], X)
        return rows

    def _rotated(self, rows: Tensor, components: int | None) -> tuple[Tensor, Tensor]:
        """T with its ones, (n, k + 1), in place of the rows (n, d + 1); and s² with that of the ones."""
        Z = rows[:, :-1]
        self.mean = Z.mean(0, dtype=torch.float64).float()  # (d,)
        Z -= self.mean
        variances, self.axes = _principal_axes(Z, components)  # (k,), (d, k)
        k = len(variances)
        for part in chunks(*Z.shape):
            rows[part, :k] = Z[part] @ self.axes
        rows[:, k] = 1
        return rows[:, : k + 1].contiguous(), torch.cat([variances, variances.new_ones(1)])[:, None]

    def layer(self) -> Tensor:
        """The weights (d, c) with the intercepts (c,) below, (d + 1, c), of the last solution."""
        layer = self.U.clone()  # the next C continues in place
        if self.axes is not None:
            W = self.axes @ self.U[:-1]
            layer = torch.cat([W, (self.U[-1] - self.mean @ W)[None]])
        return require_finite(layer, "weights of head linear")

    def _penalty(self, C: float) -> Tensor:
        """1 / (C n_c), (k + 1, c), and 0 of the intercepts.

        It is rounded once, from float64: an error in the last bit changes scores by up to 1e-4.
        """
        penalty = (1 / (C * self.sizes.double())).to(self.U).repeat(len(self.U), 1)
        penalty[-1] = 0
        return penalty

    def solve(self, C: float, tolerance: float) -> tuple[Tensor, int]:
        """The layer (d + 1, c) at C, from the last solution on, and how many classes have not converged.

        Nonlinear conjugate gradients (Polak and Ribière, 1969) with a step length for every class. A class
        has converged when g·H⁻¹g, of the gradient g and the Hessian H above, is below tolerance²: about twice
        what the mean loss could still fall, whatever the units of the columns. It then stays as it is,
        while the others go on, for at most `MAX_STEPS` steps.
        """
        T, Y, U, weights = self.T, self.Y, self.U.clone(), self.weights
        penalty = self._penalty(C)
        logits = T @ U
        p = logits.sigmoid()
        curvature = _weighted(p * (1 - p), weights).mean(0).clamp(min=0.25 / len(T)) * self.squares + penalty
        step, last_gradient, last_slope = torch.zeros_like(U), torch.zeros_like(U), torch.ones_like(U[0])
        classes = torch.arange(U.shape[1], device=U.device)  # those of the columns below
        for _ in range(MAX_STEPS):
            errors = _weighted(logits.sigmoid() - Y, weights)
            gradient = _transposed_times(T, errors) / len(T) + penalty * U
            descent = gradient / curvature
            slope = (gradient * descent).sum(0)
            unsolved = ~(slope < tolerance**2)  # NaN has not converged
            if not unsolved.all():
                self.U[:, classes] = U
                columns = U, Y, logits, curvature, step, last_gradient, gradient, descent, penalty
                U, Y, logits, curvature, step, last_gradient, gradient, descent, penalty = (
                    values[:, unsolved] for values in columns
                )
                weights = None if weights is None else weights[:, unsolved]
                classes, slope, last_slope = classes[unsolved], slope[unsolved], last_slope[unsolved]
                if not len(classes):
                    break
            conjugacy = (slope - (last_gradient * descent).sum(0)) / last_slope
            step = conjugacy.clamp(min=0) * step - descent
            last_gradient, last_slope = gradient, slope.clamp(min=TINY)
            change = T @ step
            slope_of_penalty, curvature_of_penalty = (penalty * step * U).sum(0), (penalty * step**2).sum(0)
            length = _line_minimum(logits, change, Y, slope_of_penalty, curvature_of_penalty, weights)
            U = U + length * step
            logits = logits + length * change
        self.U[:, classes] = U
        return self.layer(), len(classes)

    def solve_softmax(self, C: float, tolerance: float) -> tuple[Tensor, int]:
        """The same for the cross entropy of the softmax, in which all classes depend on each other.

        L-BFGS in coordinates in which the Hessian's diagonal is about 1: U divided by `scale`. It ends when
        no number of the gradient there exceeds tolerance / √(k + 1), so that g·H⁻¹g is as small as above.
        """
        T, Y = self.T, self.Y
        penalty = self._penalty(C)
        p = (T @ self.U).softmax(1)
        scale = ((p * (1 - p)).mean(0).clamp(min=0.25 / len(T)) * self.squares + penalty).rsqrt()

        def loss_and_gradient(V: FloatArray) -> tuple[float, FloatArray]:
            U = scale * torch.from_numpy(V).to(scale).view_as(scale)
            logits = T @ U
            loss = cross_entropy(logits, Y) + (penalty * U**2).sum() / 2
            gradient = _transposed_times(T, logits.softmax(1) - Y) / len(T) + penalty * U
            return float(loss), (scale * gradient).flatten().double().cpu().numpy()

        start = (self.U / scale).flatten().double().cpu().numpy()
        options = {"maxiter": MAX_STEPS, "gtol": tolerance / len(scale) ** 0.5}
        solution = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
        self.U = scale * torch.from_numpy(solution.x).to(scale).view_as(scale)
        return self.layer(), Y.shape[1] if solution.nit >= MAX_STEPS else 0


def _sample_size(d: int) -> int:
    """Rows by which to choose C, and the axes, of so many columns; these take four rows each."""
    return max(SAMPLE // d, 4 * d)


def _transposed_times(T: Tensor | SparseRows, G: Tensor) -> Tensor:
    return T.transposed_times(G) if isinstance(T, SparseRows) else T.T @ G


def _principal_axes(Z: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Variances (k,) of centred rows Z (n, d) along orthonormal axes (d, k) of their row space, ascending.

    count: find only so many axes, of the greatest variances.
    """
    if count and count + OVERSAMPLING < min(Z.shape):
        return _first_axes(Z, count)
    n, d = Z.shape
    basis = torch.linalg.qr(Z.T.double()).Q if n < d else None  # (d, n)
    sample = Z[:: max(n // (4 * d), 1)]
    covariance = Z.new_zeros(min(n, d), min(n, d), dtype=torch.float64)
    for part in chunks(len(sample), d):
        rows = sample[part].double() if basis is None else sample[part].double() @ basis
        covariance += rows.T @ rows / len(sample)
    require_finite(covariance, "covariances of the columns for head linear")
    variances, axes = torch.linalg.eigh(covariance)
    variances = require_finite(variances.clamp(min=0).float(), "variances of the rows for head linear")
    axes = (axes if basis is None else basis @ axes).float()
    return (variances[-count:], axes[:, -count:]) if count else (variances, axes)


def _first_axes(Z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Variances (count,) of centred rows Z (n, d) along nearly the first principal axes (d, count).

    Subspace iteration (Halko, Martinsson and Tropp, 2011), from rows instead of random numbers, so that the
    axes do not depend on the order of the columns. All rows are searched: unlike above, the axes decide which
    weights are possible, and those of a few rows are others.
    """
    n, width = len(Z), count + OVERSAMPLING
    directions = Z[:: n // width][:width].T
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(directions).Q
        directions = Z.T @ (Z @ basis)
    basis = torch.linalg.qr(require_finite(directions, "covariances of the columns for head linear")).Q
    covariance = Z.new_zeros(width, width, dtype=torch.float64)
    for part in chunks(*Z.shape):
        projected = (Z[part] @ basis).double()
        covariance += projected.T @ projected / n
    variances, axes = torch.linalg.eigh(covariance)
    return variances[-count:].clamp(min=0).float(), basis @ axes[:, -count:].float()


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights


def _line_minimum(
    logits: Tensor,
    change: Tensor,
    Y: Tensor,
    slope: Tensor,
    curvature: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """The lengths t (c,) that minimise, to a tenth, mean BCE at logits + t change plus the penalty.

    The penalty is slope t + ½ curvature t². Newton's steps, from t = 1, are kept between the longest length
    known to be too short and the shortest known to be too long.
    """
    short, long = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    t = torch.ones_like(slope)
    for _ in range(MAX_EVALUATIONS):
        p = torch.addcmul(logits, change, t).sigmoid()
        first = _weighted((p - Y) * change, weights).mean(0) + slope + curvature * t
        second = _weighted(p * (1 - p) * change**2, weights).mean(0) + curvature
        short, long = torch.where(first < 0, t, short), torch.where(first < 0, long, t)
        newton = t - first / second.clamp(min=TINY)
        middle = torch.where(short > 0, (short + long) / 2, long / 8)
        farthest = torch.where(long.isinf(), 4 * t, long)
        inside = (short < newton) & (newton < farthest)
        t, previous = torch.where(inside, newton, torch.where(long.isinf(), farthest, middle)), t
        if ((t - previous).abs() <= 0.1 * previous).all():
            return t
    return short  # of a convex loss, no higher than at 0
