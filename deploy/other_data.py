"""A run applied to other data than it was fitted on: its labels for them, and how good these are."""

import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from encode_once.cache import Store, Table, UsageError
from encode_once.cache.terminal import print_message, short_list
from encode_once.classify.data.labels import class_names
from encode_once.classify.data.samples import Samples
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.runs import predict as predicting
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.predict import Predicted, choose_split, differences, fitted_store, store_for
from encode_once.classify.runs.prevalence import check_method
from encode_once.classify.runs.prevalence import text as prevalence_text
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import Run
from encode_once.deploy.encoding import Encoding, Weights, weights_of
from encode_once.deploy.predictions import Predictions, PredictionWarning
from encode_once.extract import ComputeOptions, ReadOptions
from encode_once.extract.readers.corrections import dropped

Data = str | os.PathLike[str] | Samples


def evaluate(
    run: Run | str | os.PathLike[str],
    data: Data | None = None,
    *,
    table: str = "auto",
    store: str | os.PathLike[str] | None = None,
    device: str = "auto",
    weights: Weights = None,
    trust: bool = False,
    prevalence: str | None = None,
    read: ReadOptions = ReadOptions(),
    compute: ComputeOptions = ComputeOptions(),
    progress: bool = True,
) -> Evaluation:
    """Measure a run on its eval rows, or on other data, of which only what is missing is encoded.

    Rows that the run was fitted or tuned on are left out, and counted in a warning. The store that it was
    fitted from is only read: vectors of new rows are stored in RUN/store, or in `store`.

    Args:
        run: the run, or its folder.
        data: a data set of a store, such as `load("store").dataset("val")`; or a folder, as for `encode`.
        table: of a folder, the split; "auto": train if it has labels, else another.
        store: read and extended, instead of the run's.
        device, weights, trust: as for `Predictor`.
        prevalence: "em" corrects scores for how frequent classes are in the data, as estimated from scores.
        read: how a folder is read; what is left out is as in the run's data.
        compute: what makes the encoders fast; the run decides precision and bit depth.
        progress: show a progress bar on stderr.

    Raises:
        DataError: the data has no labels that the run knows, or no rows that the run has not seen.
        MissingRowsError: the data set lacks a vector that the run needs.
        UsageError: an option without an effect.

    Examples:
        >>> encode_once.evaluate("runs/mlp").frame()                          # doctest: +SKIP
        >>> encode_once.evaluate("runs/mlp", "more-photos").metrics["mAP"]    # doctest: +SKIP
    """
    notes = list[str]()
    encoding = _encoding(store, device, weights, trust, read, compute, notes, progress=progress)
    options = {"table": table != "auto", "trust": trust and (data is None or isinstance(run, Run))}
    _check_options(options | {"store": store, "weights": weights}, encoding, data)
    run = run if isinstance(run, Run) else load_run(run, trust=trust)
    check_method(run, prevalence, len(data.table) if isinstance(data, Samples) else None)
    if data is None:
        if prevalence:
            raise UsageError("prevalence is for other data: labels of eval rows are as frequent as before")
        notes += differences(run, fitted_store(run))
        evaluation = evaluate_kept(run)
    elif isinstance(data, Samples):
        notes += [*_other_features(run, data), *_other_classes(run, data)]
        evaluation = predicting.evaluate(run, data.store, data.table, prevalence)
    else:
        (evaluation,) = evaluate_on([run], data, table, encoding, prevalence)
    return replace(evaluation, warnings=_issued([*notes, *evaluation.warnings]))


def evaluate_on(
    runs: Sequence[Run],
    data: str | os.PathLike[str],
    split: str,
    encoding: Encoding,
    prevalence: str | None = None,
) -> list[Evaluation]:
    """Measure runs on other data, in one store for all runs that read the same one."""
    for run in runs:
        check_method(run, prevalence)

    def choose(run: Run, tables: Sequence[Table]) -> Table:
        labelled = [table for table in tables if table.labels is not None]
        table = choose_split(labelled or tables, split, "train")
        check_method(run, prevalence, len(table))
        return table

    evaluations = []
    trust = encoding.trusted(runs)
    stores: dict[str, Store] = {}
    with ExitStack() as stack:
        for run in runs:
            path = encoding.store or run.record.store
            if path not in stores:
                stores[path] = stack.enter_context(store_for(run, encoding.store))
            table = encoding.encode(run, data, stores[path], trust, partial(choose, run))
            encoding.warn(dropped([table], stores[path]))
            evaluations.append(predicting.evaluate(run, stores[path], table, prevalence))
    return evaluations


def predict(
    run: Run | str | os.PathLike[str],
    data: Data,
    *,
    table: str = "auto",
    store: str | os.PathLike[str] | None = None,
    device: str = "auto",
    weights: Weights = None,
    trust: bool = False,
    prevalence: str | None = None,
    read: ReadOptions = ReadOptions(),
    compute: ComputeOptions = ComputeOptions(),
    progress: bool = True,
) -> Predictions:
    """The labels of every row of a data set or a folder, of which only what is missing is encoded.

    For images and captions in memory, or single files, see `Predictor`.

    Args:
        table: of a folder, the split; "auto": test if there is one, else train.
        run, data, store, device, weights, trust, prevalence, read, compute, progress: as for `evaluate`.

    Raises:
        MissingRowsError: the data set lacks a vector that the run needs.
        UsageError: there is no such split, or an option without an effect.

    Examples:
        >>> encode_once.predict("runs/mlp", "input").frame().to_csv("scores.csv")    # doctest: +SKIP
    """
    notes = list[str]()
    encoding = _encoding(store, device, weights, trust, read, compute, notes, progress=progress)
    options = {"table": table != "auto", "trust": trust and isinstance(run, Run)}
    _check_options(options | {"store": store, "weights": weights}, encoding, data)
    run = run if isinstance(run, Run) else load_run(run, trust=trust)
    if isinstance(data, Samples):
        notes += _other_features(run, data)
        check_method(run, prevalence, len(data.table))
        rows, predicted = data.table, predicting.label(run, data.store, data.table, prevalence)
    else:
        rows, predicted = label_rows_of(run, data, table, encoding, prevalence)
    notes += [prevalence_text(predicted.prevalence)] if predicted.prevalence else []
    return Predictions(
        rows.ids,
        run.record.classes,
        predicted.probabilities,
        predicted.labels,
        [*run.record.features],
        predicted.missing,
        _issued([*notes, *predicted.warnings]),
        predicted.prevalence,
    )


def label_rows_of(
    run: Run,
    data: str | os.PathLike[str] | Table,
    split: str,
    encoding: Encoding,
    prevalence: str | None = None,
) -> tuple[Table, Predicted]:
    """The table of a split of other data, and the labels of its rows."""
    check_method(run, prevalence)

    def choose(tables: Sequence[Table]) -> Table:
        table = choose_split(tables, split, "test", "train")
        check_method(run, prevalence, len(table))
        return table

    with store_for(run, encoding.store) as store:
        table = encoding.encode(run, data, store, encoding.trusted([run]), choose)
        return table, predicting.label(run, store, table, prevalence)


def _encoding(
    store: str | os.PathLike[str] | None,
    device: str,
    weights: Weights,
    trust: bool,
    read: ReadOptions,
    compute: ComputeOptions,
    notes: list[str],
    *,
    progress: bool,
) -> Encoding:
    """How other data are encoded, from options of `evaluate` and `predict`; warnings are added to notes."""
    return Encoding(
        None if store is None else os.fspath(store),
        device,
        partial(weights_of, weights),
        trust,
        say=print_message,
        warn=notes.extend,
        read=read,
        compute=compute,
        progress=progress,
    )


def _check_options(options: dict[str, Any], encoding: Encoding, data: Data | None) -> None:
    """Refuse options about a folder of data if there is none.

    Raises:
        UsageError: an option has a value.
    """
    if data is not None and not isinstance(data, Samples):
        return
    options = options | {
        "device": encoding.device != "auto",
        "read": encoding.read != ReadOptions(),
        "compute": encoding.compute != ComputeOptions(),
    }
    if named := [name for name, value in options.items() if value]:
        raise UsageError(f"{named[0]} is for a folder of data: nothing is encoded without")


def _other_features(run: Run, data: Samples) -> list[str]:
    """A warning if a data set leaves out features that the run reads."""
    names = [name for name in run.record.stored if name not in data.features]
    return [f"read for {run.path}, although the data set leaves it out: {name}" for name in names]


def _other_classes(run: Run, data: Samples) -> list[str]:
    """A warning if a data set leaves out classes that the run is measured on, and rows have."""
    names = {*class_names(data.table.labels or [])} & {*run.record.classes} - {*data.classes}
    if not names:
        return []
    return [
        f"measured in the {len(run.record.classes)} classes of {run.path}, also in those that the data set "
        f"leaves out: {short_list(sorted(names))}"
    ]


def _issued(notes: Sequence[str]) -> list[str]:
    """The notes, each of which is issued as a warning of the caller's caller."""
    for note in notes:
        warnings.warn(note, PredictionWarning, stacklevel=3)
    return [*notes]
