"""Tables of the contest of heads and peers: each set, and ranks over all sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from encode_once.cache import MissingDataError
from encode_once.cache.text_table import interval_text
from encode_once.classify.arrays import FloatArray
from encode_once.classify.bench.heads import AVERAGES, DONE, OWN, RULES, Results, Row, decided
from encode_once.classify.bench.peers import PEERS
from encode_once.classify.evaluation.intervals import interval, resampled

SAME = {average: f"{average} F1, {average} thresholds" for average in AVERAGES}
FIGURES_SHOWN = {  # column of the table → column of results.csv
    **{f"{average}, own": f"{average} F1, {OWN}" for average in AVERAGES},
    **{f"{average}, same": SAME[average] for average in AVERAGES},
    "samples, expected-f1": "samples F1, expected-f1",
    "mAP": "mAP",
    "Hamming": f"Hamming loss, {OWN}",
    "seconds": "seconds",
    "CPU seconds": "CPU seconds",
    "MB": "MB",
}
RANKED = {  # column of the table → columns of results.csv whose ranks it averages
    "own rule": [f"{average} F1, {OWN}" for average in AVERAGES],
    "same thresholds": [*SAME.values()],
    "expected-f1, samples": ["samples F1, expected-f1"],
    "mAP": ["mAP"],
}


def tables(folder: Path) -> dict[str, list[Row]]:
    """Title → rows: mean ranks over the sets, the decision rules, then a table for each set.

    Raises:
        MissingDataError: nothing was measured.
    """
    results = Results(folder)
    if not results.rows:
        raise MissingDataError(f"{results.path} has no results: run bench heads without --table first")
    sets = [*dict.fromkeys(row["set"] for row in results.rows)]
    of_sets = {name: _set_table(results, name) for name in sets}
    return {
        "Mean rank over the sets": _ranks(results, sets),
        "Mean distance to the best decision rule": _distances(results.rows),
    } | of_sets


def _means(results: Results, data: str) -> dict[str, Row]:
    """System → the means over its seeds in every column of figures; None where a seed has no figure."""
    means = {}
    for system in dict.fromkeys(row["system"] for row in results.rows):
        rows = [row for row in results.rows if (row["set"], row["system"]) == (data, system)]
        columns = {*FIGURES_SHOWN.values(), *(column for columns in RANKED.values() for column in columns)}
        means[system] = {column: _mean([row[column] for row in rows]) for column in columns} | {
            "seeds": len(rows),
            "outcome": "; ".join(dict.fromkeys(row["outcome"] for row in rows if row["outcome"] != DONE)),
        }
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    return None if not values or None in values else float(np.mean(np.array(values, np.float64)))


def _ranks(results: Results, sets: Sequence[str]) -> list[Row]:
    """A row for each system with its mean ranks over the sets, the best first.

    A system without a figure on a set ranks last there.
    """
    means = [_means(results, data) for data in sets]
    systems = [*means[0]]
    ranks = {
        title: np.mean(
            [
                rankdata([np.inf if row[column] is None else -row[column] for row in of_set.values()])
                for of_set in means
                for column in columns
            ],
            axis=0,
        )
        for title, columns in RANKED.items()
    }
    rows: list[Row] = [
        {"system": system} | {title: float(values[k]) for title, values in ranks.items()}
        for k, system in enumerate(systems)
    ]
    return sorted(rows, key=lambda row: row["same thresholds"])


def _distances(rows: Sequence[Row]) -> list[Row]:
    """A row for each rule: by average of F1, how far it is from the best rule, mean over the heads' results.

    The rule that is least far in its worst average comes first.
    """
    of_heads = [row for row in rows if row["outcome"] == DONE and row["system"] not in PEERS]
    figures = np.array(
        [[[row[f"{average} F1, {rule}"] for average in AVERAGES] for rule in RULES] for row in of_heads],
        np.float64,
    ).reshape(-1, len(RULES), len(AVERAGES))  # (results, rules, averages)
    if not len(figures):
        return []
    distances = (figures.max(axis=1, keepdims=True) - figures).mean(axis=0)
    table: list[Row] = [
        {"rule": rule, **dict(zip(AVERAGES, values.tolist(), strict=True)), "worst": float(values.max())}
        for rule, values in zip(RULES, distances, strict=True)
    ]
    return sorted(table, key=lambda row: row["worst"])


def _set_table(results: Results, data: str) -> list[Row]:
    """A row for each system, the best micro F1 by the same thresholds first.

    The difference is that from the system with the highest F1 of the average by the same thresholds, with its
    paired 95 % interval over bootstrap draws of the test rows, mean of seeds.
    """
    means = {system: row for system, row in _means(results, data).items() if row["seeds"]}
    draws = {average: _draws(results, data, average, means) for average in AVERAGES}
    rows = []
    for system in sorted(means, key=lambda name: -(means[name][SAME["micro"]] or 0)):
        of_system = means[system]
        row: Row = {"system": system, "seeds": of_system["seeds"]}
        row |= {title: of_system[column] for title, column in FIGURES_SHOWN.items()}
        row |= {
            f"{average}, difference from the best": _less_best(means, draws[average], average, system)
            for average in AVERAGES
        }
        rows.append(row | {"outcome": of_system["outcome"]})
    return rows


def _draws(results: Results, data: str, average: str, means: Mapping[str, Row]) -> dict[str, FloatArray]:
    """System → F1 by the same thresholds on each draw, mean over the seeds; only of systems that finished."""
    return {
        system: np.mean(
            [
                _resampled(results.scores_path(data, system, seed), average)
                for seed in range(int(row["seeds"]))
            ],
            axis=0,
        )
        for system, row in means.items()
        if row[SAME[average]] is not None
    }


def _resampled(path: Path, average: str) -> FloatArray:
    with np.load(path) as arrays:
        predictions = decided(arrays, f"{average} thresholds")
        labels = arrays["labels"]
    by_metric = resampled(labels, predictions, predictions.astype(np.float32))  # F1 needs no scores
    return by_metric[f"{average}_f1"]


def _less_best(
    means: Mapping[str, Row], draws: Mapping[str, FloatArray], average: str, system: str
) -> str | None:
    if system not in draws:
        return None
    figures: dict[str, Any] = {name: means[name][SAME[average]] for name in draws}
    best = max(figures, key=lambda name: figures[name])
    if system == best:
        return "best"
    difference = figures[system] - figures[best]
    return f"{difference:+.3f} ({interval_text(interval(draws[system] - draws[best], difference), '+')})"
