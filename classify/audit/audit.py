"""What in a run's data deserves a look: doubtful labels, doubles labelled otherwise, leaks, rare classes.

Kinds of finding, the surest first; `score` is 1 where nothing is left to doubt:

leak            a row that was measured on, or one of another table, whose double the run was fitted on
duplicate       a row of the same content as another, with other labels
near-duplicate  a row whose image vectors nearly are another's, with other labels; score: their cosine
label           a label that is doubtful by the scores of a model that has not seen the row; score: 1 less the
                probability of what is given. Labels that seem to be missing and labels that seem to be wrong
                take turns, each by score, as the scores of the one are no measure for the other: of 9,000
                photographs with 150 labels taken away and 150 added, 45 of the first 50 of the former were
                such, but 19 of the latter, which are mostly things too small for the model
rare            a class too rare for a threshold to be tuned; score: how far its recall may be off
"""

import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, MissingRowsError, Store, Table
from encode_once.cache.format.atomic import replacing
from encode_once.classify.arrays import Vectors
from encode_once.classify.audit import cross_split as leaks
from encode_once.classify.audit.cross_split import like
from encode_once.classify.data import features as featuring
from encode_once.classify.data.features import StoredFeature
from encode_once.classify.data.labels import choose_table, label_matrix
from encode_once.classify.data.rows import content_keys, match
from encode_once.classify.runs.predict import sources
from encode_once.classify.runs.run import Run

# By efficientnet-lite0, none of the 40 million pairs of 9,000 photographs of MS-COCO has .9. Of 300 copies
# saved anew as JPEG of quality 50 all have .95; of brighter ones 96 %, mirrored 85 %, with 3 % cut off each
# side 53 %, halved 4 %. There .9 finds nearly all of these, and half of those halved; but CLIP-like encoders
# put unlike pictures of one subject closer together.
NEAR = 0.95
KINDS = ("leak", "duplicate", "near-duplicate", "label", "rare")
# Recall r over m positives has a standard error of √(r (1 - r) / m), at most 1 / (2 √m). So its 95 % interval
# is within ± 0.98 / √m, which from 25 positives on is less than ± 0.2.
ENOUGH = 25


@dataclass(frozen=True)
class Finding:
    """A row of the table that a person works through."""

    kind: str  # of KINDS
    score: float
    id: str  # of the row; "" where it is about a class
    other: str  # the id of the row it doubles
    label: str  # the class, or those in which the two rows differ
    given: str
    suggested: str
    why: str
    image: str = ""
    other_image: str = ""
    caption: str = ""


def audit(run: Run, near: float = NEAR, device: str = "auto") -> tuple[list[Finding], list[str]]:
    """What deserves a look in the data of a run, the surest first; and warnings of what was not looked at.

    near: cosine from which on two rows are near-duplicates; they are compared on the device.

    Raises:
        EncodeOnceError: the table or the features are not what the run was fitted on.
        DataError: a million pairs of rows are as near as that.
    """
    held = _Held.of(run, device)
    doubles = [*_of_doubles(held, near), *_of_other_tables(held, near)]
    doubles.sort(key=lambda one: (KINDS.index(one.kind), -one.score))
    return [*doubles, *_of_labels(held), *_of_rarity(run)], held.warnings


def write(findings: Sequence[Finding], path: Path) -> None:
    """Write findings as CSV; of none, the header alone."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Finding)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, findings))


def summary(findings: Sequence[Finding]) -> str:
    """How many there are of each kind."""
    many = Counter(one.kind for one in findings)
    return ", ".join(f"{many[kind]} {kind}" for kind in KINDS if many[kind]) or "nothing was found"


@dataclass(frozen=True)
class _Held:
    """A run's table, and what part each of its rows had in the run."""

    run: Run
    store: Store
    table: Table
    rows: NDArray[np.intp]  # (m,): of `run.eval`
    parts: NDArray[np.intp]  # (n,): -1 of a row that was fitted or tuned on, else its fold, or 0
    sources: Sequence[StoredFeature]  # image features of one vector a row
    warnings: list[str]
    device: str  # that near-duplicates are compared on

    @classmethod
    def of(cls, run: Run, device: str) -> "_Held":
        record, warnings = run.record, list[str]()
        store = Store(record.store)
        table = choose_table(store, record.table)
        assert table.labels is not None
        evaluated, labels = run.eval, label_matrix(table.labels, record.classes)
        # Rows of the same content may be on both sides of the split: id and labels say which is which.
        names, table_names = (
            [(name, row.tobytes()) for name, row in zip(ids, labels_of, strict=True)]
            for ids, labels_of in ((evaluated.ids, evaluated.labels), (table.ids, labels))
        )
        rows = match(evaluated.keys, names, content_keys(table), table_names)
        if (rows < 0).any() or not np.array_equal(labels[rows], evaluated.labels):
            raise DataError(f"{table.source} is not what it was when {run.path} was fitted: fit it again")
        parts = np.full(len(table), -1)
        parts[rows] = 0 if evaluated.folds is None else evaluated.folds
        images = [
            one
            for one in sources(run, store)
            if isinstance(one, StoredFeature) and one.feature.modality == "image" and not one.feature.ragged
        ]
        if not images:
            warnings.append("near-duplicates are not looked for: the run has no image feature of one vector")
        return cls(run, store, table, rows, parts, images, warnings, device)

    @property
    def cross_validated(self) -> bool:
        return self.run.eval.folds is not None

    def vectors(self, table: Table) -> Vectors | None:
        """Image vectors (n, d) whose cosines are the means of those of the run's image features, if any.

        NaN where one is missing.
        """
        if not self.sources:
            return None
        blocks = []
        for one in self.sources:
            X = featuring.load([one], table)[:]
            with np.errstate(invalid="ignore"):
                blocks.append(X / np.linalg.norm(X, axis=1, keepdims=True))
        return np.concatenate(blocks, axis=1)


def _finding(table: Table, kind: str, score: float, row: int, **told: str) -> Finding:
    """A finding on a row of a table."""
    labels = table.labels[row] if table.labels else ()
    usual = {"other": "", "label": "", "given": table.label_separator.join(labels), "suggested": ""}
    pictured = {"image": table.images[row], "caption": table.captions[row]}
    return Finding(kind, round(score, 4), table.ids[row], **(usual | pictured | told))


def _of_doubles(held: _Held, near: float) -> Iterator[Finding]:
    """Leaks and contradictions within the table."""
    table, parts = held.table, held.parts
    assert table.labels is not None
    found, contradictions = leaks.within(table, parts, held.vectors(table), near, held.device)
    for pair in found:
        told = f"held out, but {like(pair, table, table)}, which the run was fitted on"
        if held.cross_validated:
            folds = parts[pair.row] + 1, parts[pair.other] + 1
            told = f"in fold {folds[0]}, but {like(pair, table, table)}, in fold {folds[1]}"
        yield _finding(table, "leak", pair.cosine, pair.row, why=told, **_beside(table, pair.other))
    for pair in contradictions:
        mine, others = table.labels[pair.row], table.labels[pair.other]
        differ = [name for name in held.run.record.classes if (name in mine) != (name in others)]
        yield _finding(
            table,
            "duplicate" if pair.exact else "near-duplicate",
            pair.cosine,
            pair.row,
            label=table.label_separator.join(differ),
            suggested=table.label_separator.join(others),
            why=f"{like(pair, table, table)}, but labelled otherwise: they differ in {', '.join(differ)}",
            **_beside(table, pair.other),
        )


def _of_other_tables(held: _Held, near: float) -> Iterator[Finding]:
    """Rows of the store's other tables whose doubles the run was fitted on."""
    headers = [header for header in held.store.headers() if header.name != held.table.name]
    if not headers:
        return
    fitted = np.arange(len(held.table)) if held.cross_validated else np.flatnonzero(held.parts < 0)
    known, vectors = content_keys(held.table)[fitted], held.vectors(held.table)
    known_vectors = None if vectors is None else vectors[fitted]
    for table in map(held.store.load, headers):
        try:
            vectors = held.vectors(table)
        except MissingRowsError as error:
            vectors = None
            held.warnings.append(f"near-duplicates in {table.split} are not looked for: {error}")
        for pair in leaks.across(content_keys(table), known, vectors, known_vectors, near, held.device):
            pair = pair._replace(other=int(fitted[pair.other]))
            told = f"in {table.split}, but {like(pair, table, held.table)}, which the run was fitted on"
            beside = _beside(held.table, pair.other)
            yield _finding(table, "leak", pair.cosine, pair.row, why=told, **beside)


def _beside(table: Table, row: int) -> dict[str, str]:
    """What a finding tells of the row it is compared with."""
    return {"other": table.ids[row], "other_image": table.images[row]}


def _of_labels(held: _Held) -> list[Finding]:
    """Labels that cleanlab's confident learning (Northcutt, Jiang and Chuang, JAIR 2021) doubts, by class.

    A class that none of the rows has, or all, is left out.
    """
    rows, record = held.run.eval, held.run.record
    try:
        cleanlab = import_module("cleanlab.multilabel_classification.filter")
    except ImportError:
        held.warnings.append("label errors are not looked for: that needs pip install 'encode-once[audit]'")
        return []
    if not held.cross_validated:
        held.warnings.append(
            f"label errors are looked for among the {len(rows.ids)} rows held out; "
            "of a run of --split kfold:5, among all"
        )
    classes = np.flatnonzero(rows.labels.any(axis=0) & ~rows.labels.all(axis=0))
    if not len(classes):
        return []
    given = [np.flatnonzero(row).tolist() for row in rows.labels[:, classes]]
    doubtful = np.zeros_like(rows.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes, which we tell ourselves
        scores = rows.scores[:, classes]
        doubtful[:, classes] = cleanlab.find_multilabel_issues_per_class(given, scores, n_jobs=1)

    def sorted_findings(which: NDArray[np.bool_], states: tuple[str, str], told: str) -> list[Finding]:
        found = [
            _finding(
                held.table,
                "label",
                abs(rows.labels[row, c] - float(rows.scores[row, c])),
                int(held.rows[row]),
                label=record.classes[c],
                given=states[0],
                suggested=states[1],
                why=f"{told} {record.classes[c]}, to which a model that has not seen it "
                f"gives {rows.scores[row, c]:.3f}",
            )
            for row, c in np.argwhere(which)
        ]
        return sorted(found, key=lambda one: -one.score)

    missing = sorted_findings(doubtful & ~rows.labels, ("absent", "present"), "not labelled")
    wrong = sorted_findings(doubtful & rows.labels, ("present", "absent"), "labelled")
    return [one for both in zip_longest(missing, wrong) for one in both if one]


def _of_rarity(run: Run) -> Iterator[Finding]:
    """Classes with fewer positives than `ENOUGH` among the rows that thresholds are tuned on."""
    tuned = run.eval if run.spec.tune_on == "eval" else run.validation
    for name, many in zip(run.record.classes, tuned.labels.sum(axis=0).tolist(), strict=True):
        if many < ENOUGH:
            off = min(0.98 / max(many, 1) ** 0.5, 1.0)
            yield Finding(
                "rare",
                round(off, 4),
                id="",
                other="",
                label=name,
                given=str(many),
                suggested=str(ENOUGH),
                why=f"{many} of the {len(tuned.ids)} rows that thresholds are tuned on have {name}: "
                f"its recall there is known to within ±{off:.2f}",
            )
