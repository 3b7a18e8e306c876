"""Our heads beside scikit-learn's one-vs-rest logistic regression: same features, rows and thresholds."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from cache import Store
from classify import features as featuring
from classify import heads, splits
from classify.fitting import INNER
from classify.thresholds import tune

STRENGTHS = (
    0.01,
    0.1,
    1.0,
    10.0,
)  # scikit-learn's C: the one with the best micro F1 on the inner rows is taken
Scores = NDArray[np.floating[Any]]


def against_logistic_regression(
    store: str | os.PathLike[str],
    names: Sequence[str],
    *,
    features: Sequence[str] = (),
    split: str = "stratified:0.1",
    data: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Held-out micro and macro F1 with 0.5 and with a cut a class, a row a model, scikit-learn's first.

    Every model is fitted, chosen and tuned on the same rows; `seconds` covers fitting and choosing.
    """
    opened = Store(store)
    table = featuring.choose_table(opened, data)
    X = featuring.load(featuring.choose(opened, features), table).X
    assert table.labels is not None
    Y = featuring.label_matrix(table.labels, featuring.class_names(table.labels))
    held = splits.folds(split, Y, table.columns, seed)[0]
    fit_rows, tune_rows = splits.inner(Y, np.setdiff1d(np.arange(len(table)), held), INNER, seed)
    X = np.nan_to_num(StandardScaler(copy=False).fit(X[fit_rows]).transform(X)).astype(np.float32)
    parts = {
        name: (X[rows], Y[rows]) for name, rows in (("fit", fit_rows), ("tune", tune_rows), ("eval", held))
    }

    def compete(name: str, fit: Callable[[], Callable[[Scores], Scores]]) -> dict[str, Any]:
        started = time.perf_counter()
        score = fit()
        seconds = time.perf_counter() - started
        scores, labels = score(parts["eval"][0]), parts["eval"][1]
        row: dict[str, Any] = {"model": name, "seconds": round(seconds, 1)}
        for rule, objective in (("0.5", "none"), ("per class", "macro")):
            predictions = scores >= tune(score(parts["tune"][0]), parts["tune"][1], objective)
            for average in ("micro", "macro"):
                row[f"{average} F1, {rule}"] = float(
                    f1_score(labels, predictions, average=average, zero_division=0)
                )
        return row

    def logistic_regression() -> Callable[[Scores], Scores]:
        def micro(model: Any) -> float:
            return float(f1_score(parts["tune"][1], model.predict(parts["tune"][0]), average="micro"))

        models = [OneVsRestClassifier(LogisticRegression(C=C, max_iter=1000), n_jobs=-1) for C in STRENGTHS]
        best: Any = max((model.fit(*parts["fit"]) for model in models), key=micro)
        return lambda X: np.asarray(best.predict_proba(X))

    def ours(name: str) -> Callable[[], Callable[[Scores], Scores]]:
        head = heads.make(name, seed=seed)
        return lambda: head.fit(*parts["fit"], *parts["tune"]).predict_proba

    rows = [compete("scikit-learn logistic regression", logistic_regression)]
    return rows + [compete(name, ours(name)) for name in names]
