"""What `--task single` changes in heads of logits: softmax for sigmoid, and cross entropy for BCE."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from encode_once.classify.data.labels import SINGLE


def probabilities(logits: Tensor, task: str) -> Tensor:
    """Probabilities (n, c) of logits (n, c); of the task "single", they sum to 1 in each row."""
    return logits.softmax(1) if task == SINGLE else logits.sigmoid()


def mean_loss(task: str) -> Callable[..., Tensor]:
    """The mean loss of logits and labels in [0, 1], both (n, c); of the task "multi" also weighted."""
    return _cross_entropy if task == SINGLE else binary_cross_entropy_with_logits


def _cross_entropy(logits: Tensor, labels: Tensor, weights: None = None) -> Tensor:
    return cross_entropy(logits, labels)  # its weights are those of classes
