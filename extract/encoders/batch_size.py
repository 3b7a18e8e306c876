"""The batch size with which a device encodes the most inputs per second."""

from collections.abc import Callable

FASTER = 1.05  # as many inputs per second, at least, for a batch of twice the size


def grown_batch(seconds: Callable[[int], float], first: int, most: int) -> int:
    """The batch size that encodes the most inputs per second: doubled until memory or speed stops it.

    Args:
        seconds: to encode a batch of that size; may raise torch.OutOfMemoryError.
        first: the size to begin with; halved where that does not fit into memory.
        most: the largest size.
    """
    size = best = max(1, min(first, most))
    rate = 0.0
    while size <= most:
        try:
            size_rate = size / seconds(size)
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
            if rate:
                break
            size, most = size // 2, size // 2
            continue
        if size_rate < FASTER * rate:
            break
        best, rate = size, size_rate
        size *= 2
    return best


def out_of_memory(error: Exception) -> bool:
    """Whether torch says that a device has no more memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError)
