import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from encode_once.cache import DataError
from encode_once.classify import fit
from encode_once.classify.bench.baselines import NAMES, STRENGTHS
from encode_once.classify.bench.heads import contest, memory
from encode_once.classify.data.features import choose, load
from encode_once.classify.data.labels import class_names, label_matrix
from encode_once.classify.data.splits import validation_split
from encode_once.classify.runs.fit import INNER

HELD = np.arange(300, 400)


def race(store, *names, **how):
    return list(contest(store.path, names, split="tail:100", **how))


@pytest.fixture
def plain(filled):
    """A store, and plain arrays of it: standardised X, Y, and the rows fitted and tuned on."""

    def parts(*features):
        store = filled()
        (table,) = store.tables()
        X, Y = load(choose(store, features), table)[:], label_matrix(table.labels, class_names(table.labels))
        fitted, tuned = validation_split(Y, np.arange(300), INNER, 0)
        return store, StandardScaler().fit(X[fitted]).transform(X), Y, fitted, tuned

    return parts


def best_regression(X, Y, fitted, tuned):
    """Labels of all rows by the logistic regressions of the strength of best micro F1 on the tuned rows."""
    every = [
        np.stack(
            [LogisticRegression(C=C, max_iter=1000).fit(X[fitted], y).predict(X) for y in Y[fitted].T], 1
        )
        for C in STRENGTHS
    ]
    return max(every, key=lambda labels: f1_score(Y[tuned], labels[tuned], average="micro"))


def test_every_model_is_judged_on_the_same_rows_as_a_run_and_as_plain_scikit_learn(plain, tmp_path):
    store, X, Y, fitted, tuned = plain()
    rows = race(store, "linear")
    assert [row["model"] for row in rows] == [
        "scikit-learn logistic regression",
        "the same, features balanced as ours",
        "linear, at the same strengths",
        "linear",
    ]
    assert all(row["seconds"] > 0 and row["seconds to score"] > 0 for row in rows)

    for row, options in ((rows[2], {"Cs": STRENGTHS}), (rows[3], {})):
        run, metrics = fit(store, "linear", split="tail:100", run=tmp_path / row["model"], options=options)
        for average in ("micro", "macro"):
            at_half = f1_score(run.eval.labels, run.eval.scores >= 0.5, average=average)
            assert row[f"{average} F1, 0.5"] == pytest.approx(at_half)
            assert row[f"{average} F1, per class"] == pytest.approx(metrics[f"{average}_f1"])

    labels = best_regression(X, Y, fitted, tuned)
    for average in ("micro", "macro"):
        reached = f1_score(Y[HELD], labels[HELD], average=average)
        assert rows[0][f"{average} F1, 0.5"] == pytest.approx(reached)


PEERS = {
    "mlp": lambda: MLPClassifier((16, 8), early_stopping=True, random_state=0),
    "knn": KNeighborsClassifier,
    "forest": lambda: RandomForestClassifier(100, random_state=0),
    "gbm": lambda: LGBMClassifier(n_estimators=100, random_state=0, verbosity=-1),
}


@pytest.mark.parametrize("head", PEERS)
def test_plain_adds_the_heads_own_library_with_its_own_figures(plain, head):
    store, X, Y, fitted, _ = plain("e/image")
    options = {
        "mlp": {"hidden": [16, 8], "epochs": 1, "progress": False},
        "forest": {"trees": 5},
        "gbm": {"rounds": 5},
    }
    chosen = {name: given for name, given in options.items() if name == head}
    rows = race(store, head, features=["e/image"], plain=True, options=chosen)
    assert [row["model"] for row in rows] == [NAMES["linear"], NAMES[head], head]

    def predicted(y):
        return PEERS[head]().fit(X[fitted], y).predict(X[HELD])

    one_at_a_time = head == "gbm"
    labels = np.stack([predicted(y) for y in Y[fitted].T], 1) if one_at_a_time else predicted(Y[fitted])
    for average in ("micro", "macro"):
        reached = f1_score(Y[HELD], labels, average=average)
        assert rows[1][f"{average} F1, 0.5"] == pytest.approx(reached, abs=0.02)  # a share may be exactly ½


def test_a_head_is_compared_with_its_own_peer(filled):
    rows = race(filled(), "linear", "knn", "forest", plain=True, options={"forest": {"trees": 5}})
    took = {row["model"]: row["seconds"] + row["seconds to score"] for row in rows}
    ratios = {row["model"]: row["times as fast"] for row in rows if row["times as fast"] is not None}
    assert ratios == pytest.approx(
        {
            "linear, at the same strengths": took[NAMES["linear"]] / took["linear, at the same strengths"],
            "linear": took[NAMES["linear"]] / took["linear"],
            "knn": took[NAMES["knn"]] / took["knn"],
            "forest": took[NAMES["forest"]] / took["forest"],
        }
    )


@pytest.mark.filterwarnings("ignore:Label")
def test_a_class_that_no_row_fitted_on_has_is_scored_by_every_peer(filled):
    store = filled()
    (table,) = store.tables()
    table.labels[:399] = [
        tuple(one for one in labels if one in ("cat", "dog")) for labels in table.labels[:399]
    ]
    table.labels[399] = ("rare",)
    store.save(table)
    options = {"forest": {"trees": 5}, "gbm": {"rounds": 5}}
    rows = race(store, "knn", "forest", "gbm", plain=True, options=options)
    assert len(rows) == 8
    assert all(0 < row["micro F1, 0.5"] < 1 for row in rows)


def test_options_of_a_head_that_does_not_compete_are_told(filled):
    with pytest.raises(DataError, match="mlp"):
        race(filled(), "linear", options={"mlp": {"epochs": 1}})
    with pytest.raises(DataError, match="option of head 'linear'"):
        race(filled(name="other"), "linear", options={"linear": {"epochs": 1}})


def test_memory_is_that_of_a_fit():
    row = memory("knn", 500, 32)
    assert row["rows"] == 500
    assert row["seconds"] > 0
    assert row["MB"] > 0
