"""The option `class_weights`: how much positive rows of each class weigh in the sum of a loss.

A weight w of a class counts each of its positives w times. Its scores rise by about log w in logits, so that
they are not probabilities until they are calibrated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.classify.arrays import FloatArray, PartialLabels

OPTION = "class_weights"
NONE, AUTO = "none", "auto"
CHOICES = (NONE, AUTO)
MAX_WEIGHT = 100.0  # of "auto", so that a single row does not dominate a step
ClassWeights = str | Sequence[float] | Mapping[str, float]


def balanced(Y: PartialLabels) -> FloatArray:
    """The ratio of negatives to positives of each class, (c,), up to `MAX_WEIGHT`."""
    ratios = (Y == 0).sum(axis=0) / (Y == 1).sum(axis=0).clip(min=1)
    return np.asarray(ratios.clip(max=MAX_WEIGHT), np.float64)


def weights_of(option: ClassWeights, Y: PartialLabels) -> FloatArray | None:
    """The weights (c,) of positives that the option says, for train labels Y (n, c); None: all weigh 1.

    Raises:
        UsageError: there are not as many as classes, or they have names, which heads do not know.
    """
    if isinstance(option, str):
        return balanced(Y) if option == AUTO else None
    if isinstance(option, Mapping):
        raise UsageError(f"{OPTION} by name are for fit, which knows the classes: pass a list, one for each")
    if len(option) != Y.shape[1]:
        raise UsageError(f"{OPTION} has {len(option)} weights for {Y.shape[1]} classes")
    return np.array(option, np.float64)


def in_order(options: Mapping[str, Any], classes: Sequence[str] | None) -> dict[str, Any]:
    """Options of a head with weights by name replaced by a list in the order of the classes.

    Raises:
        UsageError: there is no such class, or a weight is no positive number.
    """
    named = options.get(OPTION)
    if not isinstance(named, Mapping) or classes is None:
        return dict(options)
    for name, weight in named.items():
        if name not in classes:
            raise unknown_name("class", name, classes)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < np.inf:
            raise UsageError(f"{OPTION}: the weight of {name} is {weight!r}; use a number above 0")
    return {**options, OPTION: [float(named.get(name, 1)) for name in classes]}


def is_set(option: ClassWeights) -> bool:
    """Whether the option weighs positives; an array has no truth value, so that `!=` would fail."""
    return not (isinstance(option, str) and option == NONE)


def are_set(options: Mapping[str, Any]) -> bool:
    """Whether options of a head weigh positives, also by the loss `bce+pos_weight`."""
    return is_set(options.get(OPTION, NONE)) or options.get("loss") == "bce+pos_weight"
