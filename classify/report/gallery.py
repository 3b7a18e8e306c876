"""The eval rows that a page shows: confident mistakes of each class, doubted labels, and right rows."""

from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from encode_once.cache import EncodeOnceError, MissingDataError
from encode_once.classify.arrays import BoolArray, LabelMatrix
from encode_once.classify.audit.doubt import doubtful
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.pages.images import CAPTION, Thumbnail, image_url
from encode_once.classify.partial import without_unknown
from encode_once.classify.report.checks import Evidence
from encode_once.classify.runs.run import Run

RIGHT = 0.1  # share of the rows that are shown although nothing is wrong with them
DOUBTED = 0.3  # share for rows with labels that the audit doubts


@dataclass(frozen=True)
class GalleryRow:
    """An eval row on the page."""

    row: int  # of the eval rows
    id: str
    caption: str
    has_image: bool
    image: str  # as a data URL; "" if there is none, or it cannot be read
    doubts: list[str] = field(default_factory=list)  # why the audit doubts a label

    def as_json(self) -> dict[str, Any]:
        """The row for the scripts of the page."""
        return asdict(self)


def gallery(evidence: Evidence, thumbnail: Thumbnail, limit: int) -> tuple[list[GalleryRow], list[str]]:
    """At most `limit` eval rows with their images and captions, and warnings.

    Without the table that the run was fitted on, there is none, which a warning says.
    """
    if not limit:
        return [], []
    run = evidence.run
    try:
        table, table_rows = evidence.own_table
    except EncodeOnceError as error:
        return [], [f"{run.path}: no gallery, as its rows cannot be read: {error}"]
    warnings = []
    try:
        doubted = doubtful(run.eval)
    except MissingDataError as error:
        doubted = np.zeros(run.eval.labels.shape, np.bool_)
        warnings.append(str(error))
    shown = chosen(evidence.evaluation, doubted, limit)
    rows, unreadable = [], 0
    for row in shown:
        place = int(table_rows[row])
        has_image, image = bool(table.images[place]), image_url(table, place, thumbnail)
        unreadable += has_image and not image
        rows.append(
            GalleryRow(
                row,
                table.ids[place],
                table.captions[place][:CAPTION],
                has_image,
                image,
                _doubts(run, row, doubted[row]),
            )
        )
    if unreadable:
        warnings.append(
            f"{run.path}: {unreadable} of {len(rows)} images of the gallery cannot be read, or are others now"
        )
    return rows, warnings


def chosen(evaluation: Evaluation, doubted: LabelMatrix, limit: int) -> list[int]:
    """The eval rows to show, at most `limit`: doubted and right rows, then mistakes of each class in turn.

    Mistakes of a class come with the greatest difference between score and truth first.
    """
    labels, scores = evaluation.rows.labels, evaluation.rows.scores
    truth, predicted = without_unknown(labels, evaluation.predictions)
    wrong = truth != predicted
    errors = np.abs(labels - scores)

    def by_error(cells: LabelMatrix) -> list[int]:
        """The rows with cells, in turn of each class; each row once."""
        of_classes = []
        for k in range(labels.shape[1]):
            rows = np.flatnonzero(cells[:, k])
            of_classes.append(rows[np.argsort(-errors[rows, k], kind="stable")].tolist())
        in_turn = chain.from_iterable(zip_longest(*of_classes))
        return list(dict.fromkeys(row for row in in_turn if row is not None))

    right = np.flatnonzero(~wrong.any(axis=1))
    right = np.random.default_rng(0).permutation(right)[: round(RIGHT * limit)].tolist()
    first = by_error(doubted)[: round(DOUBTED * limit)]
    return list(dict.fromkeys([*first, *right, *by_error(wrong)]))[:limit]


def _doubts(run: Run, row: int, doubted: BoolArray) -> list[str]:
    """Why each doubted label of a row is doubted."""
    lines = []
    for k in np.flatnonzero(doubted).tolist():
        labelled = "labelled" if run.eval.labels[row, k] == 1 else "not labelled"
        lines.append(f"{labelled} {run.record.classes[k]}, but its score is {run.eval.scores[row, k]:.3f}")
    return lines
