"""What an extraction did: rows encoded, inputs that failed, and what the person should know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from encode_once.cache import DataError, Table
from encode_once.extract.errors import InputError
from encode_once.extract.workers import Input, Job


@dataclass
class Counts:
    """What became of the rows a feature was asked for; each is counted once.

    A row whose table gives it no such content (an empty caption) is not asked for.
    """

    encoded: int = 0
    present: int = 0
    failed: int = 0


@dataclass(frozen=True)
class FailedInput:
    """An image or caption without a vector, and why."""

    input: str
    reason: str
    message: str
    features: tuple[str, ...]


@dataclass
class Report:
    """What an extraction did."""

    tables: list[Table]
    features: dict[str, Counts] = field(default_factory=dict)
    failures: list[FailedInput] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the work, once the libraries are imported
    loading: float = 0.0  # of these, what it took to load the encoders

    @property
    def samples(self) -> int:
        """Rows of all tables."""
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
    """Every input that some feature has no row of."""
    features = [feature for job in jobs for feature in job.features.values()]
    names = tuple(feature.name for feature in features)
    failed = [FailedInput(path, e.reason, str(e), names) for path, e in unreadable.items() if features]
    why = [feature.failures() for feature in features]
    for one in inputs:
        of = {f.name: known[one.key] for f, known in zip(features, why, strict=True) if one.key in known}
        if of:
            first = next(iter(of.values()))
            failed.append(FailedInput(one.source, first.reason, first.message, tuple(of)))
    return failed


def check_some_succeeded(report: Report) -> None:
    """Refuse a report in which all inputs of a feature failed."""
    for name, counts in report.features.items():
        if counts.failed and not counts.encoded + counts.present:
            first = next(failure for failure in report.failures if name in failure.features)
            raise DataError(
                f"{name}: all {counts.failed} inputs failed, such as {first.input}: "
                f"{first.reason} ({first.message})"
            )
