"""Load weights: errors are a line with a remedy, and libraries print no progress of their own."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from encode_once.cache.errors import brief
from encode_once.extract.errors import WeightsError


def quiet_downloads() -> AbstractContextManager[None]:
    """A context manager in which the hub's bars appear on a terminal only: in a log they are noise."""
    return nullcontext() if sys.stderr.isatty() else without_hub_bars()


@contextmanager
def without_hub_bars() -> Iterator[None]:
    """A context manager in which the hub shows no bars, unless the user's environment says something."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ:
        yield
        return
    restore = disable_progress_bars if are_progress_bars_disabled() else enable_progress_bars
    disable_progress_bars()
    try:
        yield
    finally:
        restore()


@contextmanager
def weights_errors(problem: str, remedy: str = "") -> Iterator[None]:
    """Turn any error into a WeightsError: "problem (error); remedy".

    Hubs, files, state dicts and onnxruntime raise errors that have no common class. A WeightsError passes
    unchanged: it has its own remedy. So does a MemoryError, which says nothing about the weights.
    """
    try:
        yield
    except (WeightsError, MemoryError):
        raise
    except Exception as error:
        message = f"{problem} ({brief(error)})"
        raise WeightsError(f"{message}; {remedy}" if remedy else message) from error
