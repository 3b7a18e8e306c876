"""Heads fitted on labels of which some are unknown."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from encode_once.cache import DataError, UsageError
from encode_once.classify import heads
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.torch import losses
from encode_once.classify.heads.torch.scores import SCORES


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(260, 8)).astype(np.float32)
    Y = X @ rng.normal(size=(8, 3)) + rng.normal(size=(260, 3)) > 1.5
    hidden = rng.random(Y.shape) < 0.3
    return X, Y, hidden, np.where(hidden, -1, Y).astype(np.int8)


def fitted(name, X, Y, **options):
    small = {
        "gbm": {"rounds": 5},
        "forest": {"trees": 10},
        "mlp": {"epochs": 2, "hidden": [16]},
        "concat": {"epochs": 2},
    }
    progress = {"progress": False} if "progress" in heads.options_of(name) else {}
    head = heads.make(name, **progress, **small.get(name, {}), **options)
    return head.fit(X[:200], Y[:200], X[200:], Y[200:])


@pytest.mark.parametrize("C", [0.03, 3.0])
def test_linear_learns_each_class_from_its_known_rows_as_scikit_learn_does(rows, C):
    X, _, hidden, labels = rows
    head = Linear(Cs=[C], tolerance=1e-6).fit(X[:200], labels[:200], X[200:], labels[200:])
    for k in range(3):
        known_rows = ~hidden[:200, k]
        expected = LogisticRegression(C=C, tol=1e-8).fit(X[:200][known_rows], labels[:200][known_rows, k])
        np.testing.assert_allclose(head.coef_[k], expected.coef_[0], atol=2e-3)
        np.testing.assert_allclose(head.intercept_[k], expected.intercept_[0], atol=2e-3)


@pytest.mark.parametrize("name", ["linear", "mlp", "knn", "prototype", "forest", "gbm", "concat"])
def test_rows_without_a_known_label_of_a_class_are_not_negatives_of_it(rows, name):
    """Two of three positives are hidden: as negatives they would make the others improbable."""
    X, Y, _, _ = rows
    hidden = Y & (np.random.default_rng(1).random(Y.shape) < 2 / 3)
    hidden |= ~Y & (np.random.default_rng(2).random(Y.shape) < 2 / 3)
    labels = np.where(hidden, -1, Y).astype(np.int8)
    scores = fitted(name, X, labels).predict_proba(X)
    as_negatives = fitted(name, X, labels == 1).predict_proba(X)
    of_all = Y.mean()
    assert abs(scores.mean() - of_all) < abs(as_negatives.mean() - of_all)


@pytest.mark.parametrize("name", ["linear", "knn", "mlp"])
def test_nan_is_unknown_as_well_and_a_saved_head_scores_alike(rows, name):
    X, _, hidden, labels = rows
    head = fitted(name, X, labels)
    scores = head.predict_proba(X)
    with_nan = np.where(hidden, np.nan, labels)
    np.testing.assert_array_equal(fitted(name, X, with_nan).predict_proba(X), scores)
    loaded = heads.make(name, **head.get_params())
    loaded.load_state(head.state())
    loaded.n_features_in_, loaded.classes_ = head.n_features_in_, head.classes_
    np.testing.assert_array_equal(loaded.predict_proba(X), scores)


def test_neighbours_vote_whose_label_is_known():
    """Brute force: k nearest by l2 at an infinite temperature, and one average row."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(40, 3)).astype(np.float16).astype(np.float32)
    labels = rng.choice([-1, 0, 1], (40, 2)).astype(np.int8)
    head = heads.make("knn", ks=[5], temperatures=[float("inf")], metric="l2")
    scores = head.fit(X, labels, X, labels).predict_proba(X)
    for row in range(40):
        nearest = np.argsort(((X - X[row]) ** 2).sum(axis=1), kind="stable")[:5]
        for k in range(2):
            votes, of_class = labels[nearest, k], labels[labels[:, k] >= 0, k]
            expected = ((votes == 1).sum() + of_class.mean()) / ((votes >= 0).sum() + 1)
            assert scores[row, k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", losses.NAMES)
def test_a_loss_is_the_mean_over_known_entries_and_has_no_gradient_at_others(name, smoothing):
    """Known entries of one class are a table of their own, whose loss any program can compute."""
    torch.manual_seed(0)
    Y = torch.randint(-1, 2, (20, 4)).float()
    logits = torch.randn(20, 4, requires_grad=True)
    labels = Y.numpy().astype(np.int8)
    loss = losses.make(name, labels, smoothing, partial=True)(logits, Y)
    loss.backward()
    assert (logits.grad[Y < 0] == 0).all()
    assert (logits.grad[Y >= 0] != 0).any()
    total = 0.0
    for k in range(4):
        counted = Y[:, k] >= 0
        table = logits[counted, k, None].detach(), Y[counted, k, None]
        of_class = losses.make(name, (table[1].numpy() == 1), smoothing)
        total += float(of_class(*table)) * int(counted.sum())
    assert float(loss.detach()) == pytest.approx(total / int((Y >= 0).sum()), rel=1e-5)
    unknown = torch.full((2, 4), -1.0)
    assert float(losses.make(name, labels, smoothing, partial=True)(torch.zeros(2, 4), unknown)) == 0


@pytest.mark.parametrize("name", SCORES)
def test_stopping_scores_leave_unknown_labels_out(name):
    torch.manual_seed(1)
    Y = torch.randint(0, 2, (30, 3)).float()
    logits = torch.randn(30, 3)
    more = torch.cat([logits, torch.randn(9, 3)]), torch.cat([Y, torch.full((9, 3), -1.0)])
    assert SCORES[name](*more) == pytest.approx(SCORES[name](logits, Y), rel=1e-6)


def test_heads_that_need_all_labels_name_those_that_do_not(rows):
    X, _, _, labels = rows
    with pytest.raises(DataError, match=r"head label-rnn .* \(linear, mlp, "):
        heads.check_labels("label-rnn", labels)
    with pytest.raises(DataError, match="marks unknown entries"):
        fitted("label-rnn", X, labels)
    with pytest.raises(DataError, match="all labels of a row at once"):
        fitted("sklearn.neural_network:MLPClassifier", X, labels)
    with pytest.raises(UsageError, match="may need all labels of a row"):
        losses.make("loss.py:own", labels, partial=True)
    scores = fitted("sklearn.linear_model:LogisticRegression", X, labels, C=0.5).predict_proba(X)
    known_rows = labels[:200, 0] >= 0
    alone = LogisticRegression(C=0.5).fit(X[:200][known_rows], labels[:200][known_rows, 0])
    np.testing.assert_allclose(scores[:, 0], alone.predict_proba(X)[:, 1], atol=1e-4)
