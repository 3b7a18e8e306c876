import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from classify import fit
from classify.bench import STRENGTHS, against_logistic_regression
from classify.features import choose, class_names, label_matrix, load
from classify.fitting import INNER
from classify.splits import inner


def test_every_model_is_judged_on_the_same_rows_as_a_run_and_as_plain_scikit_learn(filled, tmp_path):
    store = filled()
    rows = against_logistic_regression(store.path, ["linear"], split="tail:100")
    assert [row["model"] for row in rows] == [
        "scikit-learn logistic regression",
        "the same, features balanced as ours",
        "linear",
    ]
    assert all(row["seconds"] > 0 for row in rows)

    run, metrics = fit(store, "linear", split="tail:100", run=tmp_path / "run")
    for average in ("micro", "macro"):
        at_half = f1_score(run.eval.labels, run.eval.scores >= 0.5, average=average)
        assert rows[2][f"{average} F1, 0.5"] == pytest.approx(at_half)
        assert rows[2][f"{average} F1, per class"] == pytest.approx(metrics[f"{average}_f1"])

    (table,) = store.tables()
    X, Y = load(choose(store, []), table)[:], label_matrix(table.labels, class_names(table.labels))
    fitted, tuned = inner(Y, np.arange(300), INNER, 0)
    X = StandardScaler().fit(X[fitted]).transform(X)

    def f1(C, on, average):
        models = [LogisticRegression(C=C, max_iter=1000).fit(X[fitted], y) for y in Y[fitted].T]
        return f1_score(Y[on], np.stack([model.predict(X[on]) for model in models], 1), average=average)

    best = max(STRENGTHS, key=lambda C: f1(C, tuned, "micro"))
    for average in ("micro", "macro"):
        assert rows[0][f"{average} F1, 0.5"] == pytest.approx(f1(best, np.arange(300, 400), average))
