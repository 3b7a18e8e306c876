"""Our heads beside the libraries one would use plainly, on the same rows; and the memory that fitting takes."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from cache import Store
from cache.errors import unknown_name
from cache.measuring import with_peak_memory
from classify import features as featuring
from classify import heads, peers, splits
from classify.fitting import INNER, Learner, fit
from classify.matrices import Selected, Standardised
from classify.synthetic import made_up
from classify.thresholds import tune

Floats = NDArray[np.float32]
Scorer = Callable[[NDArray[np.intp]], Floats]  # rows (m,) → their probabilities (m, c)


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
) -> Iterator[dict[str, Any]]:
    """Held-out micro and macro F1 with 0.5 and with a cut a class: a row a model, as each is done.

    scikit-learn's logistic regression comes first; with `plain` each head's own peer comes before the head.
    Every model is fitted, chosen and tuned on the same rows. `seconds` covers fitting and choosing, `seconds to
    score` the held-out rows, `times as fast` what both are to the same of the head's peer. `linear` competes at
    scikit-learn's strengths, too. `options` are the heads', by name.
    """
    given = {name: {"seed": seed, **(options or {}).get(name, {})} for name in names}
    for name in options or {}:
        if name not in given:
            raise unknown_name("head of this contest", name, names)
    blank = {name: heads.make(name, **given[name]) for name in given}  # imports libraries, outside the clock

    opened = Store(store)
    table = featuring.choose_table(opened, data)
    X = featuring.load(featuring.choose(opened, features), table)
    assert table.labels is not None
    Y = featuring.label_matrix(table.labels, featuring.class_names(table.labels))
    held = splits.folds(split, Y, table.columns, seed)[0]
    rows = np.setdiff1d(np.arange(len(table)), held)
    fit_rows, tune_rows = splits.inner(Y, rows, INNER, seed)
    taken: dict[str, float] = {}  # by the peers, in seconds

    def compete(model: str, fit: Callable[[], Scorer], head: str, *, ours: bool) -> dict[str, Any]:
        started = time.perf_counter()
        score = fit()
        fitted = time.perf_counter()
        scores = score(held)
        ended = time.perf_counter()
        row: dict[str, Any] = {
            "model": model,
            "seconds": fitted - started,
            "seconds to score": ended - fitted,
        }
        if not ours:
            taken.setdefault(head, ended - started)
        row["times as fast"] = taken[head] / (ended - started) if ours and head in taken else None
        tuning = score(tune_rows)
        for rule, objective in (("0.5", "none"), ("per class", "macro")):
            predictions = scores >= tune(tuning, Y[tune_rows], objective)
            for average in ("micro", "macro"):
                reached = f1_score(Y[held], predictions, average=average, zero_division=0)
                row[f"{average} F1, {rule}"] = float(reached)
        return row

    def peer(head: str, dims: Mapping[str, int]) -> Scorer:
        standard = Standardised(X, *featuring.standardisation(Selected(X, fit_rows), dims))
        parts = (standard[fit_rows], Y[fit_rows], standard[tune_rows], Y[tune_rows])
        score = peers.fit(head, blank.get(head), seed, *parts)
        return lambda rows: score(standard[rows])

    def ours(name: str, **more: Any) -> Scorer:
        learner = Learner(name, {**given[name], **more}, X, Y, table.ids, seed)
        model, _ = learner.fit(rows)
        return lambda rows: learner.scored(model, rows).scores

    first = peers.NAMES["linear"]
    # Every column of variance 1, as StandardScaler has it; of one feature, ours are the same.
    yield compete(first, partial(peer, "linear", {"all columns alike": X.shape[1]}), "linear", ours=False)
    if len(X.dims) > 1:
        balanced = "the same, features balanced as ours"
        yield compete(balanced, partial(peer, "linear", X.dims), "linear", ours=False)
    for name in names:
        if name == "linear":
            same = partial(ours, name, Cs=peers.STRENGTHS)
            yield compete("linear, at the same strengths", same, name, ours=True)
        elif plain:
            yield compete(peers.NAMES[name], partial(peer, name, X.dims), name, ours=False)
        yield compete(name, partial(ours, name), name, ours=True)


def memory(head: str, rows: int, dim: int = 256) -> dict[str, Any]:
    """The most memory that fitting a head on so many rows takes, beyond the imports."""
    # A pass or two suffice to see it.
    options = {"mlp": {"epochs": 1, "progress": False}, "linear": {"Cs": [0.001]}}.get(head, {})
    with made_up(rows, dim) as store, tempfile.TemporaryDirectory() as folder:
        seconds, peak = with_peak_memory(_fit, store, head, Path(folder) / "run", options)
    return {"task": f"fit {head}", "rows": rows, "seconds": seconds, "MB": peak / 1e6}


def _fit(store: Path, head: str, run: Path, options: dict[str, Any]) -> float:
    return fit(store, head, run=run, options=options)[0].settings.seconds
