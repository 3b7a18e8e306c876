"""Wall-clock time of a function call."""

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

Result = TypeVar("Result")


def timed(work: Callable[[], Result], repeats: int = 1) -> tuple[float, Result]:
    """The median seconds of several calls, and what the last one returned."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return median(seconds), result
