"""The one training loop of every torch head: AdamW, warm-up then decay, early stopping on validation rows."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

Loss = Callable[[Tensor, Tensor], Tensor]


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within it torch's random numbers follow from the seed; after it the caller's go on undisturbed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def train(
    model: nn.Module,
    X: Tensor,
    Y: Tensor,
    X_val: Tensor,
    Y_val: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int,
    loss: Loss = binary_cross_entropy_with_logits,
    progress: bool = True,
) -> None:
    """Fit the model and leave it in evaluation mode, with the weights of the epoch that did best.

    X (n, ...), Y (n, c) and the validation rows lie on the model's device, labels in floating point; the model
    maps a batch of X to logits. The best epoch has the least loss on the validation rows, and `patience` epochs
    without a better one end the training. The learning rate rises linearly through the first epoch, then falls
    to zero along a cosine. Random numbers are torch's: run it `seeded`.
    """
    batches = math.ceil(len(X) / batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, batches, epochs * batches))
    least, best, since = math.inf, _weights(model), 0
    with tqdm(total=epochs * batches, unit="batch", leave=False, disable=None if progress else True) as bar:
        for _ in range(epochs):
            model.train()
            for rows in torch.randperm(len(X), device=X.device).split(batch_size):
                optimiser.zero_grad()
                loss(model(X[rows]), Y[rows]).backward()
                optimiser.step()
                schedule.step()
                bar.update()
            validation = _evaluate(...)
            if validation < least:
                least, best, since = validation, _weights(model), 0
            elif (since := since + 1) == patience:
                break
    model.load_state_dict(best)
