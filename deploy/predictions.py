"""The labels and scores of rows, as a `Predictor` or `predict` returns them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from encode_once.cache.representation import html_heading, html_table
from encode_once.classify.arrays import BoolArray, LabelMatrix, Probabilities
from encode_once.classify.runs.predict import Predicted
from encode_once.classify.runs.prevalence import Prevalences
from encode_once.classify.runs.shown import ShownRow, shown_rows, text

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10  # rows that are printed


class PredictionWarning(UserWarning):
    """Something to know about labels or figures, such as features that are missing, or rows left out."""


@dataclass(frozen=True, repr=False)
class Prediction:
    """The labels of one row.

    labels: the highest score first. scores: class → the probability that its threshold is compared with, for
    all classes. missing: features that the training mean replaced, as the row has no image or caption for
    them, or none that can be read.
    """

    id: str
    labels: list[str]
    scores: dict[str, float]
    missing: list[str]

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {self.scores[name]:.3f}" for name in self.labels) or "no label"
        return f"<Prediction {self.id}: {scores}{_note(self.missing)}>"


@dataclass(frozen=True, repr=False, eq=False)
class Predictions(Sequence[Prediction]):
    """The labels of n rows, in the order of the input; `predictions[i]` is one row, a slice several.

    Attributes:
        ids: names of the rows: paths, or their numbers.
        classes: all labels that the run knows, (c,).
        scores: (n, c) float64, the probabilities that thresholds are compared with.
        is_label: (n, c), which classes are labels.
        features: of the run, (f,).
        is_missing: (n, f), which of them the training mean replaced.
        warnings: what to know, such as which images could not be read.
        prevalence: class → its share in the tuning rows and as estimated for these, if scores are corrected.
    """

    ids: Sequence[str]
    classes: list[str]
    scores: Probabilities
    is_label: LabelMatrix
    features: list[str]
    is_missing: BoolArray
    warnings: list[str]
    prevalence: Prevalences | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, rows: int, /) -> Prediction: ...
    @overload
    def __getitem__(self, rows: slice, /) -> "Predictions": ...
    def __getitem__(self, rows: int | slice, /) -> "Prediction | Predictions":
        if isinstance(rows, slice):
            return Predictions(
                self.ids[rows],
                self.classes,
                self.scores[rows],
                self.is_label[rows],
                self.features,
                self.is_missing[rows],
                self.warnings,
                self.prevalence,
            )
        row = range(len(self))[rows]  # raises IndexError, and counts from the end
        return Prediction(
            self.ids[row],
            self.labels_of(row),
            dict(zip(self.classes, self.scores[row].tolist(), strict=True)),
            self.missing_of(row),
        )

    def labels_of(self, row: int) -> list[str]:
        """The labels of a row, the highest score first."""
        order = np.argsort(-self.scores[row], kind="stable")
        return [self.classes[k] for k in order.tolist() if self.is_label[row, k]]

    def missing_of(self, row: int) -> list[str]:
        """The features of a row that the training mean replaced."""
        return [self.features[k] for k in np.flatnonzero(self.is_missing[row])]

    @property
    def labels(self) -> list[list[str]]:
        """The labels of each row, the highest score first."""
        return [self.labels_of(row) for row in range(len(self))]

    @property
    def missing(self) -> list[list[str]]:
        """The features of each row that the training mean replaced."""
        return [self.missing_of(row) for row in range(len(self))]

    def frame(self) -> "pd.DataFrame":
        """A DataFrame with a row for each row: `Labels`, `Missing` if any is, and a column for each class."""
        import pandas as pd

        lists = {"Labels": self.labels, **({"Missing": self.missing} if self.is_missing.any() else {})}
        index = pd.Index(self.ids, name="id")
        scores = pd.DataFrame(self.scores, index, self.classes)
        return pd.concat([pd.DataFrame(lists, index), scores], axis=1)

    def _shown(self) -> list[ShownRow]:
        rows = self[:SHOWN]
        return shown_rows(
            rows.ids, self.classes, Predicted(rows.scores, rows.is_label, rows.is_missing, rows.warnings)
        )

    @property
    def _notes(self) -> list[str]:
        more = len(self) - SHOWN
        return [*([f"… and {more} more rows"] if more > 0 else []), *self.warnings]

    def __repr__(self) -> str:
        head = f"<Predictions: {len(self)} rows, {len(self.classes)} classes>"
        return "\n".join([head, *([text(self._shown())] if len(self) else []), *self._notes])

    def _repr_html_(self) -> str:
        rows = [{"id": row["id"], "labels": _scored(row)} for row in self._shown()]
        notes = "".join(html_heading(note) for note in self._notes)
        return html_table(rows) + notes


def _scored(row: ShownRow) -> str:
    """The labels of a row with their scores."""
    return ", ".join(f"{name} {score:.3f}" for name, score in row["scores"].items()) or "no label"


def _note(missing: Sequence[str]) -> str:
    return f"; missing: {', '.join(missing)}" if missing else ""
