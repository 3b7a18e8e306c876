"""Fit a run: features of a store → a fitted head, a decision rule, and metrics on the eval rows.

Eval rows are never used to fit, to stop, to choose or to tune.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import Keys, Store, Table
from encode_once.classify import heads
from encode_once.classify.arrays import FloatArray, Groups, LabelMatrix, RowIndex
from encode_once.classify.data import splits
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, StoredFeature
from encode_once.classify.data.groups import Grouping
from encode_once.classify.data.labels import choose_table
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import Samples, load_samples
from encode_once.classify.data.standardise import choose_scales, standardisation
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.heads.checks import check_scores
from encode_once.classify.runs.retune import decide, measure_kept
from encode_once.classify.runs.run import FittedFeature, Model, Run, RunRecord, check_place
from encode_once.classify.spec import FitSpec, code_key


def fit(
    store: Store | str | os.PathLike[str] = "store",
    spec: FitSpec | str = "mlp",
    *,
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    table: Table | None = None,
    **fields: Any,
) -> tuple[Run, Metrics]:
    """Fit a head on cached features, tune its thresholds, measure it on the eval rows, and save the run.

    Args:
        store: where the features are.
        spec: what to fit, or only the name of the head.
        run: the folder to write; by default `runs/HEAD`, or the first free one of `runs/HEAD-2`, …
        overwrite: replace a run that is in the folder.
        table: the table to learn from, if it is loaded already.
        fields: with the name of a head, the other fields of a `FitSpec`.

    Returns:
        The run, and its metrics on the eval rows.

    Raises:
        EncodeOnceError: a name, the store or the table cannot be used, or the folder holds a run.
    """
    store = store if isinstance(store, Store) else Store(store)
    spec = FitSpec(spec, **fields) if isinstance(spec, str) else spec
    path = Path(run) if run is not None else _free_place(spec.head)
    check_place(path, overwrite)
    heads.make(spec.head, **spec.head_options)  # raises for an unknown name before anything is read

    started = time.perf_counter()  # by now the head's libraries are imported
    samples = load_samples(store, spec.features, table or choose_table(store, spec.data))
    table = samples.table
    grouping = Grouping.parse(spec.groups, store, table)
    identity = spec.identity(store, table, samples.references, grouping)
    options = spec.head_options
    if "classes" in heads.options_of(spec.head):
        options = {"classes": samples.classes, **options}
    groups = grouping.of(table, str(options.get("device", "auto")))
    keys = content_keys(table)
    fitter = HeadFitter(
        spec.head,
        options,
        samples.X,
        samples.Y,
        table.ids,
        keys,
        spec.seed,
        groups,
        samples.classes,
        spec.scale,
    )
    folds = splits.folds(spec.split, samples.Y, table.columns, fitter.draws, groups)
    fitted, rows, evaluated = _fit_and_evaluate(fitter, folds)
    warnings = [*samples.X.warnings, *fitted.warnings, *grouping.warnings(spec.split, folds[0], groups)]
    seconds = round(time.perf_counter() - started, 3)
    record = _record(store, samples, fitted, identity, seconds, warnings)
    result = Run(
        path,
        replace(spec, features=tuple(record.features), options=options, data=table.source),
        record,
        lambda: fitted.model,
        fitted.validation,
        evaluated,
        keys[np.union1d(rows, folds[0]) if spec.tune_on == "eval" else rows],
        decide(spec.decision, fitted.validation, evaluated, spec.tune_on),
        fitted.model.head.history,
    )
    metrics, predictions = measure_kept(result)
    result.save(metrics, predictions)
    return result, metrics


def _fit_and_evaluate(
    fitter: "HeadFitter", folds: Sequence[RowIndex]
) -> tuple["Fitted", RowIndex, ScoredRows]:
    """A fitted model, the rows it was given, and the scored eval rows.

    In cross-validation the model is given all rows, and the out-of-fold scores both evaluate and validate.
    """
    all_rows = np.arange(len(fitter.Y))
    if len(folds) == 1:
        rows = np.setdiff1d(all_rows, folds[0])
        fitted = fitter.fit(rows)
        return fitted, rows, fitter.scored(fitted.model, fitted.X, folds[0])
    evaluated, warnings = fitter.out_of_fold(folds)
    fitted = fitter.fit(all_rows)
    fitted = replace(fitted, validation=evaluated, warnings=[*warnings, *fitted.warnings])
    return fitted, all_rows, evaluated


def _record(
    store: Store, samples: Samples, fitted: "Fitted", identity: str, seconds: float, warnings: list[str]
) -> RunRecord:
    table = samples.table
    return RunRecord(
        features=_features(samples.references, fitted.X),
        captioners=_captioners(samples.references),
        classes=samples.classes,
        store=str(store.path.resolve()),
        table=table.source,
        id_column=table.id_column,
        label_separator=table.label_separator,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        warnings=warnings,
        scales=fitted.scales,
        identity=identity,
        code=code_key(),
    )


def _features(references: Sequence[FeatureSource], X: Matrix) -> dict[str, FittedFeature | None]:
    """The features by name, with the length of their sequences in X; None for a feature that is learned."""
    return {
        reference.name: FittedFeature.of(reference.feature, reference.captions, X.shapes[reference.name][0])
        if isinstance(reference, StoredFeature)
        else None
        for reference in references
    }


def _captioners(references: Sequence[FeatureSource]) -> dict[str, FittedFeature]:
    """By encoder, the features of texts that captioners wrote for the features."""
    written = [reference.written for reference in references if isinstance(reference, StoredFeature)]
    return {feature.encoder: FittedFeature.of(feature) for feature in written if feature}


def _free_place(head: str) -> Path:
    """`runs/HEAD`, or the first free of `runs/HEAD-2`, `runs/HEAD-3`, …"""
    places = (Path("runs") / (head if number == 1 else f"{head}-{number}") for number in count(1))
    return next(place for place in places if not place.exists())


@dataclass(frozen=True)
class Fitted:
    """A model, the matrix as it takes it, its scores of the validation rows, and warnings about it."""

    model: Model
    X: Matrix
    validation: ScoredRows
    warnings: list[str]
    scales: dict[str, str]  # by feature; empty if the head takes the features as they are


@dataclass(frozen=True)
class HeadFitter:
    """Fits heads of one kind on rows of a table."""

    head: str
    options: Mapping[str, Any]
    X: Matrix  # (n, d)
    Y: LabelMatrix  # (n, c)
    ids: list[str]
    keys: Keys  # (n, 16), see `rows.content_keys`
    seed: int
    groups: Groups | None = None  # (n,): rows with equal numbers are fitted on or validated on together
    classes: Sequence[str] | None = None  # (c,) names for warnings; by default their numbers
    scale: str = "auto"  # see `standardise.choose_scales`

    @cached_property
    def draws(self) -> FloatArray:
        """A number for each row, (n,), that decides on which side of splits it is."""
        return splits.row_draws(self.keys, self.ids, self.seed)

    def fit(self, rows: RowIndex) -> Fitted:
        """Fit a model on the rows, except an inner part: the validation rows, which stop the training.

        Raises DataError if the validation scores are not finite; see `check_scores` for the warnings.
        """
        rows = rows[np.argsort(self.draws[rows])]  # a shuffled table gives the same model
        train, validation = splits.validation_split(
            self.Y, rows, splits.VALIDATION_FRACTION, self.draws, self.groups
        )
        X = self.X.fitted(train)
        head = heads.make(self.head, **heads.with_shapes(self.head, self.options, X.shapes))
        X_train, X_val = RowView(X, train), RowView(X, validation)
        if head.takes_raw:
            scales, mean, scale = {}, np.zeros(X.shape[1], np.float32), np.ones(X.shape[1], np.float32)
        else:
            shapes = [*X.shapes.values()]
            kinds = choose_scales(X_train, shapes, self.scale)
            mean, scale = standardisation(X_train, shapes, kinds)
            scales = dict(zip(X.shapes, kinds, strict=True))
        model = Model(mean, scale, head, X.vectorisers)
        head.fit(model.standardise(X_train), self.Y[train], model.standardise(X_val), self.Y[validation])
        scored = self.scored(model, X, validation)
        classes = self.classes or [str(number) for number in range(self.Y.shape[1])]
        doubts = check_scores(self.head, classes, scored.scores, scored.labels, self.Y[train])
        warnings = [*head.warnings, *doubts]
        return Fitted(model, X, scored, warnings, scales)

    def scored(self, model: Model, X: Matrix, rows: RowIndex) -> ScoredRows:
        """The rows with the model's scores and their labels; X (n, d) as the model takes it."""
        scores = model.scores(RowView(X, rows))
        groups = None if self.groups is None else self.groups[rows]
        ids, missing = [self.ids[row] for row in rows], self.X.missing()[rows]
        return ScoredRows(ids, scores, self.Y[rows], missing=missing, groups=groups, keys=self.keys[rows])

    def out_of_fold(self, folds: Sequence[RowIndex]) -> tuple[ScoredRows, list[str]]:
        """All rows, each scored by a model that has not seen its fold; and the warnings about the models."""
        warnings: list[str] = []
        scores = np.empty(self.Y.shape, np.float32)
        fold_of = np.empty(len(self.Y), np.intp)
        for number, rows in enumerate(folds):
            fitted = self.fit(np.setdiff1d(np.arange(len(self.Y)), rows))
            scores[rows] = fitted.model.scores(RowView(fitted.X, rows))
            fold_of[rows] = number
            warnings += [f"fold {number + 1} of {len(folds)}: {line}" for line in fitted.warnings]
        missing = self.X.missing()
        return ScoredRows(self.ids, scores, self.Y, fold_of, missing, self.groups, keys=self.keys), warnings
