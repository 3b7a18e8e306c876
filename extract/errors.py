"""What can go wrong in stage 1, beside the errors of `cache`."""

from encode_once.cache import DataError, EncodeOnceError, UsageError


class InputError(DataError):
    """One image or caption that cannot be encoded; the others can.

    Args:
        reason: its type, one word or two that programs may compare: "truncated", "empty", …
        message: what was found, for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooManyFailuresError(DataError):
    """More inputs failed than the user allowed; what was encoded is kept."""


class UnknownEncoderError(UsageError, KeyError):
    """No encoder has that name."""

    __str__ = Exception.__str__  # KeyError would print the message quoted


class WeightsError(EncodeOnceError, OSError):
    """An encoder's weights are not to be had, or do not fit it."""
