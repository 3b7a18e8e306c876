"""Which values the options of heads may have: their types, which the heads declare, and their limits."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any

import numpy as np

from encode_once.cache.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Limits:
    """The numbers from low to high; an open end is excluded."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        return above and (number < self.high if self.open_high else number <= self.high)

    def __str__(self) -> str:
        low = f"{'>' if self.open_low else '≥'} {self.low:g}"
        return low if self.high == math.inf else f"{low} and {'<' if self.open_high else '≤'} {self.high:g}"


SHARE = Limits(0, 1, open_high=True)
POSITIVE = Limits(0, open_low=True)
COUNT = Limits(1)
NOT_NEGATIVE = Limits(0)
# An option has the same limits in all heads; those of a list are those of its numbers.
LIMITS = {
    "Cs": POSITIVE,
    "alphas": Limits(0, 1),
    "attention_heads": COUNT,
    "batch_size": COUNT,
    "beam": COUNT,
    "betas": POSITIVE,
    "budget": POSITIVE,
    "class_weights": POSITIVE,
    "components": COUNT,
    "drop_feature": SHARE,
    "dropout": SHARE,
    "epochs": COUNT,
    "folds": Limits(2),
    "hidden": COUNT,
    "hidden_layers": COUNT,
    "input_dropout": SHARE,
    "jobs": Limits(-1),
    "ks": COUNT,
    "label_smoothing": SHARE,
    "layers": COUNT,
    "learning_rate": Limits(0, 10, open_high=True),  # a recipe's adadelta has 5; with 10 heads learn nothing
    "leaves": Limits(2),
    "max_features": Limits(0, 1, open_low=True),
    "members": COUNT,
    "min_rows": COUNT,
    "min_samples_leaf": COUNT,
    "parts": NOT_NEGATIVE,
    "patience": COUNT,
    "rnn_layers": COUNT,
    "rounds": COUNT,
    "rows": COUNT,
    "seed": NOT_NEGATIVE,
    "shots": NOT_NEGATIVE,
    "temperatures": POSITIVE,
    "tolerance": POSITIVE,
    "trees": COUNT,
    "warm_up": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "weights": NOT_NEGATIVE,
    "width": NOT_NEGATIVE,
}
MAY_BE_EMPTY = ("hidden", "hidden_layers")  # no hidden layer
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


def check(
    head: str, option: str, value: Any, default: Any, annotation: Any, choices: Sequence[str] = ()
) -> None:
    """Raise if a value is not of the option's type, or out of its limits.

    annotation: its type; a value of a type that is not known here, such as an array, is not checked.
    choices: the names that it may have; none: any.

    Raises:
        UsageError: the value is wrong; the message says what it may be.
    """
    if not _fits(option, value, annotation):
        raise UsageError(
            f"option {option} of head {head} must be {described(option, annotation)}, not {value!r} "
            f"(default: {shown(default)})"
        )
    if choices and isinstance(value, str) and value not in choices:
        raise unknown_name(option, value, choices)


def described(option: str, annotation: Any, choices: Sequence[str] = ()) -> str:
    """What an option may be, as "a number ≥ 0 and < 1"."""
    if choices:
        return ", ".join(choices)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        texts = dict.fromkeys(described(option, part) for part in parts)
        return " or ".join(texts)
    if annotation is NoneType:
        return "null"
    if annotation in KINDS:
        limits = LIMITS.get(option) if annotation in (int, float) else None
        return f"{KINDS[annotation]} {limits}" if limits else KINDS[annotation]
    if origin and issubclass(origin, Sequence):
        return f"a list, each {described(option, parts[0])}"
    return "names and values" if origin and issubclass(origin, Mapping) else "see the documentation"


def shown(value: Any) -> str:
    """A default as `--set` takes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _fits(option: str, value: Any, annotation: Any) -> bool:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return any(_fits(option, value, part) for part in parts)
    if annotation is NoneType:
        return value is None
    if annotation is bool:
        return isinstance(value, bool | np.bool_)
    if annotation in (int, float):
        number = Integral if annotation is int else Real
        is_number = isinstance(value, number) and not isinstance(value, bool | np.bool_)
        return is_number and (option not in LIMITS or value in LIMITS[option])
    if annotation is str:
        return isinstance(value, str)
    if origin and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if origin and issubclass(origin, Sequence):
        is_list = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        filled = is_list and (len(value) > 0 or option in MAY_BE_EMPTY)
        return filled and all(_fits(option, item, parts[0]) for item in value)
    return True
