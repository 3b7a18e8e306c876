import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from encode_once.cache.errors import UsageError
from encode_once.classify.decisions.calibration import METHODS, PRECISION, Calibration, logits
from tests.conftest import examples


def skewed(n=4000, seed=0):
    """Overconfident scores, each class in a different way: (scores, labels, probabilities)."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal([-2, -1, 0], [1, 2, 1.5], size=(n, 3)))
    labels = rng.random(truth.shape) < truth
    return expit(2 * logit(truth) + [0.5, 0, -0.5]).astype(np.float32), labels, truth


class Scorer(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its only column."""

    def fit(self, X, y):
        self.classes_ = np.array([False, True])
        return self

    def decision_function(self, X):
        return X[:, 0]

    def predict(self, X):
        return X[:, 0] > 0


@pytest.mark.parametrize(("method", "close"), [("sigmoid", 0.01), ("isotonic", 1e-6), ("temperature", 0.01)])
def test_probabilities_are_those_of_scikit_learn(method, close):
    scores, labels, _ = skewed()
    if method == "temperature":  # which has no intercept
        scores, labels = scores[:, 1:2], labels[:, 1:2]
    calibrated = Calibration.fitted(method, scores, labels)(scores)
    for c in range(labels.shape[1]):
        z = logits(scores[:, c : c + 1])
        scorer = FrozenEstimator(Scorer().fit(z, labels[:, c]))
        expected = CalibratedClassifierCV(scorer, method=method).fit(z, labels[:, c]).predict_proba(z)[:, 1]
        np.testing.assert_allclose(calibrated[:, c], expected, atol=close)


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_unseen_rows_come_closer_to_their_probabilities(method):
    scores, labels, _ = skewed()
    unseen, unseen_labels, truth = skewed(seed=1)
    calibrated = Calibration.fitted(method, scores, labels)(unseen)
    assert calibrated.shape == unseen.shape
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert np.abs(calibrated - truth).mean() < np.abs(unseen - truth).mean()
    for c in range(3):
        assert log_loss(unseen_labels[:, c], calibrated[:, c]) < log_loss(unseen_labels[:, c], unseen[:, c])


@pytest.mark.parametrize("method", METHODS)
def test_scores_keep_their_order(method):
    scores, labels, _ = skewed(200)
    calibrated = Calibration.fitted(method, scores, labels)(scores)
    order = np.argsort(scores, axis=0)
    assert (np.diff(np.take_along_axis(calibrated, order, axis=0), axis=0) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_class_with_constant_labels_keeps_its_scores(method):
    scores, labels, _ = skewed(100)
    labels[:, 0], labels[:, 1] = False, True
    calibrated = Calibration.fitted(method, scores, labels)(scores)
    np.testing.assert_allclose(calibrated[:, :2], scores[:, :2], atol=1e-3)
    assert np.abs(calibrated[:, 2] - scores[:, 2]).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_predict_the_opposite_are_flattened_not_reversed(method):
    scores, labels, _ = skewed(300)
    calibrated = Calibration.fitted(method, scores, ~labels)(np.sort(scores, axis=0))
    assert (np.diff(calibrated, axis=0) >= 0).all()


@examples(60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    sharp=st.sampled_from([0.1, 1, 20]),
    method=st.sampled_from(METHODS),
)
def test_any_scores_and_labels_can_be_calibrated(seed, n, sharp, method):
    """Such as separable classes, scores of 0 and 1, or a single row."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < 0.4
    scores = expit(sharp * (labels - 0.5 + rng.normal(0, 0.5, labels.shape)))
    calibrated = Calibration.fitted(method, scores, labels)(scores)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_lines_are_where_the_posterior_is_highest(reverse):
    """Compared with scipy's general minimiser of the same posterior; no slope is negative."""
    scores, labels, _ = skewed(200)
    scores = 1 - scores if reverse else scores
    z = logits(scores[:, 0])

    def loss(line):
        logit_of = line[0] + line[1] * z
        likelihood = np.logaddexp(0, np.where(labels[:, 0], -logit_of, logit_of)).sum()
        return likelihood + PRECISION / 2 * (line[0] ** 2 + (line[1] - 1) ** 2)

    line = Calibration.fitted("sigmoid", scores, labels).parameters[0]
    np.testing.assert_allclose(
        line, minimize(loss, [0.0, 1.0], bounds=[(None, None), (0, None)]).x, atol=1e-3
    )


def test_isotonic_functions_may_have_any_rising_shape():
    rng = np.random.default_rng(0)
    scores = rng.random((5000, 1))
    labels = rng.random(scores.shape) < np.where(scores > 0.6, 0.9, 0.2)
    calibrated = Calibration.fitted("isotonic", scores, labels)(np.array([[0.1], [0.5], [0.7], [0.9]]))
    assert calibrated[:, 0] == pytest.approx([0.2, 0.2, 0.9, 0.9], abs=0.06)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores[:, 0], labels[:, 0])
    of_training = Calibration.fitted("isotonic", scores, labels)(scores)
    np.testing.assert_allclose(of_training[:, 0], expected.predict(scores[:, 0]), atol=1e-6)


def test_zeros_and_ones_are_finite():
    assert np.isfinite(logits(np.array([0.0, 1.0], np.float32))).all()


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'isotonic'"):
        Calibration.fitted("isotone", *skewed(10)[:2])
