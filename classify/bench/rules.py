"""Decision rules on rows that they were not tuned on.

A run's eval rows are halved at random, again and again: rules are tuned on one half, or on a few of its rows,
and measured on the other. The halves share rows, so the standard errors over the repeats describe the luck
of halving, not of which rows were collected; `evaluate` has intervals for the latter.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from encode_once.cache import DataError
from encode_once.classify.arrays import FloatArray, RowIndex
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import average_f1
from encode_once.classify.runs.run import Run

AVERAGES = ("micro", "macro", "samples")
# The rules that the others are compared with.
HALF, SINGLE, EXACT = "0.5", "one threshold", "exact thresholds"
# Rule → its spec to do well in an average of F1.
RULES: dict[str, Callable[[str], DecisionSpec]] = {
    HALF: lambda average: DecisionSpec("none"),
    SINGLE: lambda average: DecisionSpec(f"global-{average}"),
    EXACT: lambda average: DecisionSpec(average, shrink=False),
    "shrunk thresholds": DecisionSpec,
    "0.5, at least 1 label": lambda average: DecisionSpec("none", at_least=1),
    "shrunk thresholds, at least 1": lambda average: DecisionSpec(average, at_least=1),
    "expected-mean": lambda average: DecisionSpec(decide="expected-mean"),
    "expected-f1": lambda average: DecisionSpec(decide="expected-f1"),
    "expected-f1, isotonic": lambda average: DecisionSpec(decide="expected-f1", calibrate="isotonic"),
    "expected-f1, none": lambda average: DecisionSpec(decide="expected-f1", calibrate="none"),
}

Row = dict[str, Any]


def unseen_f1(run: Run, repeats: int = 20, few: int = 1000, seed: int = 0) -> Iterator[Row]:
    """Mean F1 of each rule on the other half, tuned on half of a run's `eval` rows and on a few of these.

    Each average of F1 is that of the rule tuned for it. `less 0.5`, `less one threshold` and `less exact
    thresholds` are mean paired differences from these rules, each with its standard error.
    """
    rows = run.eval
    half = len(rows.ids) // 2
    if not half:
        raise DataError(f"{run.path} has {len(rows.ids)} evaluated row: two or more can be halved")
    for count in sorted({half, min(few, half)}, reverse=True):
        rng = np.random.default_rng(seed)  # the same halves for both
        halves = (np.split(rng.permutation(len(rows.ids)), [half]) for _ in range(repeats))
        values = np.array([_once(rows, tuned[:count], unseen) for tuned, unseen in halves])
        for row in _rows(values):
            yield {"run": str(run.path), "tuned on": count, **row}


def _once(rows: ScoredRows, tuned: RowIndex, unseen: RowIndex) -> list[list[float]]:
    """F1 of each rule and average, (rules, averages), on the unseen rows."""
    predictions = {
        spec: spec.fit(rows.scores[tuned], rows.labels[tuned], intervals=False)(rows.scores[unseen])
        for spec in {rule(average) for rule in RULES.values() for average in AVERAGES}
    }
    labels = rows.labels[unseen]
    return [
        [average_f1(labels, predictions[rule(average)], average) for average in AVERAGES]
        for rule in RULES.values()
    ]


def _rows(values: FloatArray) -> Iterator[Row]:
    """A row per rule, of values (repeats, rules, averages)."""
    names = [*RULES]
    for k, rule in enumerate(names):
        row: Row = {"rule": rule}
        for j, average in enumerate(AVERAGES):
            figures: Row = {"mean": float(values[:, k, j].mean())}
            for other in (HALF, SINGLE, EXACT):
                less = values[:, k, j] - values[:, names.index(other), j]
                error = less.std(ddof=1) / np.sqrt(len(less)) if len(less) > 1 else np.nan
                figures[f"less {other}"] = None if rule == other else float(less.mean())
                figures[f"error, less {other}"] = None if rule == other or np.isnan(error) else float(error)
            row[average] = figures
        yield row


def text(rows: Sequence[Row], table: Callable[[Sequence[Row]], str]) -> str:
    """A table for each run and number of rows tuned on, laid out by `table`."""
    parts = []
    for run, count in dict.fromkeys((row["run"], row["tuned on"]) for row in rows):
        of_table = [row for row in rows if (row["run"], row["tuned on"]) == (run, count)]
        lines = [{"rule": row["rule"]} | {name: _cell(row[name]) for name in AVERAGES} for row in of_table]
        parts.append(f"{run}, tuned on {count} rows\n\n{table(lines)}")
    note = f"In brackets: less {SINGLE}; less {EXACT}; ± one standard error; in units of the last digit."
    return "\n\n".join([*parts, note])


def _cell(figures: Row) -> str:
    """As 0.7242 (+11.0 ± 4.1; –): the mean, and the differences in units of its last digit."""

    def difference(other: str) -> str:
        less, error = figures[f"less {other}"], figures[f"error, less {other}"]
        if less is None:
            return "–"
        return f"{less * 1e4:+.1f}" + ("" if error is None else f" ± {error * 1e4:.1f}")

    return f"{figures['mean']:.4f} ({difference(SINGLE)}; {difference(EXACT)})"
