"""The oracles are scikit-learn's checks, its own cross-validation, and every threshold that can be tried."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_multilabel_classification
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify import DecisionSpec, ThresholdedClassifier
from encode_once.classify.heads import make

LOGISTIC = OneVsRestClassifier(LogisticRegression())
FOREST = RandomForestClassifier(20, min_samples_leaf=3, random_state=0)
NOT_HALF = "labels are compared with tuned thresholds, not with 0.5"
CHECKED = {
    "binary": (LogisticRegression(), {"check_supervised_y_2d": "a table of one class is no mistake here"}),
    "one versus rest": (LOGISTIC, {}),
    "decisions": (OneVsRestClassifier(LinearSVC()), {}),
    "head": (make("linear"), {}),
    "forest": (
        RandomForestClassifier(20, random_state=0),
        {"check_classifiers_multilabel_output_format_predict_proba": "shares of trees may be 0 and 1"},
    ),
}


@pytest.fixture(scope="module")
def data():
    """Rows with rare labels, for which 0.5 is too high."""
    X, Y = make_multilabel_classification(400, 8, n_classes=4, n_labels=1, random_state=0)
    return X, Y


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("forest", "head") else name for name in CHECKED],
)
@pytest.mark.parametrize("objective", ["none", pytest.param("macro", marks=pytest.mark.slow)])
def test_it_passes_the_checks_of_scikit_learn(name, objective):
    estimator, expected = CHECKED[name]
    if objective == "macro" or name == "forest":  # whose probability of 0.5 is rounded to 0
        expected = expected | {"check_classifiers_train": NOT_HALF, "check_classifier_multioutput": NOT_HALF}
    results = check_estimator(
        ThresholdedClassifier(estimator, objective=objective, cv=3),
        expected_failed_checks=expected,
        on_skip=None,
    )
    assert len(results) > 50


@pytest.mark.parametrize(
    "estimator",
    [
        LOGISTIC,
        FOREST,
        MultiOutputClassifier(LogisticRegression()),
        ClassifierChain(LogisticRegression()),
        make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=0)),
        make("linear"),
        make("knn"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_rule_is_that_of_cross_fitted_scores_for_every_form_of_scores(estimator, data):
    X, Y = data
    cv = KFold(3, shuffle=True, random_state=0)
    classifier = ThresholdedClassifier(estimator, cv=cv).fit(X[:300], Y[:300])
    crossed = np.empty((300, 4))
    for train, test in cv.split(X[:300]):
        crossed[test] = positives(clone(estimator).fit(X[train], Y[train]).predict_proba(X[test]))
    rule = DecisionSpec("macro").fit(crossed, Y[:300])
    assert classifier.thresholds_ == pytest.approx(rule.thresholds)
    scores = positives(clone(estimator).fit(X[:300], Y[:300]).predict_proba(X[300:]))
    assert classifier.predict_proba(X[300:]) == pytest.approx(scores)
    assert np.array_equal(classifier.predict(X[300:]), scores >= classifier.thresholds_)


def positives(scores):
    return np.stack([part[:, 1] for part in scores], axis=1) if isinstance(scores, list) else scores


def test_rare_labels_of_unseen_rows_are_better_than_those_at_half():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    Y = (X[:, :3] + rng.normal(size=(2000, 3)) > 2).astype(int)
    tuned = ThresholdedClassifier(LOGISTIC, objective="macro").fit(X[:1000], Y[:1000])
    plain = clone(LOGISTIC).fit(X[:1000], Y[:1000])
    scores = [f1_score(Y[1000:], model.predict(X[1000:]), average="macro") for model in (plain, tuned)]
    assert scores[1] > scores[0] + 0.05


def test_splits_need_not_test_each_row_once(data):
    X, Y = data
    train, test = np.arange(300), np.arange(300, 400)
    once = ThresholdedClassifier(LOGISTIC, cv=[(train, test)]).fit(X, Y)
    scores = clone(LOGISTIC).fit(X[train], Y[train]).predict_proba(X[test])
    assert np.array_equal(once.thresholds_, DecisionSpec("macro").fit(scores, Y[test]).thresholds)
    splitter = ShuffleSplit(4, test_size=0.5, random_state=0)
    assert ThresholdedClassifier(LOGISTIC, cv=splitter, n_jobs=1).fit(X, Y).predict(X).shape == Y.shape


@pytest.mark.parametrize("response", ["predict_proba", "decision_function"])
def test_exact_thresholds_of_a_fitted_estimator_are_the_best_of_all(data, response):
    X, Y = data
    estimator = clone(LOGISTIC).fit(X[:200], Y[:200])
    classifier = ThresholdedClassifier(estimator, shrink=False, cv="prefit", response_method=response)
    X, Y = X[200:260], Y[200:260]
    classifier.fit(X, Y)
    assert classifier.estimator_ is estimator
    values, predicted = getattr(estimator, response)(X), classifier.predict(X)
    assert np.array_equal(predicted, values >= classifier.thresholds_)
    for label, column, chosen in zip(Y.T, values.T, predicted.T, strict=True):
        best = max(f1_score(label, column >= threshold) for threshold in column)
        assert f1_score(label, chosen) == pytest.approx(best)


class Columns(ClassifierMixin, BaseEstimator):
    """Its decisions are the first columns, times a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y):
        self.c_ = y.shape[1]
        return self

    def decision_function(self, X):
        return self.factor * X[:, : self.c_]


def test_the_size_of_decisions_does_not_matter():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    Y = (X + rng.normal(size=(300, 3)) > 0.5).astype(int)
    labels, thresholds = [], []
    for factor in (1.0, 1e5):
        estimator = Columns(factor).fit(X, Y)
        classifier = ThresholdedClassifier(estimator, cv="prefit", shrink=False).fit(X, Y)
        labels.append(classifier.predict(X))
        thresholds.append(classifier.thresholds_ / factor)
    assert np.array_equal(*labels)
    assert thresholds[0] == pytest.approx(thresholds[1], abs=0.01)


def test_decisions_of_any_size_keep_their_order(data):
    X, Y = data
    model = OneVsRestClassifier(SGDClassifier(alpha=1e-6, random_state=0))  # decisions of thousands
    classifier = ThresholdedClassifier(model).fit(X, Y)
    decisions = classifier.estimator_.decision_function(X)
    assert np.abs(decisions).max() > 500
    assert np.array_equal(classifier.predict(X), decisions >= classifier.thresholds_)
    assert not hasattr(classifier, "predict_proba")
    calibrated = clone(classifier).set_params(calibrate="sigmoid").fit(X, Y)
    assert ((calibrated.predict_proba(X) > 0) & (calibrated.predict_proba(X) < 1)).all()


@pytest.mark.parametrize("estimator", [LogisticRegression(), FOREST, LinearSVC(), make("linear")])
def test_two_classes_of_any_type_have_a_threshold_for_the_second(estimator, data):
    X, Y = data
    y = np.where(Y[:, 0], "yes", "no")
    classifier = ThresholdedClassifier(estimator).fit(X, y)
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert classifier.thresholds_.shape == (1,)
    assert set(classifier.predict(X)) == {"no", "yes"}
    assert classifier.score(X, y) > 0.6
    if hasattr(classifier, "predict_proba"):
        assert classifier.predict_proba(X).shape == (400, 2)
        assert np.array_equal(
            classifier.predict(X) == "yes", classifier.predict_proba(X)[:, 1] >= classifier.thresholds_
        )
    table = clone(classifier).fit(X, Y[:, :1])
    assert np.array_equal(table.predict(X)[:, 0] == 1, classifier.predict(X) == "yes")


def test_labels_that_are_constant_in_a_fold_or_everywhere_are_learned(data):
    X, Y = data
    Y = np.column_stack([Y[:, 0], np.zeros(400, int), np.ones(400, int), np.arange(400) == 7])
    for estimator in (FOREST, DummyClassifier(strategy="prior")):
        classifier = ThresholdedClassifier(estimator, cv=3).fit(X, Y)
        predicted = classifier.predict(X)
        assert not predicted[:, 1].any()
        assert predicted[:, 2].all()


@pytest.mark.parametrize("kind", ["column", "table"])
@pytest.mark.parametrize("positive", [0, 1])
def test_a_fold_of_one_class_knows_which_of_the_two_it_is(positive, kind):
    """All rows but one are of one class, so that one fold is fitted without the other."""
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.full(20, 1 - positive)
    y[7] = positive
    forest = RandomForestClassifier(5, random_state=0)
    folds = [*KFold(4).split(X)]
    expected = np.concatenate(
        [
            clone(forest).fit(X[train], y[train]).predict_proba(X[test])[:, 1]
            if len(set(y[train])) == 2
            else np.full(len(test), float(y[train][0]))
            for train, test in folds
        ]
    )
    names = y[:, None] if kind == "table" else np.where(y, "yes", "no")
    classifier = ThresholdedClassifier(forest, objective="none", cv=folds)
    with mock.patch.object(DecisionSpec, "fit", autospec=True, side_effect=DecisionSpec.fit) as fitted:
        classifier.fit(X, names)
    assert np.array_equal(fitted.call_args.args[1][:, 0], expected)


def test_a_fitted_estimator_of_one_class_is_sure_of_it(data):
    X, Y = data
    for constant in (0, 1):
        forest = clone(FOREST).fit(X, np.full(400, constant))
        classifier = ThresholdedClassifier(forest, objective="none", cv="prefit").fit(X, Y[:, :1])
        assert np.array_equal(classifier.predict_proba(X), np.full((400, 1), constant))
    head = make("linear").fit(X, Y[:, :1])  # of a table of one class, whose number is 0
    classifier = ThresholdedClassifier(head, objective="none", cv="prefit").fit(X, Y[:, :1])
    assert np.array_equal(classifier.predict_proba(X), head.predict_proba(X))


def test_rules_and_bounds_are_those_of_the_specification(data):
    X, Y = data
    sets = ThresholdedClassifier(LOGISTIC, objective="auto").fit(X, Y)
    assert sets.decision_.spec == DecisionSpec()
    assert np.array_equal(sets.predict(X), sets.decision_(clone(LOGISTIC).fit(X, Y).predict_proba(X)))
    assert not np.allclose(sets.predict_proba(X), sets.estimator_.predict_proba(X))  # calibrated
    bounded = ThresholdedClassifier(LOGISTIC, at_least=1, at_most=2).fit(X, Y).predict(X).sum(axis=1)
    assert set(bounded.tolist()) == {1, 2}


def test_folds_are_stratified_and_keep_groups_together(data):
    X, Y = data
    groups = np.repeat(np.arange(80), 5)
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.append((X, y, sample_weight))
            return super().fit(X, y, sample_weight)

    X = np.column_stack([X, groups])
    weights = np.arange(400) + 1.0
    classifier = ThresholdedClassifier(Spy(max_iter=1000), cv=4)
    classifier.fit(X, Y[:, 0], groups=[f"g{number}" for number in groups], sample_weight=weights)
    *folds, everything = seen
    assert len(folds) == 4
    assert len(everything[0]) == 400
    for rows, labels, of_rows in folds:
        assert len(rows) == 300
        assert (np.unique(rows[:, -1], return_counts=True)[1] == 5).all()
        assert labels.mean() == pytest.approx(Y[:, 0].mean(), abs=0.03)
        assert of_rows.tolist() == weights[np.isin(groups, rows[:, -1])].tolist()
    by_splitter = clone(classifier).set_params(cv=GroupKFold(4)).fit(X, Y[:, 0], groups=groups)
    assert by_splitter.predict(X).shape == (400,)


def test_the_seed_decides_the_folds(data):
    fits = [ThresholdedClassifier(LOGISTIC, random_state=seed).fit(*data).thresholds_ for seed in (0, 0, 1)]
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


def test_searches_reach_the_estimator_and_the_rule(data):
    X, Y = (part[:200] for part in data)
    grid = {"objective": ["macro", "micro"], "estimator__estimator__C": [0.1, 1.0]}
    search = GridSearchCV(ThresholdedClassifier(LOGISTIC, cv=2), grid, scoring="f1_macro", cv=2).fit(X, Y)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)  # by C, and by objective
    assert (scores[0] != scores[1]).any()
    assert (scores[:, 0] != scores[:, 1]).any()
    assert cross_val_predict(ThresholdedClassifier(LOGISTIC, cv=2), X, Y, cv=2).shape == Y.shape


def test_frames_sparse_rows_and_sparse_labels_are_passed_on(data):
    X, Y = data
    expected = ThresholdedClassifier(LOGISTIC).fit(X, Y)
    frame = pd.DataFrame(X, columns=[*"abcdefgh"])
    named = ThresholdedClassifier(LOGISTIC).fit(frame, pd.DataFrame(Y))
    assert named.feature_names_in_.tolist() == [*"abcdefgh"]
    assert named.n_features_in_ == 8
    assert np.array_equal(named.predict(frame), expected.predict(X))
    packed = ThresholdedClassifier(LOGISTIC).fit(sparse.csr_matrix(X), sparse.csr_matrix(Y))
    assert (packed.predict(sparse.csr_matrix(X)) == expected.predict(X)).mean() > 0.99


def test_wrong_options_and_labels_are_one_line(data):
    X, Y = data
    with pytest.raises(UsageError, match="objective"):
        ThresholdedClassifier(LOGISTIC, objective="macor").fit(X, Y)
    with pytest.raises(UsageError, match="unknown response_method 'predict'"):
        ThresholdedClassifier(LOGISTIC, response_method="predict").fit(X, Y)
    with pytest.raises(DataError, match="Only binary classification is supported"):
        ThresholdedClassifier(LOGISTIC).fit(X, Y.sum(axis=1))
    with pytest.raises(NotFittedError):
        ThresholdedClassifier(LOGISTIC, cv="prefit").fit(X, Y)
    fitted = clone(LOGISTIC).fit(X, Y[:, :3])
    with pytest.raises(
        DataError, match=r"gives scores of the shape \(400, 3\) for labels of the shape \(400, 4\)"
    ):
        ThresholdedClassifier(fitted, cv="prefit").fit(X, Y)
