"""What several heads or vectorisers learned, as named arrays: put together, and parted again."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from encode_once.classify.arrays import State

SIGN = "|"  # behind a name; heads and features have none in theirs


class Stateful(Protocol):
    """What has learned something."""

    def state(self) -> State:
        """What it learned, as named arrays."""
        ...


def joined(learned: Mapping[str, Stateful]) -> State:
    """The states of all, each array as NAME|ARRAY."""
    states = {name: one.state() for name, one in learned.items()}
    return {f"{who}{SIGN}{name}": array for who, state in states.items() for name, array in state.items()}


def part(arrays: Mapping[str, NDArray[Any]], who: str) -> State:
    """The state of one of them."""
    own = f"{who}{SIGN}"
    return {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
