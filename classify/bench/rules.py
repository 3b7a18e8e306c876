"""What rules from scores to labels reach on rows they were not tuned on, beside one another.

A run's kept scores are halved at random, again and again: rules are tuned on one half, or on a few of its
rows, and judged on the other. Halves share rows, so a standard error over the repeats tells the luck of
halving, not that of which rows were collected, which `evaluate` has intervals for.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError
from encode_once.classify.bench.grid_search import worth
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.runs.run import Run

AVERAGES = ("micro", "macro", "samples")
HALF, ONE, EXACT = "0.5", "one cut", "exact cuts"  # what the others are compared with
# rule → how it is asked for to do well in an average of F1
RULES: dict[str, Callable[[str], DecisionSpec]] = {
    HALF: lambda average: DecisionSpec("none"),
    ONE: lambda average: DecisionSpec(f"global-{average}"),
    EXACT: lambda average: DecisionSpec(average, shrink=False),
    "shrunk cuts": DecisionSpec,
    "0.5, at least 1 label": lambda average: DecisionSpec("none", at_least=1),
    "shrunk cuts, at least 1": lambda average: DecisionSpec(average, at_least=1),
    "expected-f1": lambda average: DecisionSpec(decide="expected-f1"),
    "expected-f1, isotonic": lambda average: DecisionSpec(decide="expected-f1", calibrate="isotonic"),
    "expected-f1, none": lambda average: DecisionSpec(decide="expected-f1", calibrate="none"),
}

Row = dict[str, Any]


def held_out(run: Run, repeats: int = 20, few: int = 1000, seed: int = 0) -> Iterator[Row]:
    """Mean held-out F1 of each rule, tuned on half of a run's rows and on a few of these: a row a rule.

    The rows are those of the run's `eval`. Each average of F1 is that of the rule tuned for it.
    `less 0.5`, `less one cut` and `less exact cuts` are mean paired differences to these rules, each with its
    standard error.
    """
    rows = run.eval
    half = len(rows.ids) // 2
    if not half:
        raise DataError(f"{run.path} has {len(rows.ids)} evaluated row: two or more can be halved")
    unlearned = {
        tuning: tuning.fit(rows.scores, rows.labels)(rows.scores)
        for tuning in {rule(average) for rule in RULES.values() for average in AVERAGES}
        if not tuning.learns
    }
    for many in sorted({half, min(few, half)}, reverse=True):
        rng = np.random.default_rng(seed)  # the same halves for both
        halves = (np.split(rng.permutation(len(rows.ids)), [half]) for _ in range(repeats))
        values = np.array([_once(rows, tuned[:many], judged, unlearned) for tuned, judged in halves])
        for row in _rows(values):  # values (repeats, rules, averages)
            yield {"run": str(run.path), "tuned on": many, **row}


def _once(
    rows: ScoredRows, tuned: NDArray[np.intp], judged: NDArray[np.intp], unlearned: Any
) -> list[list[float]]:
    """F1 of each rule and average, (rules, averages), on rows judged."""
    scores, labels, truth = rows.scores[tuned], rows.labels[tuned], rows.labels[judged]
    chosen = {tuning: labelled[judged] for tuning, labelled in unlearned.items()}

    def reached(tuning: DecisionSpec, average: str) -> float:
        if tuning not in chosen:
            chosen[tuning] = tuning.fit(scores, labels, intervals=False)(rows.scores[judged])
        return worth(Objective.of(average), truth, chosen[tuning])

    return [[reached(rule(average), average) for average in AVERAGES] for rule in RULES.values()]


def _rows(values: NDArray[np.float64]) -> Iterator[Row]:
    """A row a rule, of values (repeats, rules, averages)."""
    names = [*RULES]
    for k, rule in enumerate(names):
        row: Row = {"rule": rule}
        for j, average in enumerate(AVERAGES):
            told: Row = {"mean": float(values[:, k, j].mean())}
            for other in (HALF, ONE, EXACT):
                less = values[:, k, j] - values[:, names.index(other), j]
                error = less.std(ddof=1) / np.sqrt(len(less)) if len(less) > 1 else np.nan
                told[f"less {other}"] = None if rule == other else float(less.mean())
                told[f"error, less {other}"] = None if rule == other or np.isnan(error) else float(error)
            row[average] = told
        yield row


def text(rows: Sequence[Row], table: Callable[[Sequence[Row]], str]) -> str:
    """A table for each run and number of rows tuned on, as `table` lays it out."""
    parts = []
    for run, many in dict.fromkeys((row["run"], row["tuned on"]) for row in rows):
        mine = [row for row in rows if (row["run"], row["tuned on"]) == (run, many)]
        lines = [{"rule": row["rule"]} | {name: _cell(row[name]) for name in AVERAGES} for row in mine]
        parts.append(f"{run}, tuned on {many} rows\n\n{table(lines)}")
    told = f"In brackets: less {ONE}; less {EXACT}; ± one standard error; in units of the last digit."
    return "\n\n".join([*parts, told])


def _cell(told: Row) -> str:
    """As 0.7242 (+11.0 ± 4.1; –): the mean, and the differences in units of its last digit."""

    def difference(other: str) -> str:
        less, error = told[f"less {other}"], told[f"error, less {other}"]
        if less is None:
            return "–"
        return f"{less * 1e4:+.1f}" + ("" if error is None else f" ± {error * 1e4:.1f}")

    return f"{told['mean']:.4f} ({difference(ONE)}; {difference(EXACT)})"
