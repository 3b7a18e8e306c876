import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.metrics import average_precision_score

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify import heads
from encode_once.classify.heads import make
from encode_once.classify.heads.stack import Stack

QUICK = {"epochs": 2, "device": "cpu", "progress": False}


@pytest.fixture
def data():
    """Rows of two vectors with 4 and 6 columns; each vector determines one of the two labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10)).astype(np.float32)
    return X, np.stack([X[:, 0] > 0, X[:, 4] > 0], axis=1)


class Memory(BaseEstimator):
    """A head that knows the labels of the rows it was fitted on, and scores all other rows 0.5."""

    takes_raw, warnings_, CHOICES, OWN = False, (), {}, ()

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, X, Y, X_val=None, Y_val=None):
        self.labels = {row.tobytes(): labels for row, labels in zip(X[:], Y, strict=True)}
        self.c = Y.shape[1]
        return self

    def check(self):
        pass

    def predict_proba(self, X):
        return np.array([self.labels.get(row.tobytes(), np.full(self.c, 0.5)) for row in X[:]], np.float32)


class Spy(BaseEstimator):
    """A combiner that keeps the arguments of `fit`, and scores by the logits of the first head."""

    takes_raw, warnings_, CHOICES, OWN = False, (), {}, ()

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, *args):
        self.args = args
        return self

    def check(self):
        pass

    def predict_proba(self, X):
        return expit(X[:, :2]).astype(np.float32)


@pytest.fixture
def spied(monkeypatch):
    for name in ("Memory", "Spy"):
        monkeypatch.setitem(heads.HEADS, name, (__name__, name, {}))


SHAPES = [(1, 4), (1, 6)]


def test_the_combiner_learns_from_scores_of_heads_that_were_not_fitted_on_the_row(data, spied):
    X, Y = data
    stack = Stack(SHAPES, heads=["Memory"] * 2, combiner="Spy", folds=4)
    stack.fit(X[:150], Y[:150], X[150:], Y[150:])
    scores, labels, of_validation, truth = stack.combiner_.args
    assert scores.shape == (150, 4)
    assert not scores.any()  # the logit of 0.5: each row is new to the heads that score it
    assert not of_validation.any()
    np.testing.assert_array_equal(labels, Y[:150])
    np.testing.assert_array_equal(truth, Y[150:])
    assert all(len(head.labels) == 150 for head in stack.heads_)  # the final heads are fitted on all rows
    np.testing.assert_array_equal(stack.predict_proba(X[:150]) > 0.5, Y[:150])


def test_each_head_is_fitted_on_rows_with_their_own_labels(data, monkeypatch, spied):
    X, Y = data
    seen = []
    fit = Memory.fit

    def spy(self, X, Y, X_val, Y_val):
        seen.append((X[:], Y, X_val[:], Y_val))
        return fit(self, X, Y, X_val, Y_val)

    monkeypatch.setattr(Memory, "fit", spy)
    Stack(SHAPES, heads=["Memory"] * 2, combiner="Spy", folds=3).fit(X[:150], Y[:150], X[150:], Y[150:])
    assert sorted(len(rows) for rows, *_ in seen) == [100] * 6 + [150] * 2
    for i, (rows, labels, rows_val, labels_val) in enumerate(seen):
        columns = slice(0, 4) if i % 2 == 0 else slice(4, 10)
        place = {row[columns].tobytes(): n for n, row in enumerate(X)}
        numbers = [place[row.tobytes()] for row in rows]
        np.testing.assert_array_equal(labels, Y[numbers])
        np.testing.assert_array_equal(rows_val, X[150:, columns])
        np.testing.assert_array_equal(labels_val, Y[150:])


def test_without_validation_rows_the_heads_and_the_combiner_learn_from_all_rows(data, spied):
    X, Y = data
    stack = Stack(SHAPES, heads=["Memory"] * 2, combiner="Spy", folds=4).fit(X, Y)
    scores, labels, *validation = stack.combiner_.args
    assert (scores.shape, scores.any(), validation) == ((200, 4), False, [None, None])
    np.testing.assert_array_equal(labels, Y)
    assert all(len(head.labels) == 200 for head in stack.heads_)


@pytest.mark.parametrize("parts", [None, [[1], [0, 1]]])
def test_the_combiner_scores_the_logits_of_each_head_on_its_part(data, parts):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear", "knn"], parts=parts, folds=2).fit(X, Y)
    ranges = [slice(0, 4), slice(4, 10)] if parts is None else [slice(4, 10), slice(0, 10)]
    scores = [head.predict_proba(X[:, part]) for head, part in zip(stack.heads_, ranges, strict=True)]
    logits = np.concatenate([logit(each.clip(1e-4, 1 - 1e-4)) for each in scores], axis=1)
    expected = expit(logits @ stack.combiner_.coef_.T + stack.combiner_.intercept_)
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)


def test_warnings_of_the_heads_and_the_combiner_are_passed_on(data, monkeypatch):
    monkeypatch.setattr("encode_once.classify.heads.linear.MAX_STEPS", 1)
    options = {"Cs": [10.0], "tolerance": 1e-9}
    stack = Stack(SHAPES, heads=["linear", "knn"], options=[options, {}], combiner_options=options)
    assert [warning.split(" for ")[0] for warning in stack.fit(*data).warnings_] == [
        "head linear has not converged"
    ] * 2


def test_parts_may_be_out_of_order(data):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear"], parts=[[1, 0]], folds=2).fit(X, Y)
    assert stack.heads_[0].coef_.shape == (2, 10)
    reordered = X[:, [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]]
    scores = stack.heads_[0].predict_proba(reordered)
    logits = logit(scores.clip(1e-4, 1 - 1e-4))
    expected = expit(logits @ stack.combiner_.coef_.T + stack.combiner_.intercept_)
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)


def test_the_combiner_mean_averages_the_logits(data):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear", "knn"], combiner="mean").fit(X, Y)
    scores = [
        head.predict_proba(X[:, part])
        for head, part in zip(stack.heads_, (slice(4), slice(4, 10)), strict=True)
    ]
    expected = expit(np.mean([logit(each.clip(1e-4, 1 - 1e-4)) for each in scores], axis=0))
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)
    other = Stack(SHAPES, heads=["linear", "knn"], combiner="mean")
    other.load_state(stack.state())
    np.testing.assert_array_equal(other.predict_proba(X), stack.predict_proba(X))


def test_options_and_the_seed_are_passed_to_the_heads(data):
    X, Y = data
    options = [{"ks": (3,), "seed": 8}, {"Cs": (0.5,)}]
    stack = Stack(
        SHAPES, heads=["knn", "linear"], options=options, combiner_options={"Cs": (0.1,)}, folds=2, seed=7
    )
    stack.fit(X, Y)
    assert stack.heads_[0].ks == (3,)
    assert [stack.heads_[0].seed, stack.heads_[1].seed, stack.combiner_.seed] == [8, 7, 7]
    assert stack.heads_[1].C_.tolist() == [0.5, 0.5]
    assert stack.combiner_.C_.tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"heads": ["linear"]}, DataError, "2 parts take as many heads and options, not 1 and 2"),
        ({"heads": ["knn", "knn"], "options": [{}]}, DataError, "not 2 and 1"),
        ({"heads": ["knn", "lienar"]}, UsageError, "unknown head 'lienar': did you mean 'linear'"),
        ({"heads": ["knn", "linear"], "combiner": "liner"}, UsageError, "did you mean 'linear'"),
        (
            {"heads": ["linear", "linear"], "options": [{}, {"trees": 3}]},
            UsageError,
            "option of head 'linear'",
        ),
        ({"heads": ["knn", "knn"], "folds": 1}, DataError, "kfold:1"),
        (
            {"heads": ["prototype", "knn"], "options": [{"prompts": np.eye(2, 4)}, {}]},
            DataError,
            "head prototype cannot be part of a stack",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_an_error(data, options, error, message):
    with pytest.raises(error, match=message):
        Stack(SHAPES, **options).fit(*data)


def test_a_sequence_is_read_by_bigru_and_refused_by_linear(data):
    X, Y = data
    shapes = [(1, 4), (3, 2)]
    stack = Stack(shapes, options=[QUICK, {**QUICK, "hidden": 4, "width": 4}], folds=2).fit(X, Y)
    assert [type(head).__name__ for head in stack.heads_] == ["MLP", "Fused"]
    assert stack.heads_[1].reader == "bigru"
    assert stack.heads_[1].shapes == [(3, 2)]
    with pytest.raises(DataError, match="feature 1 holds a sequence per row, which head linear cannot take"):
        Stack(shapes, heads=["linear", "linear"]).fit(X, Y)


@pytest.mark.parametrize(
    ("combiner", "combiner_options"),
    [("linear", {}), ("bilinear", {**QUICK, "epochs": 12, "width": 8, "learning_rate": 0.01})],
)
def test_a_stack_that_loads_the_state_gives_the_same_scores(data, combiner, combiner_options):
    X, Y = data
    options = {
        "shapes": SHAPES,
        "heads": ["linear", "knn"],
        "combiner": combiner,
        "combiner_options": combiner_options,
    }
    stack = Stack(**options).fit(X[:150], Y[:150])
    scores = stack.predict_proba(X)
    assert average_precision_score(Y[150:], scores[150:]) > 0.8
    other = make("stack", **options)
    other.load_state(stack.state())
    np.testing.assert_array_equal(other.predict_proba(X), scores)
    if combiner == "bilinear":  # each head's scores are a feature to fuse
        assert stack.combiner_.shapes == [(1, 2), (1, 2)]


def test_scores_that_are_not_finite_are_an_error_before_the_combiner_is_fitted(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    stack = make("stack", parts=[[0], [0]], heads=["linear", "knn"], folds=2)
    knn = type(make("knn"))
    monkeypatch.setattr(knn, "predict_proba", lambda _, X: np.full((len(X), 2), np.nan, np.float32))
    with pytest.raises(DataError, match="scores of head 1 of the stack"):
        stack.fit(X, X[:, :2] > 0)
