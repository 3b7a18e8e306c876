"""The report of an extraction: encoded rows, failed inputs and warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from encode_once.cache import DataError, Table
from encode_once.extract.errors import InputError
from encode_once.extract.workers import Input, Job


@dataclass
class Counts:
    """The requested rows of a feature by outcome; each row is counted once.

    Rows without content (an empty caption) are not requested.
    """

    encoded: int = 0
    present: int = 0
    failed: int = 0


@dataclass(frozen=True)
class FailedInput:
    """An image or caption that could not be encoded, and why."""

    input: str
    reason: str
    message: str
    features: tuple[str, ...]


@dataclass
class Report:
    """The result of an extraction."""

    tables: list[Table]
    features: dict[str, Counts] = field(default_factory=dict)
    failures: list[FailedInput] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of work, without importing libraries
    loading: float = 0.0  # part of `seconds`: loading the encoders

    @property
    def samples(self) -> int:
        """The number of rows in all tables."""
        return sum(map(len, self.tables))

    def as_json(self) -> dict[str, Any]:
        """The report as the command line prints it."""
        return {
            "samples": self.samples,
            "features": {name: vars(counts) for name, counts in self.features.items()},
            "failures": [vars(failure) for failure in self.failures],
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
        }


def failed_inputs(
    inputs: Sequence[Input], jobs: Sequence[Job], unreadable: Mapping[str, InputError]
) -> list[FailedInput]:
    """All inputs that are missing in a feature."""
    names = tuple(name for job in jobs for name in job.names.values())
    failed = [FailedInput(path, e.reason, str(e), names) for path, e in unreadable.items()]
    failures = {name: errors for job in jobs for name, errors in job.failures().items()}
    for item in inputs:
        by_feature = {name: errors[item.key] for name, errors in failures.items() if item.key in errors}
        if by_feature:
            first = next(iter(by_feature.values()))
            failed.append(FailedInput(item.source, first.reason, first.message, tuple(by_feature)))
    return failed


def check_some_succeeded(report: Report) -> None:
    """Raise if all inputs of a feature failed."""
    for name, counts in report.features.items():
        if counts.failed and not counts.encoded + counts.present:
            first = next(failure for failure in report.failures if name in failure.features)
            raise DataError(
                f"{name}: all {counts.failed} inputs failed, such as {first.input}: "
                f"{first.reason} ({first.message})"
            )
