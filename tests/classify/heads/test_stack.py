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
    """Rows of two vectors of 4 and 6 numbers, each of which tells one of two labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10)).astype(np.float32)
    return X, np.stack([X[:, 0] > 0, X[:, 4] > 0], axis=1)


class Memory(BaseEstimator):
    """A head that is sure of the labels of rows it has seen, and knows nothing of others."""

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, X, Y, X_val=None, Y_val=None):
        self.known = {row.tobytes(): labels for row, labels in zip(X[:], Y, strict=True)}
        self.c = Y.shape[1]
        return self

    def predict_proba(self, X):
        return np.array([self.known.get(row.tobytes(), np.full(self.c, 0.5)) for row in X[:]], np.float32)


class Spy(BaseEstimator):
    """A combiner that keeps what it is shown, and scores by the first head's logits."""

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, *given):
        self.given = given
        return self

    def predict_proba(self, X):
        return expit(X[:, :2]).astype(np.float32)


@pytest.fixture
def spied(monkeypatch):
    for one in (Memory, Spy):
        monkeypatch.setitem(heads.HEADS, one.__name__, (__name__, one.__name__, {}))


SHAPES = [(1, 4), (1, 6)]


def test_the_combiner_learns_from_scores_of_heads_that_had_not_seen_the_row(data, spied):
    X, Y = data
    stack = Stack(SHAPES, heads=["Memory"] * 2, combiner="Spy", folds=4)
    stack.fit(X[:150], Y[:150], X[150:], Y[150:])
    scores, labels, of_validation, truth = stack.combiner_.given
    assert scores.shape == (150, 4)
    assert not scores.any()  # the logit of 0.5: no row was remembered
    assert not of_validation.any()
    np.testing.assert_array_equal(labels, Y[:150])
    np.testing.assert_array_equal(truth, Y[150:])
    assert all(len(head.known) == 150 for head in stack.heads_)  # in the end they have seen all
    np.testing.assert_array_equal(stack.predict_proba(X[:150]) > 0.5, Y[:150])


def test_a_fold_sees_the_labels_of_its_own_rows(data, monkeypatch, spied):
    X, Y = data
    seen = []
    fit = Memory.fit

    def kept(self, X, Y, X_val, Y_val):
        seen.append((X[:], Y, X_val[:], Y_val))
        return fit(self, X, Y, X_val, Y_val)

    monkeypatch.setattr(Memory, "fit", kept)
    Stack(SHAPES, heads=["Memory"] * 2, combiner="Spy", folds=3).fit(X[:150], Y[:150], X[150:], Y[150:])
    assert sorted(len(rows) for rows, *_ in seen) == [100] * 6 + [150] * 2
    for i, (rows, labels, rows_val, labels_val) in enumerate(seen):
        columns = slice(0, 4) if i % 2 == 0 else slice(4, 10)
        place = {row[columns].tobytes(): n for n, row in enumerate(X)}
        numbers = [place[row.tobytes()] for row in rows]
        np.testing.assert_array_equal(labels, Y[numbers])
        np.testing.assert_array_equal(rows_val, X[150:, columns])
        np.testing.assert_array_equal(labels_val, Y[150:])


@pytest.mark.parametrize("parts", [None, [[1], [0, 1]]])
def test_scores_are_the_combiners_of_the_heads_scores_of_their_parts(data, parts):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear", "knn"], parts=parts, folds=2).fit(X, Y)
    ranges = [slice(0, 4), slice(4, 10)] if parts is None else [slice(4, 10), slice(0, 10)]
    found = [head.predict_proba(X[:, part]) for head, part in zip(stack.heads_, ranges, strict=True)]
    logits = np.concatenate([logit(one.clip(1e-4, 1 - 1e-4)) for one in found], axis=1)
    expected = expit(logits @ stack.combiner_.coef_.T + stack.combiner_.intercept_)
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)


def test_parts_may_be_out_of_order(data):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear"], parts=[[1, 0]], folds=2).fit(X, Y)
    assert stack.heads_[0].coef_.shape == (2, 10)
    turned = X[:, [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]]
    found = stack.heads_[0].predict_proba(turned)
    logits = logit(found.clip(1e-4, 1 - 1e-4))
    expected = expit(logits @ stack.combiner_.coef_.T + stack.combiner_.intercept_)
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)


def test_the_mean_of_the_logits_may_stand_for_a_combiner(data):
    X, Y = data
    stack = Stack(SHAPES, heads=["linear", "knn"], combiner="mean").fit(X, Y)
    found = [
        head.predict_proba(X[:, part])
        for head, part in zip(stack.heads_, (slice(4), slice(4, 10)), strict=True)
    ]
    expected = expit(np.mean([logit(one.clip(1e-4, 1 - 1e-4)) for one in found], axis=0))
    np.testing.assert_allclose(stack.predict_proba(X), expected, atol=1e-5)
    other = Stack(SHAPES, heads=["linear", "knn"], combiner="mean")
    other.load_state(stack.state())
    np.testing.assert_array_equal(other.predict_proba(X), stack.predict_proba(X))


def test_options_and_seed_reach_their_heads(data):
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
    ],
)
def test_what_does_not_fit_together_is_told(data, options, error, message):
    with pytest.raises(error, match=message):
        Stack(SHAPES, **options).fit(*data)


def test_a_sequence_has_a_reader_and_one_for_linear_is_refused(data):
    X, Y = data
    shapes = [(1, 4), (3, 2)]
    stack = Stack(shapes, options=[QUICK, {**QUICK, "hidden": 4, "width": 4}], folds=2).fit(X, Y)
    assert [type(head).__name__ for head in stack.heads_] == ["MLP", "Fused"]
    assert stack.heads_[1].reader == "bigru"
    assert stack.heads_[1].shapes == [(3, 2)]
    with pytest.raises(DataError, match="feature 1 holds a sequence a row, which head linear cannot take"):
        Stack(shapes, heads=["linear", "linear"]).fit(X, Y)


@pytest.mark.parametrize(
    ("combiner", "options"),
    [("linear", {}), ("bilinear", {**QUICK, "epochs": 12, "width": 8, "learning_rate": 0.01})],
)
def test_another_stack_takes_up_what_was_learned(data, combiner, options):
    X, Y = data
    given = {"shapes": SHAPES, "heads": ["linear", "knn"], "combiner": combiner, "combiner_options": options}
    stack = Stack(**given).fit(X[:150], Y[:150])
    scores = stack.predict_proba(X)
    assert average_precision_score(Y[150:], scores[150:]) > 0.8
    other = make("stack", **given)
    other.load_state(stack.state())
    np.testing.assert_array_equal(other.predict_proba(X), scores)
    if combiner == "bilinear":  # it fuses the heads, not their scores in a row
        assert stack.combiner_.shapes == [(1, 2), (1, 2)]


def test_a_head_whose_scores_are_not_finite_is_an_error_and_no_input_of_the_combiner(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    stack = make("stack", parts=[[0], [0]], heads=["linear", "knn"], folds=2)
    knn = type(make("knn"))
    monkeypatch.setattr(knn, "predict_proba", lambda _, X: np.full((len(X), 2), np.nan, np.float32))
    with pytest.raises(DataError, match="scores of head 1 of the stack"):
        stack.fit(X, X[:, :2] > 0)
