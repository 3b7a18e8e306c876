"""What in a run's data deserves a look: doubtful labels, doubles labelled otherwise, leaks, rare classes.

Kinds of finding, the surest first; `score` is 1 where nothing is left to doubt:

leak            a row that was measured on, or one of another table, whose double the run was fitted on
duplicate       a row of the same content as another, with other labels
near-duplicate  a row whose image vectors nearly are another's, with other labels; score: their cosine
label           a label that is doubtful by the scores of a model that has not seen the row; score: 1 less the
                probability of what is given
rare            a class too rare for a threshold to be tuned; score: how far its recall may be off
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import DataError, MissingRowsError, Store, Table
from cache.files import replacing
from cache.keys import KeyIndex, present
from classify import duplicates
from classify import features as featuring
from classify.duplicates import Groups
from classify.features import Reference
from classify.grouping import content_keys
from classify.predicting import sources
from classify.runs import Run

# Of efficientnet-lite0's vectors: of the 40 million pairs of 9,000 photographs of MS-COCO, none has .9; of
# copies saved anew as JPEG of quality 50, all have .95, of brighter or mirrored ones 95 and 80 in 100.
NEAR = 0.95
KINDS = ("leak", "duplicate", "near-duplicate", "label", "rare")
# Recall over m positives has a standard error of √(r (1 - r) / m), at most 1 / (2 √m): its 95 % interval is
# known to be within ± 0.98 / √m, which from 25 positives on is less than ± 0.2.
ENOUGH = 25
MOST = 1_000_000  # near pairs: more than a person, or a list, can hold

Pair = tuple[int, int, float]  # a row, the row it doubles, their cosine


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


def audit(run: Run, near: float = NEAR) -> tuple[list[Finding], list[str]]:
    """What deserves a look in the data of a run, the surest first; and warnings of what was not looked at.

    Raises:
        EncodeOnceError: the table or the features are not what the run was fitted on.
        DataError: a million pairs of rows are as near as that.
    """
    held = _Held.of(run)
    found = [*_of_doubles(held, near), *_of_other_tables(held, near), *_of_labels(held), *_of_rarity(run)]
    found.sort(key=lambda one: (KINDS.index(one.kind), -one.score))
    return found, held.warnings


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
    labels: list[tuple[str, ...]]
    rows: NDArray[np.intp]  # (m,): of `run.eval`
    parts: NDArray[np.intp]  # (n,): -1 of a row that was fitted or tuned on, else its fold, or 0
    sources: Sequence[Reference]  # image features of one vector a row
    warnings: list[str]

    @classmethod
    def of(cls, run: Run) -> "_Held":
        settings, warnings = run.settings, list[str]()
        store = Store(settings.store)
        table = featuring.choose_table(store, settings.table)
        assert table.labels is not None
        rows = np.flatnonzero(np.isin(table.ids, run.eval.ids))
        same = [table.ids[row] for row in rows] == run.eval.ids
        kept = featuring.label_matrix(table.labels, settings.classes)[rows]
        if not same or not np.array_equal(kept, run.eval.labels):
            raise DataError(f"{table.source} is not what it was when {run.path} was fitted: fit it again")
        parts = np.full(len(table), -1)
        parts[rows] = 0 if run.eval.folds is None else run.eval.folds
        images = [
            one
            for one in sources(run, store)
            if isinstance(one, Reference) and one.feature.modality == "image" and not one.feature.ragged
        ]
        if not images:
            warnings.append("near-duplicates are not looked for: the run has no image feature of one vector")
        return cls(run, store, table, table.labels, rows, parts, images, warnings)

    @property
    def cross_validated(self) -> bool:
        return self.run.eval.folds is not None

    def finding(self, kind: str, score: float, row: int, **told: str) -> Finding:
        """A finding on a row of the table."""
        return Finding(
            kind,
            round(score, 4),
            self.table.ids[row],
            **{"other": "", "label": "", "given": self.labels_of(row), "suggested": ""} | told,
            image=self.table.images[row],
            caption=self.table.captions[row],
        )

    def labels_of(self, row: int) -> str:
        return self.table.label_separator.join(self.labels[row])

    def vectors(self, table: Table) -> NDArray[np.float32]:
        """Image vectors (n, d) whose cosines are the mean of those of the features."""
        blocks = []
        for one in self.sources:
            X = featuring.load([one], table)[:]
            with np.errstate(invalid="ignore"):
                blocks.append(X / np.linalg.norm(X, axis=1, keepdims=True))
        return np.concatenate(blocks, axis=1)


def _of_doubles(held: _Held, near: float) -> Iterator[Finding]:
    """Leaks and contradictions within the table."""
    content = duplicates.exact(content_keys(held.table))
    sets = [frozenset(row) for row in held.labels]
    for members in _several(content):
        first = min(members, key=lambda row: held.parts[row])  # fitted on, or of the lowest fold
        for row in members:
            if held.parts[row] != held.parts[first]:
                yield _leak(held, (row, first, 1.0))
        (usual, _), *_ = Counter(sets[row] for row in members).most_common(1)
        reference = next(row for row in members if sets[row] == usual)
        for row in members:
            if sets[row] != usual:
                yield _contradiction(held, "duplicate", (row, reference, 1.0))
    for one, other, cosine in _near(held, near, content):
        row, reference = sorted((one, other), key=lambda row: -held.parts[row])
        if held.parts[row] != held.parts[reference]:
            yield _leak(held, (row, reference, cosine))
        if sets[row] != sets[reference]:
            yield _contradiction(held, "near-duplicate", (row, reference, cosine))


def _several(groups: Groups) -> Iterator[list[int]]:
    """The rows of each group of more than one."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[order])) + 1
    yield from (rows.tolist() for rows in np.split(order, ends) if len(rows) > 1)


def _near(held: _Held, near: float, content: Groups) -> Iterator[Pair]:
    """Pairs of rows of different content, but near vectors."""
    if held.sources:
        pairs = duplicates.pairs(held.vectors(held.table), near)
        yield from (pair for pair in _one_by_one(pairs, near) if content[pair[0]] != content[pair[1]])


def _one_by_one(blocks: Iterator[tuple[Any, Any, Any]], near: float) -> Iterator[Pair]:
    many = 0
    for rows, others, cosines in blocks:
        many += len(rows)
        if many > MOST:
            raise DataError(f"more than {MOST:,} pairs of rows have a cosine of {near}: ask for a higher one")
        yield from zip(rows.tolist(), others.tolist(), cosines.tolist(), strict=True)


def _leak(held: _Held, pair: Pair) -> Finding:
    row, reference, cosine = pair
    if held.cross_validated:
        told = f"in fold {held.parts[row] + 1}, but {_like(held.table, pair)}, in fold {held.parts[reference] + 1}"
    else:
        told = f"held out, but {_like(held.table, pair)}, which the run was fitted on"
    return held.finding("leak", cosine, row, why=told, **_beside(held, reference))


def _contradiction(held: _Held, kind: str, pair: Pair) -> Finding:
    row, reference, cosine = pair
    differ = [
        name for name in held.run.settings.classes if _has(held, row, name) != _has(held, reference, name)
    ]
    told = f"{_like(held.table, pair)}, but labelled otherwise: they differ in {', '.join(differ)}"
    return held.finding(
        kind,
        cosine,
        row,
        label=held.table.label_separator.join(differ),
        suggested=held.labels_of(reference),
        why=told,
        **_beside(held, reference),
    )


def _has(held: _Held, row: int, name: str) -> bool:
    return name in held.labels[row]


def _beside(held: _Held, reference: int) -> dict[str, str]:
    """What a finding tells of the row it is compared with."""
    return {"other": held.table.ids[reference], "other_image": held.table.images[reference]}


def _like(table: Table, pair: Pair, other: Table | None = None) -> str:
    """How a row is like another: `the same image as 7.jpg`."""
    row, reference, cosine = pair
    name = (other or table).ids[reference]
    if cosine < 1:
        return f"looks like {name} (cosine {cosine:.3f})"
    what = "image" if present(table.keys("image")[row : row + 1])[0] else "caption"
    return f"the same {what} as {name}"


def _of_other_tables(held: _Held, near: float) -> Iterator[Finding]:
    """Rows of the store's other tables whose doubles the run was fitted on."""
    fitted = np.arange(len(held.table)) if held.cross_validated else np.flatnonzero(held.parts < 0)
    others = [table for table in held.store.tables() if table.name != held.table.name]
    if not others:
        return
    index = KeyIndex(content_keys(held.table)[fitted])
    X = held.vectors(held.table)[fitted] if held.sources else None
    for table in others:
        keys = content_keys(table)
        found = np.where(present(keys), index.find(keys), -1)
        doubles: dict[int, tuple[int, float]] = {
            row: (int(found[row]), 1.0) for row in np.flatnonzero(found >= 0).tolist()
        }
        for reference, row, cosine in _near_other(held, X, table, near):
            if cosine > doubles.get(row, (0, 0.0))[1]:
                doubles[row] = reference, cosine
        for row, (place, cosine) in doubles.items():
            pair = row, int(fitted[place]), cosine
            yield Finding(
                "leak",
                round(cosine, 4),
                table.ids[row],
                held.table.ids[pair[1]],
                label="",
                given=table.label_separator.join(table.labels[row]) if table.labels else "",
                suggested="",
                why=f"in {table.split}, but {_like(table, pair, held.table)}, which the run was fitted on",
                image=table.images[row],
                other_image=held.table.images[pair[1]],
                caption=table.captions[row],
            )


def _near_other(held: _Held, X: NDArray[np.float32] | None, table: Table, near: float) -> Iterator[Pair]:
    """Pairs of a place in X, rows the run was fitted on, and a row of another table."""
    if X is None:
        return
    try:
        vectors = held.vectors(table)
    except MissingRowsError as error:
        held.warnings.append(f"near-duplicates in {table.split} are not looked for: {error}")
        return
    yield from _one_by_one(duplicates.pairs(X, near, vectors), near)


def _of_labels(held: _Held) -> Iterator[Finding]:
    """Labels that cleanlab's confident learning doubts (Northcutt, Jiang and Chuang, JAIR 2021), each class alone.

    A class that none of the rows has, or all, is left out.
    """
    rows = held.run.eval
    try:
        cleanlab = import_module("cleanlab.multilabel_classification.filter")
    except ImportError:
        held.warnings.append("label errors are not looked for: pip install 'encode-once[audit]'")
        return
    if not held.cross_validated:
        held.warnings.append(
            f"label errors are looked for among the {len(rows.ids)} rows held out; "
            "of a run of --split kfold:5, among all"
        )
    classes = np.flatnonzero(rows.labels.any(axis=0) & ~rows.labels.all(axis=0))
    if not len(classes):
        return
    Y, scores = rows.labels[:, classes], rows.scores[:, classes]
    given = [np.flatnonzero(row).tolist() for row in Y]
    doubtful = cleanlab.find_multilabel_issues_per_class(given, scores, n_jobs=1)
    for row, c in np.argwhere(doubtful).tolist():
        name, score = held.run.settings.classes[classes[c]], float(scores[row, c])
        has, states = bool(Y[row, c]), ("absent", "present")
        yield held.finding(
            "label",
            1 - score if has else score,
            int(held.rows[row]),
            label=name,
            given=states[has],
            suggested=states[not has],
            why=f"{'' if has else 'not '}labelled {name}, to which a model that has not seen it gives {score:.3f}",
        )


def _of_rarity(run: Run) -> Iterator[Finding]:
    """Classes with fewer positives than `ENOUGH` among the rows that thresholds are tuned on."""
    tuned = run.eval if run.settings.tune_on == "eval" else run.tune
    for name, many in zip(run.settings.classes, tuned.labels.sum(axis=0).tolist(), strict=True):
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
                f"its recall there is known to ±{off:.2f}",
            )
