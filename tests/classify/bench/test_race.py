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
from encode_once.classify import FitSpec, fit
from encode_once.classify.bench.baselines import NAMES, STRENGTHS
from encode_once.classify.bench.race import contest, memory
from encode_once.classify.data.features import choose, load
from encode_once.classify.data.labels import class_names, label_matrix
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.splits import VALIDATION_FRACTION, row_draws, validation_split

EVAL = np.arange(300, 400)


def race(store, *names, **options):
    return list(contest(store.path, names, split="tail:100", **options))


@pytest.fixture
def plain(filled):
    """A store and its plain arrays: standardised X, Y, and the train and validation rows."""

    def parts(*features):
        store = filled()
        (table,) = store.tables()
        X, Y = load(choose(store, features), table)[:], label_matrix(table.labels, class_names(table.labels))
        train, validation = validation_split(
            Y, np.arange(300), VALIDATION_FRACTION, row_draws(content_keys(table), table.ids, 0)
        )
        return store, StandardScaler().fit(X[train]).transform(X), Y, train, validation

    return parts


def best_regression(X, Y, train, validation):
    """Predictions by the logistic regressions whose strength has the best micro F1 on the validation rows."""
    candidates = [
        np.stack([LogisticRegression(C=C, max_iter=1000).fit(X[train], y).predict(X) for y in Y[train].T], 1)
        for C in STRENGTHS
    ]
    return max(candidates, key=lambda labels: f1_score(Y[validation], labels[validation], average="micro"))


@pytest.mark.slow
def test_figures_equal_those_of_a_run_and_of_plain_scikit_learn(plain, tmp_path):
    store, X, Y, train, validation = plain()
    rows = race(store, "linear")
    assert [row["model"] for row in rows] == [
        "scikit-learn logistic regression",
        "the same, features balanced as ours",
        "linear, at the same strengths",
        "linear",
    ]
    assert all(row["seconds"] > 0 and row["seconds to score"] > 0 for row in rows)

    for row, options in ((rows[2], {"Cs": STRENGTHS}), (rows[3], {})):
        spec = FitSpec("linear", options=options, split="tail:100", decision="macro", validation="tenth")
        run, metrics = fit(store, spec, run=tmp_path / row["model"])
        for average in ("micro", "macro"):
            at_half = f1_score(run.eval.labels, run.eval.scores >= 0.5, average=average)
            assert row[f"{average} F1, 0.5"] == pytest.approx(at_half)
            assert row[f"{average} F1, per class"] == pytest.approx(metrics[f"{average}_f1"])

    labels = best_regression(X, Y, train, validation)
    for average in ("micro", "macro"):
        reached = f1_score(Y[EVAL], labels[EVAL], average=average)
        assert rows[0][f"{average} F1, 0.5"] == pytest.approx(reached)


PEERS = {
    "mlp": lambda: MLPClassifier((16, 8), early_stopping=True, random_state=0),
    "knn": KNeighborsClassifier,
    "forest": lambda: RandomForestClassifier(100, random_state=0),
    "gbm": lambda: LGBMClassifier(n_estimators=100, random_state=0, verbosity=-1),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", PEERS)
def test_plain_adds_the_heads_own_library_with_its_own_figures(plain, head):
    store, X, Y, train, _ = plain("e/image")
    options = {
        "mlp": {"hidden": [16, 8], "epochs": 1, "progress": False},
        "forest": {"trees": 5},
        "gbm": {"rounds": 5},
    }
    own_options = {name: values for name, values in options.items() if name == head}
    rows = race(store, head, features=["e/image"], plain=True, options=own_options)
    assert [row["model"] for row in rows] == [NAMES["linear"], NAMES[head], head]

    def predicted(y):
        return PEERS[head]().fit(X[train], y).predict(X[EVAL])

    one_vs_rest = head == "gbm"
    labels = np.stack([predicted(y) for y in Y[train].T], 1) if one_vs_rest else predicted(Y[train])
    for average in ("micro", "macro"):
        reached = f1_score(Y[EVAL], labels, average=average)
        assert rows[1][f"{average} F1, 0.5"] == pytest.approx(reached, abs=0.02)  # a share may be exactly ½


@pytest.mark.slow
def test_a_head_is_compared_with_its_own_baseline(filled):
    rows = race(filled(), "linear", "knn", "forest", plain=True, options={"forest": {"trees": 5}})
    seconds = {row["model"]: row["seconds"] + row["seconds to score"] for row in rows}
    ratios = {row["model"]: row["times as fast"] for row in rows if row["times as fast"] is not None}
    assert ratios == pytest.approx(
        {
            "linear, at the same strengths": seconds[NAMES["linear"]]
            / seconds["linear, at the same strengths"],
            "linear": seconds[NAMES["linear"]] / seconds["linear"],
            "knn": seconds[NAMES["knn"]] / seconds["knn"],
            "forest": seconds[NAMES["forest"]] / seconds["forest"],
        }
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Label")
def test_a_class_without_train_rows_is_scored_by_every_baseline(filled):
    store = filled()
    (table,) = store.tables()
    table.labels[:399] = [
        tuple(name for name in labels if name in ("cat", "dog")) for labels in table.labels[:399]
    ]
    table.labels[399] = ("rare",)
    store.save(table)
    options = {"forest": {"trees": 5}, "gbm": {"rounds": 5}}
    rows = race(store, "knn", "forest", "gbm", plain=True, options=options)
    assert len(rows) == 8
    assert all(0 < row["micro F1, 0.5"] < 1 for row in rows)


def test_options_of_a_head_that_is_not_measured_are_refused(filled):
    with pytest.raises(DataError, match="mlp"):
        race(filled(), "linear", options={"mlp": {"epochs": 1}})
    with pytest.raises(DataError, match="option of head 'linear'"):
        race(filled(name="other"), "linear", options={"linear": {"epochs": 1}})


@pytest.mark.slow
@pytest.mark.real
def test_memory_is_that_of_a_fit():
    row = memory("knn", 500, 32)
    assert row["rows"] == 500
    assert row["seconds"] > 0
    assert row["MB"] > 0
