"""The one training loop of every torch head: early stopping on validation rows, the best weights restored."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from encode_once.cache.errors import unknown_name
from encode_once.cache.progress import ProgressBar
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.device import on_device

LEAST_BATCHES = 50  # an epoch; with fewer a small table would end before it has been learned

Criterion = Callable[[nn.Module, Tensor, Tensor], Tensor]  # of a model, rows (b, d) and labels (b, c)
Score = Callable[[Tensor, Tensor], float]  # of logits and labels, both (n, c); higher is better


def fill(tensor: Tensor, X: MatrixLike | LabelMatrix) -> Tensor:
    """The tensor (n, d), given the values of X chunk by chunk."""
    for part in chunks(*X.shape):
        tensor[part] = torch.as_tensor(X[part])
    return tensor


def gatherer(X: MatrixLike | LabelMatrix, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What gives rows of X, by their numbers (m,) on the device, as float32 there.

    A CUDA device keeps all of X if that takes less than half of its free memory; else each call reads anew.
    """
    if device.type == "cuda" and 4 * math.prod(X.shape) < torch.cuda.mem_get_info(device)[0] / 2:
        return fill(torch.empty(X.shape, device=device), X).__getitem__
    return lambda rows: on_device(X[rows.cpu().numpy()], device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within it torch's random numbers follow from the seed; after it the caller's go on undisturbed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def mean_f1(logits: Tensor, Y: Tensor) -> float:
    """The mean of micro F1 and macro F1 at a cut of 0.5, over the classes that occur in Y."""
    return (micro_f1(logits, Y) + macro_f1(logits, Y)) / 2


def micro_f1(logits: Tensor, Y: Tensor) -> float:
    """Micro F1 at a cut of 0.5."""
    hits, sizes = _agreement(logits, Y)
    return float(hits.sum() / sizes.sum().clamp(min=1))


def macro_f1(logits: Tensor, Y: Tensor) -> float:
    """Macro F1 at a cut of 0.5, over the classes that occur in Y; micro F1 where none does."""
    hits, sizes = _agreement(logits, Y)
    occurs = Y.any(0)
    return float((hits[occurs] / sizes[occurs]).mean()) if occurs.any() else micro_f1(logits, Y)


def samples_f1(logits: Tensor, Y: Tensor) -> float:
    """The mean of the rows' F1 at a cut of 0.5; 0 for a row without labels."""
    hits, sizes = _agreement(logits.T, Y.T)
    return float((hits / sizes.clamp(min=1)).mean())


def mean_ap(logits: Tensor, Y: Tensor) -> float:
    """The mean average precision of the classes that occur in Y; 0 where none does."""
    occurs = Y.any(0)
    if not occurs.any():
        return 0.0
    return float(average_precision_score(Y[:, occurs].cpu().numpy(), logits[:, occurs].cpu().numpy()))


def negative_bce(logits: Tensor, Y: Tensor) -> float:
    """Minus the BCE: the less loss the better."""
    return -float(binary_cross_entropy_with_logits(logits, Y))


def _agreement(logits: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Of each class, twice the labels rightly given, and the labels given and true together, (c,) both."""
    predicted = (logits >= 0).float()
    return 2 * (predicted * Y).sum(0), predicted.sum(0) + Y.sum(0)


SCORES: dict[str, Score] = {
    "f1": mean_f1,
    "micro": micro_f1,
    "macro": macro_f1,
    "samples": samples_f1,
    "mAP": mean_ap,
    "loss": negative_bce,
}


def rise_and_cosine(step: int, warm_up: int, steps: int) -> float:
    """The learning rate of a step as a share of the highest: up a line to warm_up, down a cosine to 0."""
    return _rise(step, warm_up) or (1 + math.cos(math.pi * _done(step, warm_up, steps))) / 2


def rise_and_line(step: int, warm_up: int, steps: int) -> float:
    """The same, down a line."""
    return _rise(step, warm_up) or 1 - _done(step, warm_up, steps)


def rise_and_stay(step: int, warm_up: int, steps: int) -> float:
    """The same, and no way down."""
    return _rise(step, warm_up) or 1.0


def _rise(step: int, warm_up: int) -> float:
    return (step + 1) / warm_up if step < warm_up else 0.0


def _done(step: int, warm_up: int, steps: int) -> float:
    return min((step - warm_up) / max(steps - warm_up, 1), 1.0)


SCHEDULES = {"cosine": rise_and_cosine, "linear": rise_and_line, "constant": rise_and_stay}
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adadelta": torch.optim.Adadelta,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
}


@dataclass(frozen=True)
class Training:
    """How a torch head is trained: the options that every one of them has, as `TorchHead` explains them."""

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
    def of(cls, head: Any) -> "Training":
        """Those of a head's options that say how it is trained."""
        return cls(**{one.name: getattr(head, one.name) for one in fields(cls)})

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("stop_by", self.stop_by, SCORES),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)


def train(
    models: Sequence[nn.Module],
    X: MatrixLike,
    Y: LabelMatrix,
    X_val: MatrixLike,
    Y_val: LabelMatrix,
    learning_rates: Sequence[float],
    how: Training,
    loss: Criterion,
    score: Score | None = None,
) -> list[float]:
    """Fit models at once, each at its learning rate; return the best score of each, at which it is left.

    It is minus infinity of a model whose training diverged.

    X is (n, d), Y (n, c); rows are read and put on the models' device a batch at a time (see `gatherer`). A
    model maps a batch of X to logits. After `patience` epochs in which none reaches a higher score on the
    validation rows, training stops. Batches are smaller where an epoch would have too few. Random numbers are
    torch's: train within `seeded`.
    """
    score = score or SCORES[how.stop_by]
    device = next(models[0].parameters()).device
    features, labels, truth = gatherer(X, device), gatherer(Y, device), on_device(Y_val, device)
    batch_size = min(how.batch_size, max(len(X) // LEAST_BATCHES, 2))  # batch norm needs two rows
    batches = max(len(X) // batch_size, 1)
    groups = [
        {"params": list(model.parameters()), "lr": rate}
        for model, rate in zip(models, learning_rates, strict=True)
    ]
    optimiser = OPTIMISERS[how.optimiser](groups, weight_decay=how.weight_decay)
    share = partial(SCHEDULES[how.schedule], warm_up=round(how.warm_up * batches), steps=how.epochs * batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: share(step))
    best, waited = [-math.inf] * len(models), 0
    weights: list[dict[str, Tensor]] = [{} for _ in models]
    with ProgressBar(
        total=how.epochs * batches, unit="batch", leave=False, disable=None if how.progress else True
    ) as bar:
        for _ in range(how.epochs):
            for model in models:
                model.train()
            for rows in torch.tensor_split(torch.randperm(len(X), device=device), batches):
                some, their_labels = features(rows), labels(rows)
                optimiser.zero_grad()
                torch.autograd.backward([loss(model, some, their_labels) for model in models])
                optimiser.step()
                schedule.step()
                bar.update()
            waited += 1
            for number, model in enumerate(models):
                found = logits(model, X_val)
                reached = score(found, truth) if found.isfinite().all() else -math.inf
                if reached > best[number]:
                    best[number], waited = reached, 0
                    weights[number] = {name: value.clone() for name, value in model.state_dict().items()}
            bar.set_postfix({how.stop_by: max(best)})
            if waited == how.patience:
                break
    for model, best_weights in zip(models, weights, strict=True):
        model.load_state_dict(best_weights or model.state_dict())
    return best


def logits(model: nn.Module, X: MatrixLike) -> Tensor:
    """The model's logits of all rows, (n, c), computed in evaluation mode, which it is left in."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(on_device(X[part], device)) for part in chunks(*X.shape)])
