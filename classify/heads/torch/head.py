"""The base of all torch heads: training, scores and state."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import IntArray, PartialLabels, Scores, State, as_labels, as_partial_labels
from encode_once.classify.data.labels import MULTI, SINGLE, TASKS, require_one_label
from encode_once.classify.data.matrix import ColumnView, MatrixLike, column_order
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import class_frequencies
from encode_once.classify.heads.class_weights import CHOICES, NONE, OPTION, ClassWeights, weights_of
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.history import Epoch
from encode_once.classify.heads.search_space import Range, Space
from encode_once.classify.heads.task import probabilities
from encode_once.classify.heads.torch import losses
from encode_once.classify.heads.torch.losses import Loss
from encode_once.classify.heads.torch.scores import SCORES, score_of
from encode_once.classify.heads.torch.training import (
    OPTIMISERS,
    SCHEDULES,
    Criterion,
    TrainingConfig,
    logits,
    seeded,
    train,
)
from encode_once.classify.heads.validation import with_validation
from encode_once.classify.partial import is_partial


@dataclass(eq=False, repr=False)
class TorchHead(Head, Estimator):
    """A network that minimises BCE or another loss, stopped by its score on the validation rows.

    With --task single the loss is the cross entropy of the softmax, and the score that of the likeliest
    class.

    epochs, batch_size: of the train rows; batches are smaller if an epoch would have fewer than 50.
    learning_rate: the highest. If there are several, each trains its own networks on the same batches, and
        that with the best score is kept.
    members: networks to train at once, from different initial weights; their logits are averaged.
    weight_decay, optimiser: "adamw", "adam" (where the decay is an L2 penalty), "adadelta", or "sgd" with
        Nesterov momentum 0.9.
    schedule: "cosine", "linear" or "constant", after a warm-up of `warm_up` epochs.
    patience: epochs without a better score after which training stops.
    stop_by: the score: "f1" (the mean of micro and macro F1), "micro", "macro", "samples", "mAP" or "loss".
    loss: by name, or a function of your own as my.py:loss.
    label_smoothing: how far labels are moved from 0 and 1 towards 1/2.
    class_weights: how often positives count: "auto", as many times as there are negatives for each, up to
        100; a list, or names of classes with weights; of others 1. Of the loss "bce".

    Losses and scores are those of the labels that are known.
    """

    # A subclass is a dataclass as well, whose fields are its further options.

    LOSSES: ClassVar[Sequence[str]] = losses.NAMES
    OWN: ClassVar[Sequence[str]] = ("loss",)
    PARTIAL: ClassVar[bool] = True
    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {
        "optimiser": [*OPTIMISERS],
        "schedule": [*SCHEDULES],
        "stop_by": [*SCORES],
        "task": TASKS,
        OPTION: CHOICES,
    }
    SPACE: ClassVar[Space] = {
        "learning_rate": Range(2e-4, 4e-3, log=True),
        "weight_decay": Range(1e-3, 0.3, log=True),
        "dropout": Range(0.1, 0.7),
        "input_dropout": Range(0.0, 0.6),
    }

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float | Sequence[float] = 1e-3
    members: int = 1
    weight_decay: float = 0.01
    patience: int = 5
    optimiser: str = "adamw"
    schedule: str = "cosine"
    warm_up: float = 1.0
    stop_by: str = "f1"
    loss: str = "bce"
    label_smoothing: float = 0.0
    class_weights: ClassWeights = NONE
    seed: int = 0
    device: str = "auto"
    progress: bool = True
    task: str = MULTI

    def check(self) -> None:
        losses.check(self.loss, self.task, self.class_weights)

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "TorchHead":
        """Learn the labels Y (n, c) of the rows X (n, d).

        Without validation rows, a tenth of the rows chooses the learning rate and the number of epochs; then
        new networks learn from all rows.
        """
        Y = as_partial_labels(Y, len(X)) if self.PARTIAL else as_labels(Y, len(X))
        if self.task == SINGLE:
            require_one_label(Y)
        self.size_ = np.array([X.shape[1], Y.shape[1]])
        classes = column_order(Y)
        weights = weights_of(self.class_weights, Y)
        self._positives = None if weights is None else weights[classes]  # in the networks' order
        columns = column_order(X, getattr(self, "shapes", None))
        X, Y, X_val, Y_val = _ordered(columns, classes, X, Y, X_val, Y_val)
        rows = with_validation(X, Y, X_val, Y_val, self.seed)
        choices = np.atleast_1d(self.learning_rate).astype(np.float64).tolist()
        networks, self.history_ = self._trained(choices, *rows)
        scores = np.reshape([epoch.validation_score for epoch in self.history_], (-1, len(networks)))
        score_of_lr = scores.max(axis=0, initial=-np.inf).reshape(-1, self.members).mean(axis=1)
        if np.isinf(score_of_lr).all():
            raise DataError(f"training diverged at learning rate {max(choices)}: try a lower one")
        best = int(score_of_lr.argmax())
        chosen = slice(best * self.members, (best + 1) * self.members)
        networks = networks[chosen]
        if X_val is None or Y_val is None:
            epochs = scores[:, chosen].argmax(axis=0) + 1
            networks, _ = self._trained([choices[best]], X, Y, *rows[2:], round(epochs.mean()))
        self.network_ = Average(networks, columns, classes).to(choose_device(self.device))
        return self

    def _trained(
        self,
        learning_rates: Sequence[float],
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike,
        Y_val: PartialLabels,
        last_epoch: int | None = None,
    ) -> tuple[list[nn.Module], list[Epoch]]:
        """New networks, `members` of each learning rate, after training, and its history."""
        device = choose_device(self.device)
        has_unknown = is_partial(Y) or is_partial(Y_val)
        loss = losses.make(
            self.loss, Y, self.label_smoothing, self.task, partial=has_unknown, positives=self._positives
        )
        score = score_of(self.stop_by, self.task)
        lrs = np.repeat(learning_rates, self.members).tolist()
        with seeded(self.seed, device):
            networks = [self._network(*self.size_.tolist()).to(device) for _ in lrs]
            for network in networks:
                self._prepare(network, on_device(class_frequencies(Y), device))
            config, criterion = TrainingConfig.of(self), self._criterion(loss)
            rows = X, Y, X_val, Y_val
            return networks, train(networks, *rows, lrs, config, criterion, loss, score, last_epoch)

    def predict_proba(self, X: MatrixLike) -> Scores:
        if not len(X):
            return np.empty((0, self.size_[1]), np.float32)
        scores: Scores = probabilities(logits(self.network_, X), self.task).cpu().numpy()
        return scores

    def state(self) -> State:
        """The numbers of columns and classes, (2,), and the network's weights."""
        weights = {name: value.cpu().numpy() for name, value in self.network_.state_dict().items()}
        return {"size": self.size_, **weights}

    def load_state(self, state: State) -> None:
        """Restore what a network learned.

        Raises:
            ValueError: the weights are not those of the network that the options describe.
        """
        self.size_ = state["size"]
        weights = {name: torch.as_tensor(value) for name, value in state.items() if name != "size"}
        if any(getattr(self, option, 0) > len(weights) for option in ("members", "layers", "rnn_layers")):
            raise ValueError(f"{len(weights)} arrays are too few for the networks and layers of the options")
        with torch.device("meta"):  # without memory, until the shapes are known to be right
            expected = self._average(*self.size_.tolist()).state_dict()
        if _shapes(weights) != _shapes(expected):
            raise ValueError("the weights are not those of the network that the options describe")
        for order in (weights["columns"], weights["classes"]):
            if not torch.equal(order.sort().values, torch.arange(len(order))):
                raise ValueError("the columns or classes of the network are no order of those of the run")
        # Initial weights draw random numbers, although they are replaced.
        with seeded(self.seed, torch.device("cpu")):
            self.network_ = self._average(*self.size_.tolist())
        self.network_.to(choose_device(self.device))
        self.network_.load_state_dict(weights)

    def _average(self, d: int, c: int) -> "Average":
        """New networks, for columns and classes in any order."""
        networks = [self._network(d, c) for _ in range(self.members)]
        return Average(networks, np.arange(d), np.arange(c))

    @abstractmethod
    def _network(self, d: int, c: int) -> nn.Module:
        """A new network from rows (b, d) to logits (b, c)."""

    def _prepare(self, network: nn.Module, frequencies: Tensor) -> None:
        """Initialise the output bias (c,), which is the last parameter, by the class frequencies (c,)."""
        *_, output_bias = network.parameters()
        output_bias.data = frequencies.logit()

    def _criterion(self, loss: Loss) -> Criterion:
        """What training minimises, given the loss of logits that the option `loss` names."""
        return lambda network, X, Y: loss(network(X), Y)


class Average(nn.Module):
    """The mean of the logits of networks, which take columns and give classes in an order of their own.

    columns (d,), classes (c,): the number of each of the networks' columns and classes.
    """

    columns: Tensor
    classes: Tensor

    def __init__(self, networks: Sequence[nn.Module], columns: IntArray, classes: IntArray) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("columns", torch.tensor(columns))
        self.register_buffer("classes", torch.tensor(classes))

    def forward(self, X: Tensor) -> Tensor:
        """(b, c)."""
        X = X.index_select(1, self.columns)
        mean = torch.stack([network(X) for network in self.networks]).mean(0)
        return mean.index_select(1, self.classes.argsort())


def _ordered(
    columns: IntArray,
    classes: IntArray,
    X: MatrixLike,
    Y: PartialLabels,
    X_val: MatrixLike | None,
    Y_val: PartialLabels | None,
) -> tuple[MatrixLike, PartialLabels, MatrixLike | None, PartialLabels | None]:
    """Train and validation rows with columns and classes in these orders."""
    if X_val is None or Y_val is None:
        return ColumnView(X, columns), Y[:, classes], None, None
    Y_val = as_partial_labels(Y_val, len(X_val), Y.shape[1])
    return ColumnView(X, columns), Y[:, classes], ColumnView(X_val, columns), Y_val[:, classes]


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    """The shape and type of each array; files have numbers, such as batch norm's count, as arrays of one."""
    return {name: (tuple(value.shape) or (1,), value.dtype) for name, value in weights.items()}
