"""Other libraries as one would use them without this project, on the rows that our heads get."""

from collections.abc import Callable
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from encode_once.classify.arrays import LabelMatrix, Scores, Vectors
from encode_once.classify.heads.base import Head

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # scikit-learn's C: that of best micro F1 on the inner rows is taken
NAMES = {  # head → its peer
    "linear": "scikit-learn logistic regression",
    "mlp": "scikit-learn MLPClassifier",
    "knn": "scikit-learn KNeighborsClassifier",
    "forest": "scikit-learn RandomForestClassifier",
    "gbm": "LightGBM one-vs-rest",
}


def fit(
    name: str, head: Head | None, seed: int, X: Vectors, Y: LabelMatrix, X_val: Vectors, Y_val: LabelMatrix
) -> Callable[[Vectors], Scores]:
    """What scores rows (m, d) as (m, c) after the peer of a head learned the labels Y (n, c) of X (n, d).

    The head, not fitted, says what is to be alike: the layers of `mlp`.
    """
    models = _models(name, head, seed)

    def micro(model: Any) -> float:
        return float(f1_score(Y_val, model.predict(X_val), average="micro"))

    for model in models:
        model.fit(X, Y)
    best = max(models, key=micro) if len(models) > 1 else models[0]
    return lambda rows: _probabilities(best, rows)


def _models(name: str, head: Any, seed: int) -> list[Any]:
    """The peer at every strength it is to choose from, most often one."""
    match name:
        case "linear":
            every = (LogisticRegression(C=C, max_iter=1000) for C in STRENGTHS)
            return [OneVsRestClassifier(model, n_jobs=-1) for model in every]
        case "mlp":
            return [MLPClassifier(head.hidden, early_stopping=True, random_state=seed)]
        case "knn":
            return [KNeighborsClassifier()]
        case "forest":
            return [RandomForestClassifier(100, n_jobs=-1, random_state=seed)]
        case _:
            return [OneVsRestClassifier(LGBMClassifier(n_estimators=100, random_state=seed, verbosity=-1))]


def _probabilities(model: Any, X: Vectors) -> Scores:
    """Probabilities (n, c): some models give them so, others a list of (n, 2) or, of one value, (n, 1)."""
    found = model.predict_proba(X)
    if not isinstance(found, list):
        return np.asarray(found, np.float32)
    true = [each @ values for each, values in zip(found, model.classes_, strict=True)]
    return np.stack(true, axis=1).astype(np.float32)
