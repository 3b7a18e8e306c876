"""Likely errors in a run's data: leaks, duplicates with other labels, doubtful labels, rare classes.

Kinds of findings, the most certain first; `score` is 1 if there is no doubt:

leak            an eval row, or a row of another table, with a duplicate among the rows the run was fitted on
duplicate       a row of the same content as another, with other labels
near-duplicate  a row with nearly the same image vectors as another, with other labels; score: their cosine
label           a label that is doubtful by the scores of a model that has not seen the row; score: 1 minus
                the probability of the present state. Missing and wrong labels alternate, each by score,
                because their scores are not comparable: of 9,000 photographs with 150 labels removed and 150
                added, 45 of the first 50 labels reported as missing had been removed, but only 19 of the
                first 50 reported as wrong had been added; most others are objects too small for the model
rare            a class too rare to tune a threshold; score: the uncertainty of its recall
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from encode_once.cache import MissingDataError, MissingRowsError, Store, Table
from encode_once.classify.arrays import IntArray, LabelMatrix, RowIndex, Vectors
from encode_once.classify.audit import cross_split
from encode_once.classify.audit.cross_split import Pair, likeness
from encode_once.classify.audit.doubt import doubtful
from encode_once.classify.audit.findings import ABSENT, KINDS, PRESENT, Finding, TableRow
from encode_once.classify.data import features as featuring
from encode_once.classify.data.features import StoredFeature
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.splits import TABLES
from encode_once.classify.partial import positives
from encode_once.classify.runs.own_table import own_table
from encode_once.classify.runs.predict import fitted_store, sources
from encode_once.classify.runs.run import Run

# With efficientnet-lite0, none of the 40 million pairs of 9,000 photographs of MS-COCO reaches .9. Of 300
# copies, all that were saved as JPEG of quality 50 reach .95, 96 % of brighter ones, 85 % of mirrored ones,
# 53 % of those with 3 % cut off each side, and 4 % of halved ones. Nearly all of these reach .9, and half of
# the halved ones; but CLIP-like encoders give different pictures of the same subject more similar vectors.
NEAR = 0.95
# Recall r over m positives has a standard error of √(r (1 - r) / m), at most 1 / (2 √m). So its 95 % interval
# is within ± 0.98 / √m, which is less than ± 0.2 from 25 positives on.
MIN_POSITIVES = 25


class Audit(NamedTuple):
    """What an audit finds."""

    findings: list[Finding]  # the most certain first
    warnings: list[str]  # about skipped checks
    table: Table  # that the run was fitted on


def audit(run: Run, near: float = NEAR, device: str = "auto") -> Audit:
    """Find likely errors in the data of a run.

    Args:
        near: minimum cosine of near-duplicates.
        device: where near-duplicates are compared.

    Raises:
        EncodeOnceError: the table or the features are not what the run was fitted on.
        DataError: more than a million pairs of rows are near-duplicates.
    """
    audited = _AuditedTable.of(run, device)
    duplicates = [*_duplicates(audited, near), *_leaks_of_other_tables(audited, near)]
    duplicates.sort(key=lambda finding: (KINDS.index(finding.kind), -finding.score))
    findings = [*duplicates, *_doubtful_labels(audited), *_rare_classes(run)]
    return Audit(findings, audited.warnings, audited.table)


@dataclass(frozen=True)
class _AuditedTable:
    """A run's table, and how the run used each of its rows."""

    run: Run
    store: Store
    table: Table
    rows: RowIndex  # (m,): of `run.eval`
    parts: IntArray  # (n,): -1 for a train or validation row, else its fold, or 0
    sources: Sequence[StoredFeature]  # image features with one vector per row
    warnings: list[str]
    device: str  # where near-duplicates are compared

    @classmethod
    def of(cls, run: Run, device: str) -> "_AuditedTable":
        warnings, store, evaluated = list[str](), fitted_store(run), run.eval
        table, rows = own_table(run, store)
        if table.source != run.record.table:
            warnings.append(f"{run.record.table} was moved: {table.source} has its rows, and is audited")
        parts = np.full(len(table), -1)
        parts[rows] = 0 if evaluated.folds is None else evaluated.folds
        images = [
            source
            for source in sources(run, store)
            if isinstance(source, StoredFeature)
            and source.feature.modality == "image"
            and not source.feature.ragged
        ]
        if not images:
            warnings.append("near-duplicates are not looked for: the run has no image feature of one vector")
        return cls(run, store, table, rows, parts, images, warnings, device)

    @property
    def cross_validated(self) -> bool:
        return self.run.eval.folds is not None

    def row(self, row: int) -> TableRow:
        """A row of the audited table."""
        table = self.table
        stacked = self.run.spec.split == TABLES
        return TableRow(table, row, table.columns[TABLES][row] if stacked else table.split)

    @cached_property
    def own_vectors(self) -> Vectors | None:
        """The `vectors` of the audited table itself."""
        return self.vectors(self.table)

    def vectors(self, table: Table) -> Vectors | None:
        """Image vectors (n, d) whose cosines are the means of those of the run's image features, if any.

        NaN for a row without one.
        """
        if not self.sources:
            return None
        blocks = []
        for source in self.sources:
            X = featuring.load([source], table)[:]
            with np.errstate(invalid="ignore"):
                blocks.append(X / np.linalg.norm(X, axis=1, keepdims=True))
        return np.concatenate(blocks, axis=1)


def _duplicates(audited: _AuditedTable, near: float) -> Iterator[Finding]:
    """Leaks and contradictions within the table."""
    table, parts = audited.table, audited.parts
    assert table.labels is not None
    leaks, contradictions = cross_split.within(table, parts, audited.own_vectors, near, audited.device)
    for pair in leaks:
        alike = likeness(pair, table, table)
        why = f"an eval row, but {alike}, which the run was fitted on"
        if audited.cross_validated:
            why = f"in fold {parts[pair.row] + 1}, but {alike}, in fold {parts[pair.other] + 1}"
        yield _leak(pair, audited.row(pair.row), audited.row(pair.other), why)
    for pair in contradictions:
        row, other = audited.row(pair.row), audited.row(pair.other)
        alike = likeness(pair, table, table)
        unknown = {*row.unknown, *other.unknown}
        differing = [
            name
            for name in audited.run.record.classes
            if (name in row.labels) != (name in other.labels) and name not in unknown
        ]
        yield Finding(
            "duplicate" if pair.exact else "near-duplicate",
            round(pair.cosine, 4),
            tuple(differing),
            given=table.label_separator.join(row.labels),
            suggested=table.label_separator.join(other.labels),
            why=f"{alike}, but labelled otherwise: they differ in {', '.join(differing)}",
            row=row,
            other_row=other,
        )


def _leaks_of_other_tables(audited: _AuditedTable, near: float) -> Iterator[Finding]:
    """Rows of the store's other tables with duplicates among the rows that the run was fitted on."""
    own = {audited.table.source, *audited.table.more_sources}
    headers = [header for header in audited.store.headers() if header.source not in own]
    if not headers:
        return
    all_rows = np.arange(len(audited.table))
    fitted = all_rows if audited.cross_validated else np.flatnonzero(audited.parts < 0)
    fitted_keys, vectors = content_keys(audited.table)[fitted], audited.own_vectors
    fitted_vectors = None if vectors is None else vectors[fitted]
    for table in map(audited.store.load, headers):
        try:
            vectors = audited.vectors(table)
        except MissingRowsError as error:
            vectors = None
            audited.warnings.append(f"near-duplicates in {table.split} are not looked for: {error}")
        keys = content_keys(table)
        for pair in cross_split.across(keys, fitted_keys, vectors, fitted_vectors, near, audited.device):
            pair = pair._replace(other=int(fitted[pair.other]))
            alike = likeness(pair, table, audited.table)
            why = f"in {table.split}, but {alike}, which the run was fitted on"
            row = TableRow(table, pair.row, table.split)
            yield _leak(pair, row, audited.row(pair.other), why)


def _leak(pair: Pair, row: TableRow, other: TableRow, why: str) -> Finding:
    labels = row.table.label_separator.join(row.labels)
    return Finding("leak", round(pair.cosine, 4), (), labels, "", why, row, other)


def _doubtful_labels(audited: _AuditedTable) -> list[Finding]:
    """Labels that `doubt.doubtful` names: missing and wrong ones in turn, each by score."""
    rows, classes = audited.run.eval, audited.run.record.classes
    try:
        doubted = doubtful(rows)
    except MissingDataError as error:
        audited.warnings.append(str(error))
        return []
    if not audited.cross_validated:
        audited.warnings.append(
            f"label errors are looked for among the {len(rows.ids)} eval rows only; "
            "with --split kfold:5 these are all rows"
        )

    def sorted_findings(cells: LabelMatrix, state: str, suggested: str, labelled: str) -> list[Finding]:
        findings = []
        for row, c in np.argwhere(cells):
            score = float(rows.scores[row, c])
            findings.append(
                Finding(
                    "label",
                    round(abs(rows.labels[row, c] - score), 4),
                    (classes[c],),
                    given=state,
                    suggested=suggested,
                    why=f"{labelled} {classes[c]}, to which a model that has not seen it gives {score:.3f}",
                    row=audited.row(int(audited.rows[row])),
                )
            )
        return sorted(findings, key=lambda finding: -finding.score)

    missing = sorted_findings(doubted & (rows.labels == 0), ABSENT, PRESENT, "not labelled")
    wrong = sorted_findings(doubted & (rows.labels == 1), PRESENT, ABSENT, "labelled")
    return [finding for pair in zip_longest(missing, wrong) for finding in pair if finding]


def _rare_classes(run: Run) -> Iterator[Finding]:
    """Classes with fewer than `MIN_POSITIVES` among the rows that thresholds are tuned on."""
    tuned = run.eval if run.spec.tune_on == "eval" else run.validation
    for name, count in zip(run.record.classes, positives(tuned.labels).sum(axis=0).tolist(), strict=True):
        if count < MIN_POSITIVES:
            uncertainty = min(0.98 / max(count, 1) ** 0.5, 1.0)
            yield Finding(
                "rare",
                round(uncertainty, 4),
                (name,),
                given=str(count),
                suggested=str(MIN_POSITIVES),
                why=f"{count} of the {len(tuned.ids)} rows that thresholds are tuned on have {name}: "
                f"its recall there is known to within ±{uncertainty:.2f}",
            )
