"""Our heads beside the libraries one would use plainly, and the memory that fitting takes."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from encode_once.cache import Keys, Store
from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.arrays import Groups, LabelMatrix, RowIndex, Scores
from encode_once.classify.bench import baselines as peers
from encode_once.classify.bench.synthetic import made_up
from encode_once.classify.data import duplicates, splits
from encode_once.classify.data import features as featuring
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.matrix import RowView, Standardised
from encode_once.classify.data.rows import content_keys
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads.base import Head
from encode_once.classify.runs.fit import INNER, HeadFitter, fit

Row = dict[str, Any]
Scorer = Callable[[RowIndex], Scores]  # rows (m,) → their probabilities (m, c)


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
    """Held-out micro and macro F1 with 0.5 and with a cut a class: a row a model, as each is done.

    scikit-learn's logistic regression comes first, and `linear` has a row at its strengths, too; with `plain`
    each head's own peer comes before the head. `options` are those of the heads, by name. `seconds` are of
    fitting and choosing, `seconds to score` of the held-out rows; `times as fast` compares the sum of both
    with the peer's.
    """
    options = options or {}
    for name in options:
        if name not in names:
            raise unknown_name("head of this bench", name, names)
    given = {name: {"seed": seed, **options.get(name, {})} for name in names}
    made = {name: heads.make(name, **given[name]) for name in names}  # imports libraries, outside the clock

    race = _Race.of(Store(store), features, split, data, seed)
    alike = [(1, race.X.shape[1])]  # each of variance 1, as StandardScaler has them
    first = race.run(peers.NAMES["linear"], partial(race.peer, "linear", None, alike))
    yield first
    shapes = [*race.X.shapes.values()]
    if len(shapes) > 1:  # of one feature, that is how our heads have it
        fit_balanced = partial(race.peer, "linear", None, shapes)
        yield race.run("the same, features balanced as ours", fit_balanced)
    for name in names:
        peer = None
        if name == "linear":
            peer = first
            same = partial(race.ours, name, {**given[name], "Cs": peers.STRENGTHS})
            yield race.run("linear, at the same strengths", same, peer)
        elif plain and name in peers.NAMES:
            peer = race.run(
                peers.NAMES[name], partial(race.peer, name, made[name], [*race.X.shapes.values()])
            )
            yield peer
        yield race.run(name, partial(race.ours, name, given[name]), peer)


@dataclass(frozen=True)
class _Race:
    """The rows on which every model is fitted, chosen, tuned and measured."""

    X: Matrix  # (n, d)
    Y: LabelMatrix  # (n, c)
    ids: list[str]
    keys: Keys  # (n, 16), of the rows' contents
    held: RowIndex  # measured on
    rows: RowIndex  # all others: those to fit on, and those to choose and tune on
    parts: tuple[RowIndex, RowIndex]
    seed: int
    groups: Groups  # which `fit` keeps together by default

    @classmethod
    def of(cls, store: Store, features: Sequence[str], split: str, data: str | None, seed: int) -> "_Race":
        """Features and labels of a store's table, parted as `fit` parts them."""
        found = featuring.samples(store, features, featuring.choose_table(store, data))
        X, Y = found.X, found.Y
        keys = content_keys(found.table)
        groups = duplicates.exact(keys)
        held = splits.folds(split, Y, found.table.columns, seed, groups)[0]
        rows = np.setdiff1d(np.arange(len(Y)), held)
        parts = splits.inner(Y, rows, INNER, seed, groups)
        return cls(X, Y, found.table.ids, keys, held, rows, parts, seed, groups)

    def run(self, model: str, fit: Callable[[], Scorer], peer: Row | None = None) -> Row:
        """Fit and score by the clock, then measure."""
        started = time.perf_counter()
        score = fit()
        fitted = time.perf_counter()
        scores = score(self.held)
        ended = time.perf_counter()
        row: Row = {"model": model, "seconds": fitted - started, "seconds to score": ended - fitted}
        row["times as fast"] = peer and (peer["seconds"] + peer["seconds to score"]) / (ended - started)
        tune_rows = self.parts[1]
        to_tune = score(tune_rows)
        for rule, objective in (("0.5", "none"), ("per class", "macro")):
            predictions = DecisionSpec(objective).fit(to_tune, self.Y[tune_rows])(scores)
            for average in ("micro", "macro"):
                reached = f1_score(self.Y[self.held], predictions, average=average, zero_division=0)
                row[f"{average} F1, {rule}"] = float(reached)
        return row

    def peer(self, name: str, head: Head | None, shapes: Sequence[tuple[int, int]]) -> Scorer:
        """The peer of a head, fitted on features standardised as those of such shapes."""
        X = Standardised(self.X, *featuring.standardisation(RowView(self.X, self.parts[0]), shapes))
        fit_part, tune_part = ((X[rows], self.Y[rows]) for rows in self.parts)
        score = peers.fit(name, head, self.seed, *fit_part, *tune_part)
        return lambda rows: score(X[rows])

    def ours(self, name: str, options: Mapping[str, Any]) -> Scorer:
        """A head, fitted as `fit` does."""
        learner = HeadFitter(name, options, self.X, self.Y, self.ids, self.keys, self.seed, self.groups)
        fitted = learner.fit(self.rows)
        return lambda rows: learner.scored(fitted, rows).scores


def memory(head: str, rows: int, dim: int = 256) -> dict[str, Any]:
    """The most memory that fitting a head on so many rows takes, beyond the imports."""
    # A pass or two suffice to see it.
    options = {"mlp": {"epochs": 1, "progress": False}, "linear": {"Cs": [0.001]}}.get(head, {})
    with made_up(rows, dim) as store, tempfile.TemporaryDirectory() as folder:
        seconds, peak = with_peak_memory(_fit, store, head, Path(folder) / "run", options)
    return {"task": f"fit {head}", "rows": rows, "seconds": seconds, "MB": peak / 1e6}


def _fit(store: Path, head: str, run: Path, options: dict[str, Any]) -> float:
    return fit(store, head, run=run, options=options)[0].record.seconds
