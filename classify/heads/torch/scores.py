"""Scores of logits on validation rows, by which training is stopped; unknown labels, of -1, are left out."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from encode_once.classify.arrays import UNKNOWN
from encode_once.classify.data.labels import SINGLE

Score = Callable[[Tensor, Tensor], float]  # logits and labels, both (n, c) → a number to maximise


def mean_f1(logits: Tensor, Y: Tensor) -> float:
    """The mean of micro F1 and macro F1 at a threshold of 0.5, over the classes that occur in Y."""
    return (micro_f1(logits, Y) + macro_f1(logits, Y)) / 2


def micro_f1(logits: Tensor, Y: Tensor) -> float:
    """Micro F1 at a threshold of 0.5."""
    hits, sizes = _counts(logits, Y)
    return float(hits.sum() / sizes.sum().clamp(min=1))


def macro_f1(logits: Tensor, Y: Tensor) -> float:
    """Macro F1 at a threshold of 0.5, over the classes that occur in Y; micro F1 if none does."""
    hits, sizes = _counts(logits, Y)
    occurs = (Y == 1).any(0)
    return float((hits[occurs] / sizes[occurs]).mean()) if occurs.any() else micro_f1(logits, Y)


def samples_f1(logits: Tensor, Y: Tensor) -> float:
    """The mean of the rows' F1 at a threshold of 0.5; 0 for a row without labels."""
    rows = (Y != UNKNOWN).any(1)
    hits, sizes = _counts(logits[rows].T, Y[rows].T)
    return float((hits / sizes.clamp(min=1)).mean()) if rows.any() else 0.0


def mean_ap(logits: Tensor, Y: Tensor) -> float:
    """The mean average precision of the classes that occur in Y; 0 if none does."""
    occurs = (Y == 1).any(0)
    if not occurs.any():
        return 0.0
    truth, scores = Y[:, occurs].cpu().numpy(), logits[:, occurs].cpu().numpy()
    if (truth != UNKNOWN).all():
        return float(average_precision_score(truth, scores))
    columns = zip(truth.T, scores.T, strict=True)
    of_classes = [average_precision_score(y[y != UNKNOWN], z[y != UNKNOWN]) for y, z in columns]
    return float(np.mean(of_classes))


def negative_bce(logits: Tensor, Y: Tensor) -> float:
    """Minus the BCE."""
    counted = Y != UNKNOWN
    if not counted.all():
        logits, Y = logits[counted], Y[counted]
    return -float(binary_cross_entropy_with_logits(logits, Y)) if len(Y) else 0.0


def negative_cross_entropy(logits: Tensor, Y: Tensor) -> float:
    """Minus the cross entropy of the softmax."""
    return -float(cross_entropy(logits, Y))


def _counts(logits: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """For each class twice its true positives, and the number of predicted plus true labels, both (c,)."""
    predicted, truth = ((logits >= 0) & (Y != UNKNOWN)).float(), (Y == 1).float()
    return 2 * (predicted * truth).sum(0), predicted.sum(0) + truth.sum(0)


SCORES: dict[str, Score] = {
    "f1": mean_f1,
    "micro": micro_f1,
    "macro": macro_f1,
    "samples": samples_f1,
    "mAP": mean_ap,
    "loss": negative_bce,
}


def score_of(name: str, task: str) -> Score:
    """The score of that name; of the task "single" for the class of the highest logit and the softmax."""
    if task != SINGLE:
        return SCORES[name]
    if name == "loss":
        return negative_cross_entropy
    if name == "mAP":
        return lambda logits, Y: mean_ap(logits.log_softmax(1), Y)
    return lambda logits, Y: SCORES[name](logits - logits.amax(1, keepdim=True), Y)  # only the highest is 0
