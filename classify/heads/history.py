"""The course of a training: what a loss curve is drawn from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One epoch, or one boosting round, of one of the models that a head trains."""

    model: int  # from 0: networks in the order of learning rates, then members; boosters by class
    epoch: int  # from 1
    loss: float  # the mean over the train rows, while the epoch changed the weights
    validation_loss: float  # the same loss, of the validation rows after the epoch
    validation_score: float | None  # by `stop_by`, -inf if a logit is not finite; None for boosters
