"""A head fitted on rows of a table, and the validation rows that its thresholds are tuned on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from encode_once.cache import Keys
from encode_once.cache.packed_columns import taken
from encode_once.cache.representation import short_repr
from encode_once.classify import heads
from encode_once.classify.arrays import FloatArray, Groups, PartialLabels, RowIndex, Scores
from encode_once.classify.data import splits
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.matrix import RowView, is_large
from encode_once.classify.data.standardise import ColumnStatistics, choose_scales, standardisation
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.heads import class_weights
from encode_once.classify.heads.base import CrossFittingHead
from encode_once.classify.heads.checks import check_scores
from encode_once.classify.runs.model import Model, of_task

FOLDS = "kfold:5"
# Train rows up to which validation "auto" is "folds". A tenth of them is too few to tune on, and to fit six
# heads takes seconds; with 2,000 rows, five times the seconds gain at most .005 micro F1: see docs/heads.md.
FOLDS_UP_TO = 1_500


@dataclass(frozen=True)
class Fitted:
    """A fitted model, the matrix with its text features fitted, the scored validation rows, and warnings."""

    model: Model
    X: Matrix
    validation: ScoredRows
    warnings: list[str]
    scales: dict[str, str]  # by feature; empty if the head takes the features as they are

    __repr__ = short_repr


@dataclass(frozen=True)
class HeadFitter:
    """Fits heads of one kind on rows of a table."""

    head: str
    options: Mapping[str, Any]
    X: Matrix  # (n, d)
    Y: PartialLabels  # (n, c)
    ids: Sequence[str]
    keys: Keys  # (n, 16), see `rows.content_keys`
    seed: int
    groups: Groups | None = None  # (n,): rows with equal numbers are fitted on or validated on together
    classes: Sequence[str] | None = None  # (c,) names for warnings; by default their numbers
    scale: str = "auto"  # see `standardise.choose_scales`
    validation: str = "auto"  # see `FitSpec`
    task: str = MULTI  # see `FitSpec`

    __repr__ = short_repr

    @cached_property
    def draws(self) -> FloatArray:
        """A number for each row, (n,), that decides on which side of splits it is."""
        return splits.row_draws(self.keys, self.ids, self.seed)

    def fit(self, rows: RowIndex, validation: RowIndex | None = None) -> Fitted:
        """Fit a model on the rows. Its validation rows are a tenth of them, or all, scored out of fold.

        validation: the validation rows, if the table marks them; the model is fitted on the others.

        Raises DataError if a feature or the validation scores are not finite, or labels are unknown and the
        head takes no such; see `check_scores` for the warnings.
        """
        heads.check_labels(self.head, self.Y)
        if validation is not None:
            return self._fit_and_validate(self._in_order(np.setdiff1d(rows, validation)), validation)
        if self.validation_of(rows) == "tenth":
            return self._fit_by_tenth(rows)
        folds = self.folds(rows)
        if heads.cross_fits(self.head):
            return self._fit_out_of_fold(rows, folds)
        fitted = self.cross_fit(self._in_order(rows), folds)
        # One rule is tuned on all rows, rather than one for each fold, as cross-validation needs.
        return replace(fitted, validation=replace(fitted.validation, folds=None))

    def folds(self, rows: RowIndex) -> list[RowIndex]:
        """The rows in folds, each of which is scored by a head that was fitted on the others."""
        rows = self._in_order(rows)
        folds = splits.folds(FOLDS, self.Y[rows], {}, self.draws[rows], self._groups_of(rows))
        return [rows[fold] for fold in folds]

    def validation_of(self, rows: RowIndex) -> str:
        """ "tenth" or "folds", for these train rows.

        A group of most rows would be one fold, and leave few rows to fit on.
        """
        if self.validation != "auto":
            return self.validation
        groups = self._groups_of(rows)
        largest = 1 if groups is None else np.unique(groups, return_counts=True)[1].max()
        return "folds" if len(rows) <= FOLDS_UP_TO and largest <= len(rows) / 2 else "tenth"

    def cross_fit(self, rows: RowIndex, folds: Sequence[RowIndex]) -> Fitted:
        """Fit a model on all rows, which are its validation rows, too, with scores out of fold."""
        heads.check_labels(self.head, self.Y)
        warnings: list[Sequence[str]] = []
        scores = np.empty((len(rows), self.Y.shape[1]), np.float32)
        fold_of = np.empty(len(rows), np.intp)
        for number, fold in enumerate(folds):
            fitted = self._fit_by_tenth(np.setdiff1d(rows, fold))
            in_fold = np.isin(rows, fold)
            scores[in_fold] = fitted.model.scores(RowView(fitted.X, rows[in_fold]))
            fold_of[in_fold] = number
            warnings.append(fitted.warnings)
        model, X, scales = self._model(self._in_order(rows))
        score_warnings = self._score_warnings(scores, rows, rows)
        return Fitted(
            model,
            X,
            replace(self._scored_rows(scores, rows), folds=fold_of),
            [*_of_folds(warnings), *model.head.warnings_, *score_warnings],
            scales,
        )

    def scored(self, model: Model, X: Matrix, rows: RowIndex) -> ScoredRows:
        """The rows with the model's scores and their labels; X (n, d) as the model takes it."""
        return self._scored_rows(model.scores(RowView(X, rows)), rows)

    def _fit_out_of_fold(self, rows: RowIndex, folds: Sequence[RowIndex]) -> Fitted:
        """Fit a head that cross-fits itself; columns are scaled, and texts read, by all rows."""
        rows = self._in_order(rows)
        model, X, scales = self._unfitted(rows)
        assert isinstance(model.head, CrossFittingHead)
        places = [np.flatnonzero(np.isin(rows, fold)) for fold in folds]
        scores = of_task(
            self.task,
            model.head.fit_out_of_fold(model.standardise(RowView(X, rows)), self.Y[rows], places),
        )
        warnings = [*model.head.warnings_, *self._score_warnings(scores, rows, rows)]
        return Fitted(model, X, self._scored_rows(scores, rows), warnings, scales)

    def _fit_by_tenth(self, rows: RowIndex) -> Fitted:
        """Fit a model on nine tenths of the rows; the others, its validation rows, stop the training."""
        train, validation = splits.validation_split(
            self.Y, self._in_order(rows), splits.VALIDATION_FRACTION, self.draws, self.groups
        )
        return self._fit_and_validate(train, validation)

    def _fit_and_validate(self, train: RowIndex, validation: RowIndex) -> Fitted:
        """Fit a model on train rows; the validation rows stop the training."""
        model, X, scales = self._model(train, validation)
        scored = self.scored(model, X, validation)
        score_warnings = self._score_warnings(scored.scores, validation, train)
        return Fitted(model, X, scored, [*model.head.warnings_, *score_warnings], scales)

    def _model(
        self, train: RowIndex, validation: RowIndex | None = None
    ) -> tuple[Model, Matrix, dict[str, str]]:
        """A model fitted on train rows, the matrix as it takes it, and how each feature is scaled."""
        model, X, scales = self._unfitted(train)
        X_train = model.standardise(RowView(X, train))
        if validation is None:
            model.head.fit(X_train, self.Y[train])
        else:
            X_val = model.standardise(RowView(X, validation))
            model.head.fit(X_train, self.Y[train], X_val, self.Y[validation])
        return model, X, scales

    def _unfitted(self, train: RowIndex) -> tuple[Model, Matrix, dict[str, str]]:
        """The same with a head that has yet to be fitted."""
        X = self.X.fitted(train)
        options = class_weights.in_order(self.options, self.classes)
        head = heads.make(self.head, **heads.with_shapes(self.head, options, X.shapes))
        X_train, scales = RowView(X, train), {}
        mean, scale = np.zeros(X.shape[1], np.float32), np.ones(X.shape[1], np.float32)
        if not head.takes_raw:
            shapes = [*X.shapes.values()]
            statistics = ColumnStatistics.of(X_train, shapes)
            statistics.check_finite(X.shapes)
            kinds = choose_scales(X_train, shapes, self.scale, statistics)
            mean, scale = standardisation(X_train, shapes, kinds, statistics)
            scales = dict(zip(X.shapes, kinds, strict=True))
        return Model(mean, scale, head, X.vectorisers, self.task), X, scales

    def _in_order(self, rows: RowIndex) -> RowIndex:
        """The rows in the order of their draws: a shuffled table gives the same model.

        Rows of a matrix that is not held in memory are in the order of the store, which does not depend on
        the table either.
        """
        order = self.X.places if is_large(self.X) else self.draws
        return rows[np.argsort(order[rows])]

    def _groups_of(self, rows: RowIndex) -> Groups | None:
        return None if self.groups is None else self.groups[rows]

    def _scored_rows(self, scores: Scores, rows: RowIndex) -> ScoredRows:
        ids, missing = [*taken(self.ids, rows)], self.X.missing()[rows]
        return ScoredRows(
            ids, scores, self.Y[rows], missing=missing, groups=self._groups_of(rows), keys=self.keys[rows]
        )

    def _score_warnings(self, scores: Scores, rows: RowIndex, train: RowIndex) -> list[str]:
        """Warnings about the scores of validation rows."""
        classes = self.classes or [str(number) for number in range(self.Y.shape[1])]
        return check_scores(self.head, classes, scores, self.Y[rows], self.Y[train])


def _of_folds(warnings: Sequence[Sequence[str]]) -> list[str]:
    """The warnings of each fold, those of a kind once: their figures, and the classes after "for", differ."""
    kinds: dict[str, dict[int, str]] = {}  # kind → number of fold → its first warning
    for number, lines in enumerate(warnings, 1):
        for line in lines:
            kind = re.sub(r"\d+", "", line.partition(" for ")[0])
            kinds.setdefault(kind, {}).setdefault(number, line)
    merged = []
    for lines_of_folds in kinds.values():
        number, line = next(iter(lines_of_folds.items()))
        example = "" if {*lines_of_folds.values()} == {line} else f", such as fold {number}"
        count = f"{len(lines_of_folds)} of {len(warnings)} folds{example}"
        merged.append(f"{count if len(lines_of_folds) > 1 else f'fold {number} of {len(warnings)}'}: {line}")
    return merged
