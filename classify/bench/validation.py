"""Validation rows for few train rows: a tenth of them, or all by folds, under several decision rules.

Train rows are drawn from a table again and again; a head is fitted on them in both ways, and measured on the
rest. The draws share rows, so the standard errors describe the luck of drawing, not of which rows were
collected.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from encode_once.cache import DataError, Store
from encode_once.cache.bench.stopwatch import timed
from encode_once.classify.arrays import FloatArray, RowIndex
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.tables import choose_table
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import average_f1
from encode_once.classify.runs.head_fitter import HeadFitter

AVERAGES = ("micro", "macro", "samples")
RULES = {
    "default": DecisionSpec(),
    "samples thresholds": DecisionSpec("samples"),
    "macro thresholds": DecisionSpec("macro"),
    "one threshold": DecisionSpec("global-macro"),
    "0.5": DecisionSpec("none"),
}
KINDS = ("tenth", "folds")

Row = dict[str, Any]
Draws = Iterator[tuple[tuple[str, int], Iterator[tuple[HeadFitter, RowIndex, RowIndex]]]]


def few_rows(groups: Draws) -> Iterator[Row]:
    """F1 of each head and rule on unseen rows, by number of train rows and kind of validation rows.

    A row has the means over the draws of `micro`, `macro` and `samples` F1 and of the seconds of a fit, and
    for "folds" each `less tenth`, with its standard error under `error`.

    groups: see `draws_of`.
    """
    for (name, size), draws in groups:
        timings = [
            [
                timed(partial(figures, replace(fitter, validation=kind), train, unseen, RULES))
                for kind in KINDS
            ]
            for fitter, train, unseen in draws
        ]
        seconds = np.array([[time for time, _ in draw] for draw in timings])  # (repeats, kinds)
        values = np.array([[reached for _, reached in draw] for draw in timings])
        yield from _rows(name, size, values.swapaxes(0, 1), seconds.mean(axis=0))


def draws_of(
    store: Store,
    names: Sequence[str],
    sizes: Sequence[int],
    repeats: int,
    *,
    features: Sequence[str] = (),
    data: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Draws:
    """For each head and number of train rows, draws of a fitter, train rows and the other rows.

    Raises:
        DataError: the table has too few rows.
    """
    samples = load_samples(store, features, choose_table(store, data))
    keys, n = content_keys(samples.table), len(samples.Y)
    if max(sizes) > n - n // 10:
        raise DataError(f"the table has {n} rows: with {max(sizes)} to fit on, too few are left to measure")

    def drawn(name: str, size: int) -> Iterator[tuple[HeadFitter, RowIndex, RowIndex]]:
        for draw in range(repeats):
            order = np.random.default_rng([seed, draw]).permutation(n)
            own = {"seed": draw, **(options or {}).get(name, {})}
            fitter = HeadFitter(name, own, samples.X, samples.Y, samples.table.ids, keys, seed=draw)
            yield fitter, order[:size], order[size:]

    for name in names:
        for size in sizes:
            yield (name, size), drawn(name, size)


def figures(
    fitter: HeadFitter, train: RowIndex, unseen: RowIndex, rules: Mapping[str, DecisionSpec]
) -> list[list[float]]:
    """F1 by rule and average, (rules, averages), on the unseen rows, of a head fitted on the train rows."""
    fitted = fitter.fit(train)
    validation, scored = fitted.validation, fitter.scored(fitted.model, fitted.X, unseen)
    predictions = (
        spec.fit(validation.scores, validation.labels, intervals=False)(scored.scores)
        for spec in rules.values()
    )
    return [[average_f1(scored.labels, rows, average) for average in AVERAGES] for rows in predictions]


def _rows(head: str, size: int, values: FloatArray, seconds: FloatArray) -> Iterator[Row]:
    """A row per kind and rule, of values (kinds, repeats, rules, averages) and seconds (kinds,)."""
    less = values[1] - values[0]
    for k, kind in enumerate(KINDS):
        for j, rule in enumerate(RULES):
            row: Row = {"head": head, "train rows": size, "validation": kind, "rule": rule}
            row |= dict(zip(AVERAGES, values[k, :, j].mean(axis=0).tolist(), strict=True))
            if kind == "folds":
                row["less tenth"] = less[:, j].mean(axis=0).tolist()
                row["error"] = (less[:, j].std(axis=0, ddof=1) / np.sqrt(len(less))).tolist()
            yield row | {"seconds": float(seconds[k])}


def text_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a table: differences in units of 0.001, as 0.703 (+12 ± 3)."""
    return [
        {
            **{name: row[name] for name in ("head", "train rows", "validation", "rule")},
            **{average: _cell(row, j, average) for j, average in enumerate(AVERAGES)},
            "seconds": row["seconds"],
        }
        for row in rows
    ]


def _cell(row: Row, j: int, average: str) -> str:
    if "less tenth" not in row:
        return f"{row[average]:.3f}"
    return f"{row[average]:.3f} ({row['less tenth'][j] * 1e3:+.0f} ± {row['error'][j] * 1e3:.0f})"
