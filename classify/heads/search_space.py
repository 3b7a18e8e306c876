"""The values that `sweep --search` tries: option → values, as `SPACE` of a head's class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, integers if both are; with `log`, uniform in the logarithm."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | Sequence[Any]]  # a sequence lists all values
