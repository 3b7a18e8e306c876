"""Heads next to the usual libraries, and the memory that fitting takes."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from encode_once.cache import Keys, Store
from encode_once.cache.bench.peak_memory import Peaks, peaks_of, with_peak_memory
from encode_once.cache.bench.stopwatch import timed
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.arrays import Groups, LabelMatrix, RowIndex, Scores, as_labels
from encode_once.classify.bench import baselines
from encode_once.classify.bench.synthetic import synthetic_store
from encode_once.classify.data import duplicates, matrix, splits
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.data.tables import choose_table
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import average_f1
from encode_once.classify.heads.base import Head
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.head_fitter import HeadFitter

Row = dict[str, Any]
QUICK: Mapping[str, Mapping[str, Any]] = {"mlp": {"epochs": 1, "progress": False}, "linear": {"Cs": [0.001]}}
Scorer = Callable[[RowIndex], Scores]  # rows (m,) → their scores (m, c)


def contest(
    store: str | os.PathLike[str],
    names: Sequence[str],
    *,
    features: Sequence[str] = (),
    split: str = "stratified:0.1",
    data: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    plain: bool = False,
) -> Iterator[Row]:
    """Micro and macro F1 of eval rows, with 0.5 and with per-class thresholds: a row per model, once fitted.

    scikit-learn's logistic regression comes first, and `linear` also has a row at its strengths. With `plain`
    the baseline of each head precedes the head. `options` are those of the heads, by name. `seconds` are for
    fitting and model choice, `seconds to score` for the eval rows; `times as fast` compares the sum of both
    with the baseline's.
    """
    options = options or {}
    for name in options:
        if name not in names:
            raise unknown_name("head of this bench", name, names)
    all_options = {name: {"seed": seed, **options.get(name, {})} for name in names}
    unfitted = {name: heads.make(name, **all_options[name]) for name in names}  # imports libraries, untimed

    race = Race.of(Store(store), features, split, data, seed)
    shapes = [*race.X.shapes.values()]
    single = [(1, race.X.shape[1])]  # every column has variance 1, as with StandardScaler
    linear = race.run(baselines.NAMES["linear"], partial(race.baseline, "linear", None, single))
    yield linear
    if len(shapes) > 1:  # a single feature is balanced already
        fit_balanced = partial(race.baseline, "linear", None, shapes)
        yield race.run("the same, features balanced as ours", fit_balanced)
    for name in names:
        baseline = None
        if name == "linear":
            baseline = linear
            fit_same = partial(race.head, name, {**all_options[name], "Cs": baselines.STRENGTHS})
            yield race.run("linear, at the same strengths", fit_same, baseline)
        elif plain and name in baselines.NAMES:
            fit_baseline = partial(race.baseline, name, unfitted[name], shapes)
            baseline = race.run(baselines.NAMES[name], fit_baseline)
            yield baseline
        yield race.run(name, partial(race.head, name, all_options[name]), baseline)


@dataclass(frozen=True)
class Race:
    """The rows on which every model is fitted, chosen, tuned and measured."""

    X: Matrix  # (n, d)
    Y: LabelMatrix  # (n, c)
    ids: Sequence[str]
    keys: Keys  # (n, 16), of the rows' contents
    eval: RowIndex
    rows: RowIndex  # all others
    train: RowIndex
    validation: RowIndex
    seed: int
    groups: Groups  # which `fit` keeps together by default
    folds: Sequence[RowIndex]  # of `rows`, if `fit` validates on them rather than on `validation`

    @classmethod
    def of(cls, store: Store, features: Sequence[str], split: str, data: str | None, seed: int) -> "Race":
        """Features and labels of a store's table, split as `fit` splits them."""
        samples = load_samples(store, features, choose_table(store, data))
        X, Y = samples.X, as_labels(samples.Y)
        keys = content_keys(samples.table)
        groups = duplicates.exact(keys)
        draws = splits.row_draws(keys, samples.table.ids, seed)
        evaluated = splits.folds(split, Y, samples.table.columns, draws, groups)[0]
        rows = np.setdiff1d(np.arange(len(Y)), evaluated)
        train, validation = splits.validation_split(Y, rows, splits.VALIDATION_FRACTION, draws, groups)
        X = X.fitted(train)  # features that are learned from captions
        fitter = HeadFitter("", {}, X, Y, samples.table.ids, keys, seed, groups)
        folds = fitter.folds(rows) if fitter.validation_of(rows) == "folds" else ()
        return cls(X, Y, samples.table.ids, keys, evaluated, rows, train, validation, seed, groups, folds)

    def run(self, model: str, fit: Callable[[], Scorer], baseline: Row | None = None) -> Row:
        """Time fitting and scoring, then measure."""
        to_fit, score = timed(fit)
        to_score, scores = timed(lambda: score(self.eval))
        row: Row = {"model": model, "seconds": to_fit, "seconds to score": to_score, "times as fast": None}
        if baseline:
            row["times as fast"] = (baseline["seconds"] + baseline["seconds to score"]) / (to_fit + to_score)
        validation_scores = score(self.validation)
        for rule, objective in (("0.5", "none"), ("per class", "macro")):
            spec = DecisionSpec(objective)
            predictions = spec.fit(validation_scores, self.Y[self.validation])(scores)
            for average in ("micro", "macro"):
                row[f"{average} F1, {rule}"] = average_f1(self.Y[self.eval], predictions, average)
        return row

    def baseline(self, name: str, head: Head | None, shapes: Sequence[tuple[int, int]]) -> Scorer:
        """The baseline of a head, fitted on features standardised in blocks of these shapes."""
        X = Standardised(self.X, *standardisation(RowView(self.X, self.train), shapes))
        parts = ((X[rows], self.Y[rows]) for rows in (self.train, self.validation))
        score = baselines.fit(name, head, self.seed, *next(parts), *next(parts))
        return lambda rows: score(X[rows])

    def head(self, name: str, options: Mapping[str, Any]) -> Scorer:
        """A head, fitted as `fit --validation tenth` does."""
        fitter = HeadFitter(
            name, options, self.X, self.Y, self.ids, self.keys, self.seed, self.groups, validation="tenth"
        )
        fitted = fitter.fit(self.rows)
        return lambda rows: fitter.scored(fitted.model, fitted.X, rows).scores


def memory(
    head: str,
    rows: int,
    dim: int = 256,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    *,
    streamed: bool = False,
) -> Row:
    """Seconds, memory and metrics of a head that is fitted on synthetic rows.

    MB is the growth of private memory, beyond the imports; "MB with imports" is all of it, which `limit`
    (bytes) is of; "MB of the store" are mapped pages, which the system takes back when it needs memory.

    options: by default, those of a fit in one pass, which is enough to reach the peak.
    streamed: do not hold the rows, however few.
    """
    options = QUICK.get(head, {}) if options is None else options
    with synthetic_store(rows, dim) as store, tempfile.TemporaryDirectory() as folder:
        (row, peaks), growth = with_peak_memory(
            _fit_and_measure, store, head, Path(folder) / "run", options, streamed, memory=limit
        )
    sizes = {"MB": growth, "MB with imports": peaks.anonymous, "MB of the store": peaks.files}
    return {"task": f"fit {head}", "rows": rows} | row | {name: size / 1e6 for name, size in sizes.items()}


def fit_cost(dim: int, few: int, many: int, repeats: int = 3) -> float:
    """Seconds per row of `fit --head linear`: the difference of fits on few and on many synthetic rows."""
    small, large = (_fit_seconds(rows, dim, repeats) for rows in (few, many))
    return max(0.0, large - small) / (many - few)


def _fit_seconds(rows: int, dim: int, repeats: int) -> float:
    with synthetic_store(rows, dim) as store, tempfile.TemporaryDirectory() as folder:
        return median(_fit(store, "linear", Path(folder) / str(number), {}) for number in range(repeats))


def _fit(store: Path, head: str, run: Path, options: dict[str, Any]) -> float:
    return fit(store, head, run=run, options=options)[0].record.seconds


def _fit_and_measure(
    store: Path, head: str, run: Path, options: Mapping[str, Any], streamed: bool
) -> tuple[Row, Peaks]:
    if streamed:
        matrix.IN_MEMORY = 0  # of this process, which does nothing else
    (fitted, metrics), peaks = peaks_of(lambda: fit(store, head, run=run, options=options))
    shown = {name: metrics[name] for name in ("micro_f1", "macro_f1", "mAP")}
    return {"seconds": fitted.record.seconds, **shown}, peaks
