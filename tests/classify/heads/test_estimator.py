"""Heads as scikit-learn's classifiers; the oracles are its own checks, pipelines and searches."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from encode_once.cache.errors import DataError
from encode_once.classify.data import splits
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.experiments.sweep import sweep
from encode_once.classify.heads import HEADS, make
from encode_once.classify.runs.head_fitter import HeadFitter

NETWORK = {"width": 16, "hidden": 8, "device": "cpu", "progress": False}
OPTIONS = {
    "linear": {"device": "cpu"},
    "mlp": {"hidden": (64,), "device": "cpu", "progress": False},
    "knn": {"device": "cpu"},
    "prototype": {"device": "cpu"},
    "forest": {"trees": 20, "jobs": 1},
    "gbm": {"rounds": 20, "jobs": 1, "progress": False},
    "attention": {"width": 16, "device": "cpu", "progress": False},
    "stack": {"parts": [[0], [0]], "heads": ["linear", "knn"], "folds": 3},
    "auto": {"heads": ["linear", "knn"], "progress": False},
}
QUICK = ("linear", "knn", "prototype", "forest", "gbm")  # the checks take about a second


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    return X, (X @ rng.normal(size=(6, 3)) + 0.5 * rng.normal(size=(200, 3)) > 0).astype(int)


@pytest.fixture(params=QUICK)
def head(request):
    return make(request.param, **OPTIONS[request.param])


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in HEADS]
)
def test_heads_pass_all_checks_of_scikit_learn(name):
    """None is expected to fail, and those that are skipped test what heads do not have."""
    results = check_estimator(make(name, **OPTIONS.get(name, NETWORK)), on_skip=None)
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert len(results) > 50
    assert skipped <= {
        "check_array_api_input",  # only with SCIPY_ARRAY_API=1: see below
        "check_classifiers_multilabel_output_format_decision_function",
    }


@pytest.mark.slow
def test_heads_take_the_array_api_as_any_estimator_without_support_for_it():
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input as check\n"
        "from encode_once.classify.heads import make\n"
        "check('Linear', make('linear'), array_namespace='numpy', expect_only_array_outputs=False)"
    )
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_predictions_are_scores_of_at_least_half_and_the_score_is_subset_accuracy(head, data):
    X, Y = data
    head.fit(X, Y)
    predicted = head.predict(X)
    assert predicted.dtype == Y.dtype
    scores = head.predict_proba(X)
    assert np.array_equal(predicted, DecisionSpec("none").fit(scores, Y)(scores))
    assert head.score(X, Y) == accuracy_score(Y, predicted)
    assert head.score(X, Y) < f1_score(Y, predicted, average="macro")


def test_arrays_lists_and_rows_that_are_read_when_asked_for_give_the_same_fit(head, data):
    X, Y = data
    rows = X.astype(np.float32)
    expected = clone(head).fit(RowView(rows, np.arange(200)), Y > 0).predict_proba(rows)
    for features, labels in [
        (rows, Y > 0),
        (X, Y),
        (X.tolist(), Y.tolist()),
        (pd.DataFrame(X).rename(columns=str), pd.DataFrame(Y)),
        (X, sparse.csr_matrix(Y)),
        (X, Y.astype(float)),
    ]:
        fitted = clone(head).fit(features, labels)
        assert np.array_equal(fitted.predict_proba(features), expected)
        assert fitted.classes_.tolist() == [0, 1, 2]


def test_rows_that_are_read_when_asked_for_are_passed_on_as_they_are(data):
    seen = []

    class Rows(RowView):
        def __array__(self, dtype=None, copy=None):
            raise AssertionError("all rows at once")

        def __getitem__(self, rows):
            part = super().__getitem__(rows)
            seen.append(len(part))
            return part

    X = Rows(np.float32(np.tile(data[0], (30, 1))), np.arange(6000))
    make("linear", Cs=[1.0]).fit(X, np.tile(data[1], (30, 1)) > 0).predict_proba(X)
    assert max(seen) < len(X)


def test_columns_of_a_dataframe_are_compared_by_name(head, data):
    X, Y = data
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    head.fit(frame, Y)
    assert head.feature_names_in_.tolist() == [*"abcdef"]
    assert head.n_features_in_ == 6
    with pytest.raises(DataError, match="feature names should match"):
        head.predict(frame[[*"fabcde"]])


@pytest.mark.parametrize("classes", [("no", "yes"), (False, True), (3, 7)])
def test_a_column_of_two_classes_is_a_binary_problem(head, data, classes):
    X, Y = data
    y = np.array(classes)[Y[:, 0]]
    head.fit(X, y)
    assert head.classes_.tolist() == [*classes]
    scores = head.predict_proba(X)
    assert scores.shape == (200, 2)
    assert np.array_equal(scores[:, 1:], clone(head).fit(X, Y[:, :1]).predict_proba(X))
    assert np.array_equal(head.predict(X), np.array(classes)[(scores[:, 1] >= 0.5).astype(int)])
    assert head.score(X, y) > 0.8


def test_fitting_again_with_a_table_forgets_the_column(head, data):
    X, Y = data
    assert head.fit(X, Y[:, 0]).predict(X).shape == (200,)
    assert head.fit(RowView(np.float32(X), np.arange(200)), Y > 0).predict(X).shape == (200, 3)


def test_validation_rows_may_be_of_any_kind(head, data):
    X, Y = data
    expected = clone(head).fit(np.float32(X[:150]), Y[:150] > 0, np.float32(X[150:]), Y[150:] > 0)
    fitted = clone(head).fit(X[:150].tolist(), Y[:150], pd.DataFrame(X[150:]), Y[150:])
    assert np.array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    named = np.array(["no", "yes"])[Y[:, 0]]
    column = clone(head).fit(X[:150], named[:150], X[150:], named[150:])
    assert column.score(X, named) > 0.8
    with pytest.raises(DataError, match="'maybe' is none of the classes 'no' and 'yes'"):
        clone(head).fit(X[:150], named[:150], X[150:], ["maybe"] * 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, Y: (np.where(X > 2, np.nan, X), Y), "Input X contains NaN.$"),
        (lambda X, Y: (np.where(X > 2, np.inf, X), Y), "Input X contains infinity or a value too large"),
        (lambda X, Y: (X, None), "requires y to be passed, but the target y is None"),
        (lambda X, Y: (X, Y[:-1]), r"labels must be a table \(200, classes\)"),
        (lambda X, Y: (X, Y[:-1, 0]), r"labels must be a table \(200, classes\)"),
        (lambda X, Y: (X, 2 * Y), "labels must be 0 or 1"),
        (lambda X, Y: (X, Y.sum(axis=1)), "Only binary classification .* is multiclass, of 4 classes"),
        (lambda X, Y: (X, np.ones(200)), "of 1 class: several"),
        (lambda X, Y: (X, X[:, 0]), "Unknown label type: continuous"),
        (lambda X, Y: (X[:0], Y[:0]), "Found array with 0 sample"),
        (lambda X, Y: (X[:, :0], Y), "Found array with 0 feature"),
    ],
)
def test_wrong_input_is_one_line(data, change, message):
    with pytest.raises(DataError, match=message) as error:
        make("linear").fit(*change(*data))
    assert "\n" not in str(error.value)


def test_what_is_not_fitted_says_so(head, data):
    with pytest.raises(NotFittedError):
        head.predict(data[0])
    head.fit(*data)
    with pytest.raises(DataError, match="X has 5 features, but"):
        head.predict_proba(data[0][:, :5])
    assert head.predict_proba(data[0][:0]).shape == (0, 3)


def test_a_head_that_is_loaded_predicts(head, data):
    X, Y = data
    head.fit(X, Y)
    loaded = clone(head)
    loaded.load_state(head.state())
    assert np.array_equal(loaded.predict(X), head.predict(X))


def test_pipelines_searches_and_cross_validation_take_heads(head, data):
    X, Y = data
    pipeline = make_pipeline(StandardScaler(), head)
    scores = cross_val_predict(pipeline, 5 + 2 * X, Y, cv=3, method="predict_proba")
    assert scores.shape == Y.shape
    assert f1_score(Y, scores >= 0.5, average="macro") > 0.7
    grid = {f"{type(head).__name__.lower()}__seed": [0, 1]}
    search = GridSearchCV(pipeline, grid, scoring="f1_macro", cv=3).fit(X, Y)
    assert search.best_score_ > 0.7
    assert search.predict(X).shape == Y.shape
    assert search.classes_.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------ the same search, by `sweep`


def test_a_grid_search_gives_the_scores_and_the_order_of_a_sweep_on_the_same_rows(filled, tmp_path):
    """A column that marks train, validation and eval rows leaves both the same rows for the same purposes."""
    store = filled(200)
    table = store.table()
    marks = ["test" if row % 4 == 0 else "val" if row % 4 == 1 else "train" for row in range(200)]
    table.columns["part"] = marks
    store.save(table)
    strengths = [[0.0001], [0.003], [0.1], [30.0]]
    rows = sweep(
        store,
        ["linear"],
        grid={"linear": {"Cs": strengths}},
        split="part",
        decision=DecisionSpec("none"),
        folder=tmp_path / "sweep",
        by="macro_f1",
    )
    samples, marks = load_samples(store, (), table), np.array(marks)
    train = np.flatnonzero(marks == "train")
    statistics = standardisation(RowView(samples.X, train), [*samples.X.shapes.values()])
    X, Y = Standardised(samples.X, *statistics)[:], samples.Y.astype(int)
    of_search = marks != "val"
    search = GridSearchCV(
        make("linear"),
        {"Cs": strengths},
        scoring="f1_macro",
        cv=PredefinedSplit(np.where(marks[of_search] == "test", 0, -1)),
    ).fit(X[of_search], Y[of_search], X_val=X[marks == "val"], Y_val=Y[marks == "val"])
    order = np.argsort(-search.cv_results_["mean_test_score"], kind="stable")
    assert len({row["macro_f1"] for row in rows}) == 4
    assert [row["settings"]["Cs"] for row in rows] == [strengths[place] for place in order]
    assert search.cv_results_["mean_test_score"][order] == pytest.approx([row["macro_f1"] for row in rows])


def test_cross_validation_gives_the_scores_of_a_sweep_by_folds_where_both_fit_the_same_rows(filled, tmp_path):
    """A sweep by folds differs from a search in three ways, which are removed here.

    It sets a tenth of the other folds aside to stop by; it standardises by the rest; and it measures all rows
    together, while a search averages the folds.
    """
    store = filled(200)
    (row,) = sweep(
        store,
        ["forest"],
        grid={"forest": {"trees": [20], "jobs": [1]}},
        split="kfold:4",
        decision=DecisionSpec("none"),
        folder=tmp_path / "sweep",
    )
    samples = load_samples(store, (), store.table())
    table, X, Y = samples.table, samples.X[:], samples.Y.astype(int)
    fitter = HeadFitter("forest", {}, samples.X, samples.Y, table.ids, content_keys(table), 0)
    folds = splits.folds("kfold:4", samples.Y, table.columns, fitter.draws)
    cv = []
    for fold in folds:
        others = np.setdiff1d(np.arange(200), fold)
        others = others[np.argsort(fitter.draws[others])]
        train, _ = splits.validation_split(Y > 0, others, splits.VALIDATION_FRACTION, fitter.draws)
        cv.append((train, fold))
    pipeline = make_pipeline(StandardScaler(), make("forest", trees=20, jobs=1))
    scores = cross_val_predict(pipeline, X, Y, cv=cv, method="predict_proba")
    assert f1_score(Y, scores >= 0.5, average="macro") == pytest.approx(row["macro_f1"])
    means = [f1_score(Y[fold], scores[fold] >= 0.5, average="macro") for fold in folds]
    assert np.mean(means) != pytest.approx(row["macro_f1"], abs=1e-6)
