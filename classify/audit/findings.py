"""What an audit finds: a row or a class, what is doubtful about it, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from encode_once.cache import Table
from encode_once.cache.csv_file import write_csv

KINDS = ("leak", "duplicate", "near-duplicate", "label", "rare")  # the most certain first
COLUMNS = (
    "kind", "score", "id", "other", "label", "given", "suggested", "why", "image", "other_image", "caption",
)  # fmt: skip
FIRST = 50  # doubted labels that the expectation is printed for
ABSENT, PRESENT = "absent", "present"  # states of a doubted label


@dataclass(frozen=True, eq=False)
class TableRow:
    """A row of a table, and the split that it is in."""

    table: Table
    row: int
    split: str

    @property
    def id(self) -> str:
        """Its id, unique in the split."""
        return self.table.ids[self.row]

    @property
    def image(self) -> str:
        """Path of its image, or ""."""
        return self.table.images[self.row]

    @property
    def caption(self) -> str:
        """Its first caption, or ""."""
        return self.table.captions[self.row]

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels."""
        return self.table.labels[self.row] if self.table.labels else ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """Its labels that are unknown."""
        return self.table.unknown[self.row] if self.table.unknown else ()


@dataclass(frozen=True, eq=False)
class Finding:
    """Something that a person should look at."""

    kind: str  # of KINDS
    score: float  # 1: there is no doubt
    labels: tuple[str, ...]  # the class, or the classes in which the two rows differ
    given: str
    suggested: str
    why: str
    row: TableRow | None = None  # None for a finding about a class
    other_row: TableRow | None = None  # the row's duplicate

    @property
    def cells(self) -> dict[str, str | float]:
        """The finding as a row of a table with COLUMNS."""
        row, other = self.row, self.other_row
        separator = row.table.label_separator if row else " "
        cells = (
            self.kind,
            self.score,
            row.id if row else "",
            other.id if other else "",
            separator.join(self.labels),
            self.given,
            self.suggested,
            self.why,
            row.image if row else "",
            other.image if other else "",
            row.caption if row else "",
        )
        return dict(zip(COLUMNS, cells, strict=True))


def write(findings: Sequence[Finding], path: Path, *, excel_safe: bool = False) -> None:
    """Write findings as CSV; excel_safe: see `write_csv`."""
    rows = ([*finding.cells.values()] for finding in findings)
    write_csv(path, COLUMNS, rows, excel_safe=excel_safe)


def summary(findings: Sequence[Finding]) -> str:
    """The number of findings of each kind."""
    counts = Counter(finding.kind for finding in findings)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "nothing was found"


def expected_errors(findings: Sequence[Finding], n: int) -> float:
    """How many of the first n doubted labels are errors, if scores are probabilities. They overstate it."""
    return sum(islice((finding.score for finding in findings if finding.kind == "label"), n))


def expectation(findings: Sequence[Finding]) -> str:
    """A line about the first doubted labels; empty if there are none."""
    number = min(sum(finding.kind == "label" for finding in findings), FIRST)
    errors = expected_errors(findings, number)
    if not number:
        return ""
    return (
        f"of the first {number} doubtful labels, the scores predict {errors:.0f} errors, an overestimate, "
        "mostly for labels that may be wrong; the page of -o audit.html corrects it by your decisions"
    )
