"""Our heads beside scikit-learn's one-vs-rest logistic regression, and the memory that fitting takes."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier

from cache import Store, Table
from cache.keys import KEY_BYTES
from cache.measuring import with_peak_memory
from classify import features as featuring
from classify import heads, splits
from classify.fitting import INNER, Learner, fit
from classify.matrices import Selected, Standardised
from classify.thresholds import tune

STRENGTHS = (
    0.01,
    0.1,
    1.0,
    10.0,
)  # scikit-learn's C: the one with the best micro F1 on the inner rows is taken
Floats = NDArray[np.float32]
Scorer = Callable[[NDArray[np.intp]], Floats]  # rows (m,) → their probabilities (m, c)


def against_logistic_regression(
    store: str | os.PathLike[str],
    names: Sequence[str],
    *,
    features: Sequence[str] = (),
    split: str = "stratified:0.1",
    data: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Held-out micro and macro F1 with 0.5 and with a cut a class: a row a model, scikit-learn's first.

    Every model is fitted, chosen and tuned on the same rows; `seconds` covers fitting and choosing.
    """
    opened = Store(store)
    table = featuring.choose_table(opened, data)
    X = featuring.load(featuring.choose(opened, features), table)
    assert table.labels is not None
    Y = featuring.label_matrix(table.labels, featuring.class_names(table.labels))
    held = splits.folds(split, Y, table.columns, seed)[0]
    rows = np.setdiff1d(np.arange(len(table)), held)
    fit_rows, tune_rows = splits.inner(Y, rows, INNER, seed)

    for name in names:
        heads.make(name)  # imports its libraries, outside the clock

    def compete(name: str, fit: Callable[[], Scorer]) -> dict[str, Any]:
        started = time.perf_counter()
        score = fit()
        row: dict[str, Any] = {"model": name, "seconds": time.perf_counter() - started}
        for rule, objective in (("0.5", "none"), ("per class", "macro")):
            predictions = score(held) >= tune(score(tune_rows), Y[tune_rows], objective)
            for average in ("micro", "macro"):
                reached = f1_score(Y[held], predictions, average=average, zero_division=0)
                row[f"{average} F1, {rule}"] = float(reached)
        return row

    def logistic_regression(shapes: list[tuple[int, int]]) -> Scorer:
        standard = Standardised(X, *featuring.standardisation(Selected(X, fit_rows), shapes))

        def micro(model: Any) -> float:
            return float(f1_score(Y[tune_rows], model.predict(standard[tune_rows]), average="micro"))

        models = [OneVsRestClassifier(LogisticRegression(C=C, max_iter=1000), n_jobs=-1) for C in STRENGTHS]
        best: Any = max((model.fit(standard[fit_rows], Y[fit_rows]) for model in models), key=micro)
        return lambda rows: np.asarray(best.predict_proba(standard[rows]))

    def ours(name: str) -> Scorer:
        learner = Learner(name, {"seed": seed}, X, Y, table.ids, seed)
        fitted = learner.fit(rows)
        return lambda rows: learner.scored(fitted, rows).scores

    plain = [(1, X.shape[1])]  # every column of variance 1, as StandardScaler has it
    return [
        compete("scikit-learn logistic regression", partial(logistic_regression, plain)),
        compete("the same, features balanced as ours", partial(logistic_regression, [*X.shapes.values()])),
        *(compete(name, partial(ours, name)) for name in names),
    ]


def memory(head: str, rows: int, dim: int = 256) -> dict[str, Any]:
    """The most memory that fitting a head on so many rows takes, beyond the imports."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store, ids = Store(Path(folder) / "store"), [*map(str, range(rows))]
        keys = rng.integers(0, 256, (rows, KEY_BYTES), np.uint8)
        labels: list[tuple[str, ...]] = [(str(number),) for number in rng.integers(0, 19, rows)]
        store.save(Table(folder, ids, ids, ids, labels, image_keys=keys, caption_keys=keys))
        with store.declare("synthetic/image", {"modality": "image"}).writer(rows) as writer:
            for start in range(0, rows, 4096):
                some = keys[start : start + 4096]
                writer.append(some, rng.standard_normal((len(some), dim), np.float32).astype(np.float16))
        # A pass or two suffice to see it.
        options = {"mlp": {"epochs": 1, "progress": False}, "linear": {"Cs": [0.001]}}.get(head, {})
        seconds, peak = with_peak_memory(_fit, store.path, head, Path(folder) / "run", options)
    return {"task": f"fit {head}", "rows": rows, "seconds": seconds, "MB": peak / 1e6}


def _fit(store: Path, head: str, run: Path, options: dict[str, Any]) -> float:
    return fit(store, head, run=run, options=options)[0].settings.seconds
