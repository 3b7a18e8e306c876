"""Fit a run: features of a store → a fitted head, a decision rule, and metrics on the eval rows.

Eval rows are never used to fit, to stop, to choose or to tune.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count as counting
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import Store, Table, UsageError
from encode_once.cache.terminal import short_list
from encode_once.classify import heads
from encode_once.classify.arrays import RowIndex
from encode_once.classify.data import splits
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, StoredFeature
from encode_once.classify.data.groups import Grouping
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import SINGLE, require_one_label
from encode_once.classify.data.rows import content_keys, part_keys
from encode_once.classify.data.samples import Samples, load_samples
from encode_once.classify.data.split_lists import short_split
from encode_once.classify.data.tables import table_to_fit
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.heads import class_weights
from encode_once.classify.partial import count, positives
from encode_once.classify.runs import own_files
from encode_once.classify.runs.head_fitter import Fitted, HeadFitter
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.origin import Origin
from encode_once.classify.runs.record import FittedFeature, RunRecord
from encode_once.classify.runs.retune import decide, measure_kept
from encode_once.classify.runs.run import Run, check_place
from encode_once.classify.spec import FitSpec, check_options, code_key


def fit(
    store: Store | str | os.PathLike[str] = "store",
    spec: FitSpec | str = "mlp",
    *,
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    table: Table | None = None,
    **values: Any,
) -> tuple[Run, Metrics]:
    """Fit a head on cached features, tune its thresholds, measure it on the eval rows, and save the run.

    Args:
        store: where the features are.
        spec: what to fit, or only the name of the head.
        run: the folder to write; by default `runs/HEAD`, or the first free one of `runs/HEAD-2`, …
        overwrite: replace a run that is in the folder.
        table: the table to learn from, if it is loaded already.
        values: with the name of a head, other fields of a `FitSpec`, and its options, such as `dropout=0.3`.

    Returns:
        The run, and its metrics on the eval rows.

    Raises:
        EncodeOnceError: a name, the store or the table cannot be used, or the folder holds a run.
    """
    store = store if isinstance(store, Store) else Store(store)
    if isinstance(spec, str):
        spec = FitSpec.of(spec, **values)
    elif values:
        raise UsageError(f"fit takes a FitSpec, or {', '.join(values)} with the name of a head, but not both")
    path = Path(run) if run is not None else _free_place(spec.head)
    check_place(path, overwrite)
    check_options(spec)
    heads.make(spec.head, **spec.head_options)  # raises for an unknown name before anything is read

    started = time.perf_counter()  # by now the head's libraries are imported
    table = table or table_to_fit(store, spec.data, spec.split, spec.labels)
    samples = load_samples(store, spec.features, table, spec.only_classes, Hierarchy(spec.hierarchy))
    table = samples.table
    if spec.task == SINGLE:
        hint = "; correct these labels (extract or update --corrections FILE), or fit with --task multi"
        hint += ", or without --classes" if spec.only_classes else ""
        require_one_label(samples.Y, table.source, hint, table.ids)
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
        groups=groups,
        classes=samples.classes,
        scale=spec.scale,
        validation=spec.validation,
        task=spec.task,
    )
    folds = splits.folds(spec.split, samples.Y, table.columns, fitter.draws, groups)
    validation = splits.marked_validation(spec.split, table.columns)
    unused = splits.marked_unused(spec.split, table.columns)
    fitted, rows, evaluated = _fit_and_evaluate(fitter, folds, validation, unused)
    untrained = [samples.classes[c] for c in np.flatnonzero(~positives(samples.Y[rows]).any(axis=0))]
    warnings = [
        *samples.X.warnings,
        *fitted.warnings,
        *grouping.warnings(spec.split, folds[0], groups),
        *_warnings(spec, options, samples, len(unused), untrained),
    ]
    pairs = Hierarchy(spec.hierarchy).pairs(samples.classes)
    seconds = round(time.perf_counter() - started, 3)
    record = replace(
        _record(store, samples, fitted, identity, seconds, warnings, untrained, spec.own_code, spec.labels),
        defaults=heads.unset_defaults(spec.head, options),
        origin=Origin.now(),
        asked_validation=spec.validation,
    )
    record.warnings.extend(own_files.without_copy(path, record.encoder_code))
    result = Run(
        path,
        replace(
            spec,
            features=tuple(record.features),
            options=options,
            data=table.source,
            validation="tenth" if validation is not None else fitter.validation_of(rows),
        ),
        record,
        lambda: fitted.model,
        fitted.validation,
        evaluated,
        keys[np.union1d(rows, folds[0]) if spec.tune_on == "eval" else rows],
        decide(spec.decision, fitted.validation, evaluated, spec.tune_on, pairs),
        fitted.model.head.history_,
    )
    metrics, predictions = measure_kept(result)
    result.save(metrics, predictions, model_card(result))
    return result, metrics


def _warnings(
    spec: FitSpec, options: Mapping[str, Any], samples: Samples, unused: int, untrained: Sequence[str]
) -> Iterator[str]:
    """What of the rows and labels is left out, and scores that are no probabilities.

    unused: number of rows.
    untrained: classes without a row to learn from.
    """
    if unused:
        split = short_split(spec.split)
        yield f"{unused} of {len(samples.table)} rows are left out: split {split} does not use them"
    if unknown := count(samples.Y):
        yield (
            f"{unknown:,} of {samples.Y.size:,} label entries are unknown ({unknown / samples.Y.size:.0%}): "
            "they are neither learned from nor measured"
        )
    if spec.decision.calibration == "none" and class_weights.are_set(options):
        yield "class weights raise scores, so they are not probabilities; --calibrate sigmoid corrects them"
    if untrained:
        yield f"no row to fit on has one of the labels {short_list(untrained)}: they are not learned"


def _fit_and_evaluate(
    fitter: HeadFitter, folds: Sequence[RowIndex], validation: RowIndex | None, unused: RowIndex
) -> tuple[Fitted, RowIndex, ScoredRows]:
    """A fitted model, the rows it was given, and the scored eval rows.

    In cross-validation the model is given all rows, and the out-of-fold scores both evaluate and validate.
    """
    all_rows = np.arange(len(fitter.Y))
    if len(folds) > 1:
        fitted = fitter.cross_fit(all_rows, folds)
        return fitted, all_rows, fitted.validation
    rows = np.setdiff1d(all_rows, np.union1d(folds[0], unused))
    fitted = fitter.fit(rows, validation)
    return fitted, rows, fitter.scored(fitted.model, fitted.X, folds[0])


def _record(
    store: Store,
    samples: Samples,
    fitted: Fitted,
    identity: str,
    seconds: float,
    warnings: list[str],
    untrained: list[str],
    own_code: dict[str, str],
    labels: str,
) -> RunRecord:
    table = samples.table
    return RunRecord(
        features=_features(samples.references, fitted.X),
        captioners=_captioners(samples.references),
        classes=samples.classes,
        store=store.location if store.mirror else str(store.path.resolve()),
        table=table.source,
        id_column=table.id_column,
        label_separator=table.label_separator,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        warnings=warnings,
        scales=fitted.scales,
        identity=identity,
        code=code_key(),
        untrained=untrained,
        named_columns=table.named_columns,
        corrections=table.corrections,
        own_code=own_code,
        table_keys=part_keys(table),
        unknown_marks=table.unknown_marks,
        uncertain=table.uncertain,
        label_set_columns=table.label_sets[labels].columns if labels else [],
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
    """`runs/HEAD`, or the first free of `runs/HEAD-2`, `runs/HEAD-3`, …; HEAD has no file or module."""
    head = head.rpartition(":")[2]
    places = (Path("runs") / (head if number == 1 else f"{head}-{number}") for number in counting(1))
    return next(place for place in places if not place.exists())
