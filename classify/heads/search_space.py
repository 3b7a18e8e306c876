"""What `sweep --search` may try of a head's options: a mapping `SPACE` in its class, option → values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, whole ones where both are; with `log`, even in the logarithm."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | Sequence[Any]]  # a sequence holds the values there are
