"""Losses of logits against labels in [0, 1], by name. Unknown labels, of -1, are left out.

`file.py:name` is a function of the user's own; packages add others by the entry points `encode_once.losses`.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import isfunction

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    logsigmoid,
    multilabel_soft_margin_loss,
)

from encode_once.cache import own_code
from encode_once.cache.errors import UsageError, brief, unknown_name
from encode_once.classify.arrays import UNKNOWN, FloatArray, PartialLabels
from encode_once.classify.data.labels import MULTI, SINGLE
from encode_once.classify.heads.class_weights import NONE, OPTION, ClassWeights, balanced, is_set

Loss = Callable[[Tensor, Tensor], Tensor]  # logits and labels, both (n, c) → a scalar to minimise

FOCUS = 2.0  # γ of the focal loss
FOCUS_POSITIVE, FOCUS_NEGATIVE, MARGIN = 1.0, 4.0, 0.05  # of the asymmetric loss


def focal(logits: Tensor, Y: Tensor) -> Tensor:
    """BCE where a label predicted with probability p is weighted by (1 - p)^γ (Lin et al., ICCV 2017)."""
    missed = (Y - logits.sigmoid()).abs()
    cross_entropy = binary_cross_entropy_with_logits(logits, Y, reduction="none")
    return (missed**FOCUS * cross_entropy).mean()


def asymmetric(logits: Tensor, Y: Tensor) -> Tensor:
    """The focal loss with different γ for positives and negatives, and a margin (Ridnik et al., ICCV 2021).

    The probability p of a negative is replaced by p - margin, at least 0.
    """
    p = logits.sigmoid()
    shifted = (p - MARGIN).clamp(min=0)
    of_positives = Y * (1 - p) ** FOCUS_POSITIVE * logsigmoid(logits)
    of_negatives = (1 - Y) * shifted**FOCUS_NEGATIVE * (1 - shifted).clamp(min=1e-8).log()
    return -(of_positives + of_negatives).mean()


PLAIN: dict[str, Loss] = {
    "bce": binary_cross_entropy_with_logits,
    "soft-margin": multilabel_soft_margin_loss,
    "focal": focal,
    "asymmetric": asymmetric,
}
USUAL = "bce"  # the default, which is the cross entropy of the softmax for --task single
WEIGHTED = "bce+pos_weight"  # the same as "bce" with `class_weights` "auto"
NAMES = (*PLAIN, WEIGHTED)
GROUP = "encode_once.losses"


def make(
    name: str,
    Y: PartialLabels,
    smoothing: float = 0.0,
    task: str = MULTI,
    *,
    partial: bool = False,
    positives: FloatArray | None = None,
) -> Loss:
    """The loss of that name for train labels Y (n, c). A smoothing s replaces 0 and 1 by s/2 and 1 - s/2.

    Of the task "single" it replaces them by s/c and 1 - s + s/c, which sum to 1.

    partial: whether labels may be unknown, which are -1; the loss is then the mean of the others.
    positives: weights (c,) of the positives of each class, of the loss "bce".

    Raises:
        UsageError: the name is unknown, or the loss is not for this task; or labels may be unknown and the
            loss is other people's: it may compare the labels of a row.
    """
    if partial and name not in NAMES:
        raise UsageError(
            f"loss {name} may need all labels of a row, and some are unknown: choose {', '.join(NAMES)}"
        )
    check(name, task)
    if task == SINGLE:
        single = cross_entropy if name == USUAL else find(name)
        return lambda logits, Y: single(logits, Y * (1 - smoothing) + smoothing / Y.shape[1])
    positives = balanced(Y) if name == WEIGHTED else positives
    weights = None if positives is None else torch.tensor(positives, dtype=torch.float32)
    loss = find(name) if weights is None else lambda z, y: _weighted(z, y, weights)
    smoothed = loss if not smoothing else lambda z, y: loss(z, y * (1 - smoothing) + smoothing / 2)
    if not partial:
        return smoothed

    def of_known(logits: Tensor, labels: Tensor) -> Tensor:
        rows, classes = (labels != UNKNOWN).nonzero(as_tuple=True)
        if not len(rows):
            return 0 * logits.sum()
        z, y = logits[rows, classes][:, None], labels[rows, classes][:, None]
        if smoothing:
            y = y * (1 - smoothing) + smoothing / 2
        if weights is None:
            return loss(z, y)
        return binary_cross_entropy_with_logits(z, y, pos_weight=weights.to(z.device)[classes][:, None])

    return of_known


def check(name: str, task: str, class_weights: ClassWeights = NONE) -> None:
    """Raise for an unknown name, and for one of the losses of several labels if each row has one.

    Class weights are of the loss "bce" of several labels.

    Raises:
        UsageError: see above.
    """
    if task == SINGLE and name != USUAL and name in NAMES:
        raise UsageError(
            f"loss {name} is for any number of labels per row: leave it out, and --task single minimises the "
            "cross entropy of the softmax"
        )
    if is_set(class_weights) and (task == SINGLE or name != USUAL):
        raise UsageError(f"{OPTION} are for loss {USUAL}, and not for --task single: leave them out")
    if name != WEIGHTED:
        find(name)


def find(name: str) -> Loss:
    """The loss of a name that needs no labels, other people's included.

    Raises:
        UntrustedError: it is in a file that is not trusted.
        UsageError: the name is unknown, or the function gives no number to minimise.
    """
    if name in PLAIN:
        return PLAIN[name]
    if own_code.is_own(name):
        loss: Loss = own_code.load(name, "loss", isfunction)
    else:
        plugins = {point.name: point for point in entry_points(group=GROUP)}
        if name not in plugins:
            raise unknown_name("loss", name, [*NAMES, *plugins])
        loss = plugins[name].load()
    _try(name, loss)
    return loss


def _try(name: str, loss: Loss) -> None:
    """Raise if a loss does not take logits and labels (n, c) to a number with a gradient."""
    logits, Y = torch.zeros(2, 3, requires_grad=True), torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    try:
        value = loss(logits, Y)
    except Exception as error:  # other people's code may raise anything
        raise UsageError(f"loss {name} fails on logits and labels (2, 3): {brief(error)}") from error
    if not (isinstance(value, Tensor) and value.dim() == 0 and value.requires_grad):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"loss {name} must return a scalar with a gradient for logits and labels, not {shape}"
        )


def _weighted(logits: Tensor, Y: Tensor, weights: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, Y, pos_weight=weights.to(logits.device))
