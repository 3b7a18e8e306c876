"""Report errors in loading weights as a line with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from encode_once.cache.errors import brief
from encode_once.extract.errors import WeightsError


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
