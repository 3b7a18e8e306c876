"""L-BFGS (Liu and Nocedal, 1989) for functions that cost a pass over the rows, of many problems at once."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

# Points V (k, m), a problem in each column, and the numbers of these → values (p,), gradients (k, m).
Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

PAIRS = 10  # steps that are remembered
DESCENT = 1e-4  # share of the descent along the slope that a step must reach, or it is halved
IDLE = 5
ROUNDING = 1e-7  # of values, relative: each is a mean of float32 numbers
TINY = 1e-30  # the least divisor


def minimise(
    evaluate: Evaluate,
    V: Tensor,
    values: Tensor,
    gradients: Tensor,
    tolerance: float,
    passes: int,
    joint: bool = False,
) -> tuple[Tensor, int]:
    """The minima (k, c) of convex functions, and how many problems have not reached theirs.

    A problem is solved when the length of its gradient is below the tolerance, in coordinates in which the
    Hessian is about the identity, or when `IDLE` steps did not lower its value by more than rounding. In
    every pass each problem takes a step of its own: the whole one, which L-BFGS nearly always accepts, or
    after a step that was too long, half of that. Solved problems are left out of further passes.

    V, values, gradients: where to start, (k, c), with the functions' values there (p,), and gradients (k, c).
    joint: whether all columns are one problem, p = 1; otherwise each is one, p = c.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        products = (a * b).sum(0)
        return products.sum()[None] if joint else products

    minima = V.clone()
    columns = torch.arange(V.shape[1], device=V.device)
    pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=PAIRS)
    idle = torch.zeros_like(values)  # steps without a gain
    length, scale = torch.ones_like(values), torch.ones_like(values, dtype=V.dtype)
    for _ in range(passes):
        unsolved = ~((dot(gradients, gradients) < tolerance**2) | (idle >= IDLE))  # NaN is not solved
        if not unsolved.any():
            return minima, 0
        if not unsolved.all():
            columns, V, gradients = columns[unsolved], V[:, unsolved], gradients[:, unsolved]
            values, idle, length, scale = (of_all[unsolved] for of_all in (values, idle, length, scale))
            narrowed = [(s[:, unsolved], y[:, unsolved], rho[unsolved]) for s, y, rho in pairs]
            pairs = deque(narrowed, maxlen=PAIRS)
        direction = -_inverse_hessian_times(gradients, pairs, scale, dot)
        slope = dot(gradients, direction).to(values)
        trial = V + length.to(V) * direction
        new_values, new_gradients = evaluate(trial, columns)
        rounding = ROUNDING * values.abs()
        accepted = new_values <= values + DESCENT * length * slope + rounding
        idle = torch.where(values - new_values > rounding, 0, idle + accepted)
        step = torch.where(accepted, trial - V, 0)
        change = torch.where(accepted, new_gradients - gradients, 0)
        product = dot(step, change)
        curved = product > TINY
        pairs.append((step, change, torch.where(curved, 1 / product.clamp(min=TINY), 0)))
        scale = torch.where(curved, product / dot(change, change).clamp(min=TINY), scale)
        V, gradients = torch.where(accepted, trial, V), torch.where(accepted, new_gradients, gradients)
        values, length = torch.where(accepted, new_values, values), torch.where(accepted, 1.0, length / 2)
        minima[:, columns] = V
    return minima, V.shape[1]


def _inverse_hessian_times(
    gradients: Tensor,
    pairs: deque[tuple[Tensor, Tensor, Tensor]],
    scale: Tensor,
    dot: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The two loops: gradients (k, c), and the remembered steps, changes of gradient and 1 / their products.

    scale: the estimate of the inverse Hessian before the first of them, a number for each problem.
    """
    q, weights = gradients, []
    for step, change, rho in reversed(pairs):
        weights.append(rho * dot(step, q))
        q = q - weights[-1] * change
    q = scale * q
    for (step, change, rho), weight in zip(pairs, reversed(weights), strict=True):
        q = q + (weight - rho * dot(change, q)) * step
    return q
