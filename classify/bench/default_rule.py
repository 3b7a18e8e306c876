"""The default rule next to 0.5 and to one threshold for all classes, on few and on many train rows.

Train rows are drawn from a table again and again; a head is fitted on them as `fit` does, and each rule,
tuned on its validation rows, is measured on the rest. Differences are paired. The draws share rows, so the
standard errors describe the luck of drawing, not of which rows were collected.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from encode_once.classify.arrays import FloatArray
from encode_once.classify.bench.validation import AVERAGES, Draws, figures
from encode_once.classify.decisions.rule import DecisionSpec

DEFAULT = "default"
RULES = {DEFAULT: DecisionSpec(), "0.5": DecisionSpec("none")} | {
    f"one threshold, {average}": DecisionSpec(f"global-{average}") for average in AVERAGES
}
NOISE = 2.0  # standard errors: a rule that is further below another one loses

Row = dict[str, Any]


def differences(groups: Draws) -> Iterator[Row]:
    """By head and number of train rows: F1 of the default rule, and how far it is above each other one.

    A row has the means over the draws of `micro`, `macro` and `samples` F1, or of their differences `less` a
    rule with their standard errors under `error` and the averages in which the default `loses` to it.

    groups: see `draws_of`.
    """
    for (name, size), draws in groups:
        yield from rows_of(name, size, np.array([figures(*draw, RULES) for draw in draws]))


def rows_of(head: str, size: int, values: FloatArray) -> Iterator[Row]:
    """The rows of a head and a size, of values (repeats, rules, averages)."""
    for k, rule in enumerate(RULES):
        less = values[:, 0] - values[:, k] if k else values[:, 0]
        mean, error = less.mean(axis=0), less.std(axis=0, ddof=1) / len(less) ** 0.5
        row: Row = {"head": head, "train rows": size, "less": rule if k else None}
        row |= dict(zip(AVERAGES, mean.tolist(), strict=True))
        if k:
            worse = zip(AVERAGES, mean < -NOISE * error, strict=True)
            row |= {"error": error.tolist(), "loses": [average for average, is_worse in worse if is_worse]}
        yield row


def text_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each head and number of train rows: differences as +4.3 ± 2.1, in units of 0.001.

    A difference further below 0 than `NOISE` standard errors has an exclamation mark.
    """
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(
            (row["head"], row["train rows"]), {"head": row["head"], "train rows": row["train rows"]}
        )
        if row["less"] is None:
            line[DEFAULT] = " / ".join(f"{row[average]:.3f}" for average in AVERAGES)
        else:
            line[f"less {row['less']}"] = " / ".join(_cell(row, j) for j in range(len(AVERAGES)))
    return [*lines.values()]


def _cell(row: Row, j: int) -> str:
    average = AVERAGES[j]
    return f"{row[average] * 1e3:+.1f} ± {row['error'][j] * 1e3:.1f}{'!' * (average in row['loses'])}"
