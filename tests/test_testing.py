"""`check_head`: heads of all kinds pass, and a head that breaks a rule is refused with that rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from encode_once.cache.errors import DataError
from encode_once.classify.heads import HEADS
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.estimator import Estimator
from encode_once.testing import check_head

NETWORK = {"epochs": 2, "device": "cpu", "progress": False}
FUSED = {**NETWORK, "width": 16, "hidden": 8}
OPTIONS = {
    "linear": {"device": "cpu"},
    "mlp": {**NETWORK, "hidden": (16,)},
    "knn": {"device": "cpu"},
    "prototype": {"device": "cpu"},
    "forest": {"trees": 20, "jobs": 1},
    "gbm": {"rounds": 10, "jobs": 1, "progress": False},
    "attention": {**NETWORK, "width": 16},
    "stack": {"parts": [[0], [0]], "heads": ["linear", "knn"], "folds": 3},
    "auto": {"heads": ["linear", "knn"], "folds": 2, "progress": False},
}
ANY_ORDER = ("linear", "knn")  # the others draw rows; a run fits all heads on rows in an order of its own
LONG = ("attention", "label-rnn", "auto", "mutan", "gated")  # seconds each
CLASSIFIERS = {
    "svm:LinearSVC": {"C": 0.1},
    "svm:SVC": {},
    "linear_model:RidgeClassifier": {},
    "linear_model:SGDClassifier": {"loss": "modified_huber"},
    "neural_network:MLPClassifier": {"max_iter": 5},
    "ensemble:RandomForestClassifier": {"n_estimators": 5},
    "neighbors:KNeighborsClassifier": {},
    "naive_bayes:GaussianNB": {},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in HEADS]
)
def test_the_heads_of_this_program_pass(name):
    check_head(name, any_row_order=name in ANY_ORDER, **OPTIONS.get(name, FUSED))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_of_scikit_learn_pass(name):
    pytest.importorskip("skops")
    check_head(f"sklearn.{name}", **CLASSIFIERS[name])


@dataclass(eq=False, repr=False)
class Centres(Head, Estimator):
    """A head that keeps the contract: the sigmoid of the product with each class's mean."""

    STATE: ClassVar[Sequence[str]] = ("centres", "prior")

    sharpness: float = 1.0

    def fit(self, X, Y, X_val=None, Y_val=None):
        rows = X[np.arange(len(X))]
        Y = np.asarray(Y, bool)
        self.centres_ = np.stack([rows[y].mean(axis=0) if y.any() else 0 * rows[0] for y in Y.T])
        self.prior_ = np.where(Y.any(axis=0), 0.0, -9.0).astype(np.float32)
        return self

    def predict_proba(self, X):
        products = np.einsum("nd,cd->nc", X[np.arange(len(X))], self.centres_)
        return 1 / (1 + np.exp(-np.float32(self.sharpness) * products - self.prior_))


def test_a_head_passes_as_a_class_an_object_or_a_class_with_options():
    check_head(Centres, any_row_order=True)
    check_head(Centres(sharpness=2.0))
    check_head(Centres, sharpness=0.5)


class Narrow(Centres):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, :2]


class Double(Centres):
    def predict_proba(self, X):
        return super().predict_proba(X).astype(np.float64)


class Logits(Centres):
    def predict_proba(self, X):
        return 5 * super().predict_proba(X)


class Silent(Centres):
    def fit(self, X, Y, X_val=None, Y_val=None):
        super().fit(X, Y)


class AmongOthers(Centres):
    def predict_proba(self, X):
        scores = super().predict_proba(X)
        return scores / scores.max(initial=1e-6)


class Continuing(Centres):
    def fit(self, X, Y, X_val=None, Y_val=None):
        again = hasattr(self, "centres_")
        super().fit(X, Y)
        self.centres_ = self.centres_ * (2 if again else 1)
        return self


class Random(Centres):
    def fit(self, X, Y, X_val=None, Y_val=None):
        super().fit(X, Y)
        self.centres_ = self.centres_ + np.random.random(self.centres_.shape).astype(np.float32)  # noqa: NPY002
        return self


class Forgetful(Centres):
    STATE: ClassVar[Sequence[str]] = ("centres",)

    def load_state(self, state):
        super().load_state(state)
        self.prior_ = np.ones(4, np.float32)


class OfTexts(Centres):
    def state(self):
        return super().state() | {"name": np.array(["a"])}


class Fragile(Centres):
    def fit(self, X, Y, X_val=None, Y_val=None):
        if len(X) < 10:
            raise KeyError(len(X))
        return super().fit(X, Y)


class FirstRow(Centres):
    def fit(self, X, Y, X_val=None, Y_val=None):
        super().fit(X, Y)
        self.centres_ = self.centres_ + X[np.arange(1)]
        return self


@dataclass(eq=False, repr=False)
class Changing(Centres):
    def __post_init__(self):
        self.sharpness = self.sharpness * 2


class Trusting(Head):
    """Without `Estimator`, which checks arrays."""

    fit, predict_proba, STATE = Centres.fit.__wrapped__, Centres.predict_proba.__wrapped__, Centres.STATE
    sharpness = 1.0


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        (Narrow, "are (40, 2), not (40, 4)"),
        (Double, "float64, not float32"),
        (Logits, "not between 0 and 1"),
        (Silent, "does not return self"),
        (AmongOthers, "a row alone and among others"),
        (Continuing, "continues from an earlier fit"),
        (Random, "use seed"),
        (Forgetful, "loads the state gives other scores"),
        (OfTexts, "not numbers"),
        (Fragile, "six rows: KeyError (6), not a DataError"),
        (Changing, "changes an option"),
        (Trusting, "accepts NaN"),
    ],
)
def test_a_head_that_breaks_a_rule_is_refused_with_the_rule(head, rule):
    with pytest.raises((AssertionError, DataError, TypeError, ValueError)) as caught:
        check_head(head)
    assert rule in str(caught.value)


def test_a_head_that_promises_any_order_of_rows_is_held_to_it():
    check_head(FirstRow)
    with pytest.raises(AssertionError, match="train rows in another order"):
        check_head(FirstRow, any_row_order=True)
