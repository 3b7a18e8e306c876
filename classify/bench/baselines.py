"""Other libraries with their usual settings, on the rows that our heads get."""

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

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # scikit-learn's C; the best by micro F1 of the validation rows is used
NAMES = {  # head → its baseline
    "linear": "scikit-learn logistic regression",
    "mlp": "scikit-learn MLPClassifier",
    "knn": "scikit-learn KNeighborsClassifier",
    "forest": "scikit-learn RandomForestClassifier",
    "gbm": "LightGBM one-vs-rest",
}


def fit(
    name: str, head: Head | None, seed: int, X: Vectors, Y: LabelMatrix, X_val: Vectors, Y_val: LabelMatrix
) -> Callable[[Vectors], Scores]:
    """A head's baseline fitted on X (n, d) and Y (n, c): a function from rows (m, d) to scores (m, c).

    head: the unfitted head, whose layers the baseline of `mlp` has, too.
    """
    models = _models(name, head, seed)

    def micro(model: Any) -> float:
        return float(f1_score(Y_val, model.predict(X_val), average="micro"))

    for model in models:
        model.fit(X, Y)
    best = max(models, key=micro) if len(models) > 1 else models[0]
    return lambda rows: probabilities(best, rows)


def _models(name: str, head: Any, seed: int) -> list[Any]:
    """The models to choose from."""
    match name:
        case "linear":
            binary = (LogisticRegression(C=C, max_iter=1000) for C in STRENGTHS)
            return [OneVsRestClassifier(model, n_jobs=-1) for model in binary]
        case "mlp":
            return [MLPClassifier(head.hidden, early_stopping=True, random_state=seed)]
        case "knn":
            return [KNeighborsClassifier()]
        case "forest":
            return [RandomForestClassifier(100, n_jobs=-1, random_state=seed)]
        case _:
            return [OneVsRestClassifier(LGBMClassifier(n_estimators=100, random_state=seed, verbosity=-1))]


def probabilities(model: Any, X: Vectors) -> Scores:
    """Probabilities (n, c); some models return them as c arrays (n, 2), or (n, 1) for a constant class."""
    outputs = model.predict_proba(X)
    if not isinstance(outputs, list):
        return np.asarray(outputs, np.float32)
    positive = [output @ values for output, values in zip(outputs, model.classes_, strict=True)]
    return np.stack(positive, axis=1).astype(np.float32)
