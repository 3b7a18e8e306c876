"""The one training loop of every torch head: AdamW, warm-up then decay, early stopping on validation rows."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from classify.matrices import MatrixLike, Selected, chunks
from classify.splits import inner

LEAST_BATCHES = 50  # an epoch; with fewer a small table would end before it has been learned

Labels = NDArray[np.bool_]
Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and labels, both (n, c)
Score = Callable[[Tensor, Tensor], float]


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def on_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Features or labels as float32 on the device."""
    return torch.as_tensor(array, dtype=torch.float32, device=device)


def fill(tensor: Tensor, X: MatrixLike | Labels) -> Tensor:
    """The tensor (n, d), given the values of X chunk by chunk."""
    for part in chunks(len(X)):
        tensor[part] = torch.as_tensor(X[part])
    return tensor


def gatherer(X: MatrixLike | Labels, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What gives rows of X, by their numbers (m,) on the device, as float32 there.

    A CUDA device keeps all of X if that takes less than half of its free memory; else each call reads anew.
    """
    if device.type == "cuda" and 4 * math.prod(X.shape) < torch.cuda.mem_get_info(device)[0] / 2:
        return fill(torch.empty(X.shape, device=device), X).__getitem__
    return lambda rows: on_device(X[rows.cpu().numpy()], device)


def with_validation(
    X: MatrixLike, Y: Labels, X_val: MatrixLike | None, Y_val: Labels | None, seed: int
) -> tuple[MatrixLike, Labels, MatrixLike, Labels]:
    """Rows to learn from and rows to validate on; without any of these, a tenth of the others is held out."""
    if X_val is not None and Y_val is not None:
        return X, Y, X_val, Y_val
    rows, held = inner(Y, np.arange(len(Y)), seed=seed)
    return Selected(X, rows), Y[rows], Selected(X, held), Y[held]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within it torch's random numbers follow from the seed; after it the caller's go on undisturbed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def mean_f1(logits: Tensor, Y: Tensor) -> float:
    """The mean of micro F1 and macro F1 at a cut of 0.5, over the classes that occur in Y."""
    predicted = (logits >= 0).float()
    hits = 2 * (predicted * Y).sum(0)  # (c,)
    sizes = predicted.sum(0) + Y.sum(0)
    occurs = Y.any(0)
    micro = hits.sum() / sizes.sum().clamp(min=1)
    macro = (hits[occurs] / sizes[occurs]).mean() if occurs.any() else micro
    return float(micro + macro) / 2


def train(
    model: nn.Module,
    X: MatrixLike,
    Y: Labels,
    X_val: MatrixLike,
    Y_val: Labels,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int,
    loss: Loss = binary_cross_entropy_with_logits,
    score: Score = mean_f1,
    progress: bool = True,
) -> None:
    """Fit the model and leave it with the weights of the epoch that scored best on the validation rows.

    X is (n, d), Y (n, c); rows are read and put on the model's device a batch at a time (see `gatherer`). The
    model maps a batch of X to logits. After `patience` epochs without a higher score training stops. The
    learning rate rises linearly through the first epoch, then falls along a cosine to zero by the end of the
    last. Batches are smaller where an epoch would have too few. Random numbers are torch's: train within
    `seeded`.
    """
    device = next(model.parameters()).device
    features, labels, truth = gatherer(X, device), gatherer(Y, device), on_device(Y_val, device)
    batch_size = min(batch_size, max(len(X) // LEAST_BATCHES, 1))
    batches = math.ceil(len(X) / batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate(step, batches, epochs * batches)
    )
    best, weights, waited = -math.inf, {}, 0
    with tqdm(total=epochs * batches, unit="batch", leave=False, disable=None if progress else True) as bar:
        for _ in range(epochs):
            model.train()
            for rows in torch.split(torch.randperm(len(X), device=device), batch_size):
                optimiser.zero_grad()
                torch.autograd.backward(loss(model(features(rows)), labels(rows)))
                optimiser.step()
                schedule.step()
                bar.update()
            reached = score(logits(model, X_val), truth)
            if reached > best:
                best, waited = reached, 0
                weights = {name: value.clone() for name, value in model.state_dict().items()}
            elif (waited := waited + 1) == patience:
                break
    model.load_state_dict(weights)


def rate(step: int, warm_up: int, steps: int) -> float:
    """The learning rate of a step as a share of the highest: up a line to warm_up, then down a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1))) / 2


def logits(model: nn.Module, X: MatrixLike) -> Tensor:
    """The model's logits of all rows, (n, c), computed in evaluation mode, which it is left in."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(on_device(X[part], device)) for part in chunks(len(X))])
