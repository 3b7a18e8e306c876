"""The report of an extraction: encoded rows, failed inputs and warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from encode_once.cache import DataError, Table
from encode_once.cache.remote.mirror import Uploads
from encode_once.cache.representation import html_heading, html_table, short_repr
from encode_once.extract.errors import InputError
from encode_once.extract.readers import Reading
from encode_once.extract.workers import EncodingPass

MOST_LISTED = 10_000  # failures in a report


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
    unlisted: int = 0  # further failures; failures.jsonl of each feature has those of all read inputs
    warnings: list[str] = field(default_factory=list)
    reading: Reading | None = None  # what was understood of the data
    seconds: float = 0.0  # of work, without importing libraries
    loading: float = 0.0  # part of `seconds`: loading the encoders
    uploads: Uploads = field(default_factory=Uploads)  # to a store at a URL

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        features = [{"feature": name, **vars(counts)} for name, counts in self.features.items()]
        failures = [{"input": f.input, "reason": f.reason, "message": f.message} for f in self.failures]
        warnings = [{"warning": line} for line in self.warnings]
        heading = html_heading(f"{self.samples:,} samples in {self.seconds:.1f} s")
        return heading + "".join(map(html_table, (features, failures, warnings)))

    @property
    def samples(self) -> int:
        """The number of rows in all tables."""
        return sum(map(len, self.tables))

    @property
    def remarks(self) -> list[str]:
        """The warnings, and how many inputs failed."""
        if not self.failures:
            return self.warnings
        return [
            *self.warnings,
            f"{self.number_failed} inputs could not be encoded, as {self.failures[0].input}",
        ]

    @property
    def number_failed(self) -> int:
        """The number of inputs that failed."""
        return len(self.failures) + self.unlisted

    def add_failures(self, failures: Sequence[FailedInput]) -> None:
        """Add inputs that failed; of very many, the rest is counted."""
        self.failures += failures
        self.unlisted += max(0, len(self.failures) - MOST_LISTED)
        del self.failures[MOST_LISTED:]

    def as_json(self) -> dict[str, Any]:
        """The report as the command line prints it."""
        return {
            "samples": self.samples,
            **(self.reading.as_json() if self.reading else {}),
            "features": {name: vars(counts) for name, counts in self.features.items()},
            "failures": [vars(failure) for failure in self.failures],
            **({"unlisted_failures": self.unlisted} if self.unlisted else {}),
            "warnings": self.warnings,
            **({"uploads": vars(self.uploads)} if self.uploads.parts else {}),
            "seconds": round(self.seconds, 3),
        }


def failed_inputs(encoding_pass: EncodingPass, unreadable: Mapping[str, InputError]) -> list[FailedInput]:
    """All inputs that are missing in a feature; of equal images, each file."""
    jobs = encoding_pass.jobs
    names = tuple(name for job in jobs for name in job.names.values())
    failed = [FailedInput(path, e.reason, str(e), names) for path, e in unreadable.items()]
    failures = {name: errors for job in jobs for name, errors in job.failures().items()}
    keys = {key for errors in failures.values() for key in errors}
    for source, key in encoding_pass.sources(keys):
        by_feature = {name: errors[key] for name, errors in failures.items() if key in errors}
        first = next(iter(by_feature.values()))
        failed.append(FailedInput(source, first.reason, first.message, tuple(by_feature)))
    return failed


def check_some_succeeded(report: Report) -> None:
    """Raise if all inputs of a feature failed."""
    for name, counts in report.features.items():
        if counts.failed and not counts.encoded + counts.present:
            of_feature = (failure for failure in report.failures if name in failure.features)
            first = next(of_feature, report.failures[0])
            raise DataError(
                f"{name}: all {counts.failed} inputs failed, such as {first.input}: "
                f"{first.reason} ({first.message})"
            )
