"""The training loop of all torch heads, with early stopping on validation rows."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encode_once.cache.errors import unknown_name
from encode_once.cache.progress import ProgressBar
from encode_once.classify.arrays import PartialLabels
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.device import on_device
from encode_once.classify.heads.history import Epoch
from encode_once.classify.heads.torch.batches import Batches
from encode_once.classify.heads.torch.losses import Loss
from encode_once.classify.heads.torch.scores import SCORES, Score

MIN_BATCHES = 50  # an epoch; with fewer, training on a small table would end too early

Criterion = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, rows (b, d), labels (b, c) → loss


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random numbers within the context, and restore the caller's after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


SCHEDULES: dict[str, Callable[[float], float]] = {  # from the share of the steps after the warm-up
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def lr_factor(schedule: str, step: int, warmup: int, steps: int) -> float:
    """The learning rate of a step as a share of the highest: it rises over the warm-up, then falls to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[schedule](min((step - warmup) / max(steps - warmup, 1), 1.0))


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adadelta": torch.optim.Adadelta,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
}


@dataclass(frozen=True)
class TrainingConfig:
    """The options of training that all torch heads have; `TorchHead` documents them."""

    epochs: int
    batch_size: int
    weight_decay: float = 0.0
    patience: int = 5
    optimiser: str = "adamw"
    schedule: str = "cosine"
    warm_up: float = 1.0
    stop_by: str = "f1"
    progress: bool = True

    @classmethod
    def of(cls, head: Any) -> "TrainingConfig":
        """The options of training among those of a head."""
        return cls(**{field.name: getattr(head, field.name) for field in fields(cls)})

    def __post_init__(self) -> None:
        for option, name, choices in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("stop_by", self.stop_by, SCORES),
        ):
            if name not in choices:
                raise unknown_name(option, name, choices)


def train(
    models: Sequence[nn.Module],
    X: MatrixLike,
    Y: PartialLabels,
    X_val: MatrixLike,
    Y_val: PartialLabels,
    learning_rates: Sequence[float],
    config: TrainingConfig,
    criterion: Criterion,
    loss: Loss,
    score: Score | None = None,
    last_epoch: int | None = None,
) -> list[Epoch]:
    """Train models on the same batches and leave each with the weights of its best epoch.

    X is (n, d), Y (n, c); rows are read and put on the models' device a batch at a time (see `Batches`).
    Batches are smaller than asked for if an epoch would have too few. Training stops after `patience` epochs
    in which no model improved its score on the validation rows. Random numbers are torch's: call it within
    `seeded`.

    Args:
        learning_rates: the highest learning rate of each model.
        criterion: what a training step minimises.
        loss: of the validation rows, for the history alone.
        score: of the validation rows, to be maximised; by default that which `config.stop_by` names.
        last_epoch: end with this epoch's weights, whatever the score.

    Returns:
        Every model's losses and score, epoch by epoch. The score is -inf where a logit is not finite.
    """
    score = score or SCORES[config.stop_by]
    device = next(models[0].parameters()).device
    truth = on_device(Y_val, device)
    batch_size = min(config.batch_size, max(len(X) // MIN_BATCHES, 2))  # batch norm needs two rows
    batches = max(len(X) // batch_size, 1)
    epochs = Batches(X, Y, batches, device).epochs()
    groups = [
        {"params": list(model.parameters()), "lr": lr}
        for model, lr in zip(models, learning_rates, strict=True)
    ]
    optimiser = OPTIMISERS[config.optimiser](groups, weight_decay=config.weight_decay)
    warmup, steps = round(config.warm_up * batches), config.epochs * batches
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: lr_factor(config.schedule, step, warmup, steps)
    )
    history: list[Epoch] = []
    best_scores, epochs_without_gain = [-math.inf] * len(models), 0
    best_weights = [model.state_dict() for model in models]
    hidden = None if config.progress else True  # None: only if stderr is not a terminal
    with ProgressBar(total=steps, unit="batch", leave=False, disable=hidden) as bar:
        for epoch in range(1, config.epochs + 1):
            losses = _train_epoch(models, next(epochs), criterion, optimiser, scheduler, bar)
            epochs_without_gain += 1
            for number, (model, train_loss) in enumerate(zip(models, losses, strict=True)):
                outputs = logits(model, X_val)
                reached = score(outputs, truth) if outputs.isfinite().all() else -math.inf
                history.append(Epoch(number, epoch, train_loss, float(loss(outputs, truth)), reached))
                if last_epoch or reached > best_scores[number]:
                    best_scores[number], epochs_without_gain = reached, 0
                    best_weights[number] = {name: value.clone() for name, value in model.state_dict().items()}
            last = history[-len(models) + int(np.argmax(best_scores))]
            bar.set_postfix({"loss": last.loss, config.stop_by: last.validation_score})
            if epoch == last_epoch or epochs_without_gain == config.patience:
                break
    for model, weights in zip(models, best_weights, strict=True):
        model.load_state_dict(weights)
    return history


def _train_epoch(
    models: Sequence[nn.Module],
    batches: Iterable[tuple[Tensor, Tensor]],
    criterion: Criterion,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    bar: ProgressBar,
) -> list[float]:
    """A step of all models on each batch; returns each model's mean loss of the rows."""
    for model in models:
        model.train()
    totals, n = torch.zeros(len(models), device=next(models[0].parameters()).device), 0
    for X, Y in batches:
        optimiser.zero_grad()
        losses = [criterion(model, X, Y) for model in models]
        torch.autograd.backward(losses)
        optimiser.step()
        scheduler.step()
        totals += torch.stack(losses).detach() * len(X)
        n += len(X)
        bar.update()
    return [total / n for total in totals.tolist()]


def logits(model: nn.Module, X: MatrixLike) -> Tensor:
    """The model's logits (n, c) of all rows, computed in evaluation mode, in which the model is left."""
    if model.training:  # to leave that mode takes as long as the logits of a row
        model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(on_device(X[part], device)) for part in chunks(*X.shape)])
