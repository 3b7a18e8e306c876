"""Merge and split the states of several heads or vectorisers."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import State

SEPARATOR = "|"  # between owner and array; it cannot occur in the names of heads and features
SKOPS = "skops"  # the array of a state that is a file of skops
INFINITE = np.finfo(np.float32).max  # in the file for an infinite scale: infinity is refused as damage
MAY_BE_INFINITE = ("temperature",)  # arrays of a state; at an infinite temperature all neighbours vote alike


def is_restored(name: str) -> bool:
    """Whether an array of merged states is a file of skops."""
    return name.rpartition(SEPARATOR)[2] == SKOPS


class Stateful(Protocol):
    """A head or a vectoriser."""

    def state(self) -> State:
        """What was learned, as named arrays."""
        ...


def merge(owners: Mapping[str, Stateful]) -> State:
    """The states of all owners, each array as OWNER|ARRAY."""
    states = {name: owner.state() for name, owner in owners.items()}
    return {
        f"{owner}{SEPARATOR}{name}": array for owner, state in states.items() for name, array in state.items()
    }


def state_of(owner: str, merged: Mapping[str, NDArray[Any]]) -> State:
    """The state of an owner among merged states."""
    prefix = f"{owner}{SEPARATOR}"
    return {name.removeprefix(prefix): array for name, array in merged.items() if name.startswith(prefix)}
