"""Errors of stage 1, in addition to those of `cache`."""

from encode_once.cache import DataError, EncodeOnceError, UsageError


class InputError(DataError):
    """An image or caption cannot be encoded; other inputs are not affected.

    Args:
        reason: the type of error as a short identifier for programs: "truncated", "empty", …
        message: the details, for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooManyFailuresError(DataError):
    """More inputs failed than the user allowed; encoded rows are kept."""


class UnknownEncoderError(UsageError, KeyError):
    """No encoder has that name."""

    __str__ = Exception.__str__  # KeyError would print the message quoted


class WeightsError(EncodeOnceError, OSError):
    """An encoder's weights are not available, or do not fit it."""


class WorkersDiedError(EncodeOnceError, RuntimeError):
    """Processes of a cluster that encode keep dying; encoded rows are kept."""
