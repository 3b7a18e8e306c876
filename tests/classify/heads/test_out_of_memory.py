"""Heads on rows that are not held in memory: the same results, or as good ones, with less of it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from encode_once.cache.errors import InsufficientMemoryError
from encode_once.classify.data import matrix
from encode_once.classify.heads import auto, checks, knn, linear, make, nearest
from encode_once.classify.heads.lbfgs import minimise
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.mlp import MLP
from encode_once.classify.heads.streamed_regression import StreamedRegression
from encode_once.classify.heads.torch import batches
from encode_once.classify.heads.torch.batches import Batches


class Counted(matrix.LazyMatrix):
    """Rows that count how many of them are read, and how many at once."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape
        self.read, self.most, self.runs = 0, 0, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        numbers = np.arange(len(self.X))[rows]
        self.read, self.most = self.read + len(numbers), max(self.most, len(numbers))
        self.runs += 1 + int((np.diff(numbers) != 1).sum())
        return self.X[rows]


@pytest.fixture(scope="module")
def rows():
    """1,000 rows of 12 correlated features, ordered by one of them, with four labels, one of them rare."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=12)
    X = X[np.argsort(X[:, 0])].astype(np.float32)
    Y = X @ rng.normal(size=(12, 4)) / 3 + rng.logistic(size=(1000, 4)) > [0, 1, 2, 6]
    return X, Y


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is held: parts of 64 rows are read, and C is chosen on 200."""
    monkeypatch.setattr(matrix, "IN_MEMORY", 0)
    monkeypatch.setattr(matrix, "CHUNK", 64)
    monkeypatch.setattr(linear, "SAMPLE", 200 * 12)
    monkeypatch.setattr(batches, "BLOCK", 5 * 12)
    monkeypatch.setattr(batches, "BUFFER", 200 * 12)


@pytest.mark.parametrize(
    ("C", "unknown", "weights"), [(0.01, False, 1), (10.0, False, 1), (10.0, True, 1), (0.01, True, 3)]
)
def test_streamed_rows_give_the_logistic_regression_of_all_rows(rows, streamed, C, unknown, weights):
    X, Y = rows
    if unknown:
        Y = Y.astype(np.int8)
        Y[np.random.default_rng(1).random(Y.shape) < 0.3] = -1
    counted = Counted(X)
    options = {"class_weights": [weights] * 4} if weights > 1 else {}
    head = Linear(Cs=[C], tolerance=1e-6, device="cpu", **options).fit(counted, Y, X[::3], Y[::3])
    scores = head.predict_proba(X)
    for k in range(4):
        labelled = Y[:, k] != -1
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000, class_weight={0: 1, 1: weights})
        model.fit(X[labelled].astype(float), Y[labelled, k])
        assert scores[:, k] == pytest.approx(model.predict_proba(X)[:, 1], abs=1e-3)
    assert counted.most <= 200
    assert "chose C on 200 of 1,000 rows" in head.notes[0]
    assert counted.read < 60 * len(X)


def test_streamed_rows_have_the_components_of_the_sample(rows, streamed):
    X, Y = rows
    wide = np.hstack([X * 100, np.random.default_rng(2).normal(size=(1000, 28)).astype(np.float32)])
    options = {"Cs": [0.01], "tolerance": 1e-6, "device": "cpu"}
    head = Linear(components=12, **options).fit(wide, Y, wide[::3], Y[::3])
    assert "chose C on" in head.notes[0]
    expected = Linear(**options).fit(X * 100, Y, X[::3] * 100, Y[::3]).predict_proba(X * 100)
    assert head.predict_proba(wide) == pytest.approx(expected, abs=0.02)


def test_streamed_rows_of_one_label_give_the_multinomial_regression(rows, streamed):
    X, Y = rows
    truth = np.where(Y.any(axis=1), Y.argmax(axis=1), 3)
    Y = np.eye(4, dtype=bool)[truth]
    head = Linear(Cs=[0.1], tolerance=1e-5, device="cpu", task="single").fit(X, Y, X, Y)
    model = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(X.astype(float), truth)
    assert head.predict_proba(X) == pytest.approx(model.predict_proba(X), abs=3e-3)


def test_a_held_fit_and_a_streamed_one_choose_alike(rows, streamed, monkeypatch):
    X, Y = rows
    order = np.random.default_rng(2).permutation(1000)
    train, validation = order[:800], order[800:]
    held_and_streamed = []
    for numbers in (2**28, 0):
        monkeypatch.setattr(matrix, "IN_MEMORY", numbers)
        head = Linear(device="cpu").fit(X[train], Y[train], X[validation], Y[validation])
        held_and_streamed.append(log_loss(Y[validation].ravel(), head.predict_proba(X[validation]).ravel()))
    assert held_and_streamed[1] == pytest.approx(held_and_streamed[0], abs=0.005)


def test_classes_that_do_not_converge_are_reported(rows, streamed, monkeypatch):
    monkeypatch.setattr("encode_once.classify.heads.streamed_regression.MAX_PASSES", 2)
    monkeypatch.setattr(linear, "MAX_PASSES", 2)
    X, Y = rows
    head = Linear(Cs=[10.0], tolerance=1e-7, device="cpu").fit(X, Y, X, Y)
    assert "has not converged for 4 of 4 classes after 2 steps" in head.warnings_[0]


def test_the_gradient_of_a_pass_is_that_of_the_loss(rows):
    X, Y = rows
    axes = torch.linalg.qr(torch.randn(12, 12, generator=torch.manual_seed(0))).Q
    regression = StreamedRegression(X, Y, torch.ones(12), axes, torch.ones(13, 1), single=False)
    U = torch.randn(13, 4, generator=torch.manual_seed(1)) / 5
    gradients = regression._pass(U, slice(None))[1]
    step = 1e-3 * torch.randn(13, 4, generator=torch.manual_seed(2))
    ahead, behind = (regression._pass(U + sign * step, slice(None))[0] for sign in (1, -1))
    assert (ahead - behind).numpy() == pytest.approx(2 * (gradients * step).sum(0).numpy(), abs=2e-6)


def test_steps_that_are_too_long_are_halved_until_the_function_falls():
    def quartic(V, columns):
        return ((V - 3) ** 4 + (V - 3) ** 2).sum(0).double(), 4 * (V - 3) ** 3 + 2 * (V - 3)

    start = torch.tensor([[0.0, 10.0, 3.0]])
    V, unsolved = minimise(quartic, start, *quartic(start, None), 1e-3, 100)
    assert unsolved == 0
    assert V.numpy() == pytest.approx(3, abs=2e-3)


def test_batches_by_blocks_hold_each_row_once_and_read_in_sequence(rows, streamed):
    X, Y = rows
    counted = Counted(X)
    epochs = Batches(counted, Y, 33, torch.device("cpu")).epochs()
    torch.manual_seed(0)
    first, second = ([*next(epochs)] for _ in range(2))
    assert sorted(len(features) for features, _ in first) == [30] * 23 + [31] * 10
    for epoch in (first, second):
        features, labels = (torch.cat(part).numpy() for part in zip(*epoch, strict=True))
        order = np.lexsort(features.T)
        np.testing.assert_array_equal(features[order], X[np.lexsort(X.T)])
        np.testing.assert_array_equal(labels[order], Y[np.lexsort(X.T)])
    assert not torch.equal(first[0][0], second[0][0])
    assert counted.most <= 64
    assert counted.runs < len(X) / 2  # of 2,000 rows read, in blocks of five or more
    spread = np.array([features[:, 0].mean() for features, _ in first])  # rows are ordered by this column
    assert spread.std() < 2.5 * X[:, 0].std() / np.sqrt(30)


def test_a_network_learns_as_much_by_blocks(rows, streamed, monkeypatch):
    X, Y = rows
    losses = []
    for numbers in (2**28, 0):
        monkeypatch.setattr(matrix, "IN_MEMORY", numbers)
        head = MLP(hidden=(32,), epochs=6, device="cpu", progress=False, batch_size=32, stop_by="loss")
        head.fit(X[::2], Y[::2], X[1::2], Y[1::2])
        losses.append(log_loss(Y[1::2].ravel(), head.predict_proba(X[1::2]).ravel()))
    assert losses[1] == pytest.approx(losses[0], abs=0.01)
    assert losses[1] < 0.5


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_neighbours_are_the_same_by_blocks(rows, monkeypatch, metric):
    X, Y = rows
    head = knn.KNN(metric=metric, device="cpu").fit(X[::2], Y[::2], X[1::2], Y[1::2])
    whole = head.predict_proba(X[1::2])
    monkeypatch.setattr(matrix, "IN_MEMORY", 0)
    monkeypatch.setattr(nearest, "BLOCK", 7 * 12)
    np.testing.assert_allclose(head.predict_proba(X[1::2]), whole, atol=1e-6)


def test_neighbours_of_a_sample_of_the_rows(rows):
    X, Y = rows
    head = knn.KNN(rows=50, device="cpu").fit(X, Y, X[::4], Y[::4])
    assert head.rows_.shape == (50, 12)
    assert head.labels_.shape == (50, 4)
    assert head.predict_proba(X[:3]).shape == (3, 4)


@pytest.mark.parametrize("cross_validated", [False, True])
def test_boosters_are_the_same_if_their_columns_are_binned_by_batches(rows, monkeypatch, cross_validated):
    X, Y = rows
    validation = () if cross_validated else (X[300:400], Y[300:400])
    scores = []
    for numbers in (2**28, 0):
        monkeypatch.setattr(matrix, "IN_MEMORY", numbers)
        head = make("gbm", rounds=5, progress=False, jobs=1).fit(X[:300], Y[:300], *validation)
        scores.append(head.predict_proba(X[400:500]))
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", ["forest", "knn", "prototype"])
def test_a_head_that_needs_more_memory_than_there_is_says_so_before_it_starts(rows, monkeypatch, name):
    monkeypatch.setattr(checks, "available_memory", lambda: 20_000.0)
    with pytest.raises(
        InsufficientMemoryError, match=rf"head {name} would need about 0\.0 GB of memory, .*: --set"
    ):
        make(name).fit(*rows)


def test_fewer_shots_are_advised_only_where_they_are_fewer(rows, monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda: 0.0)
    with pytest.raises(InsufficientMemoryError, match=r": --set shots=16 caches 16 rows of each class; or"):
        make("prototype", shots=17).fit(*rows)
    with pytest.raises(InsufficientMemoryError, match=r"are available: --head linear needs less"):
        make("prototype", shots=16).fit(*rows)


def test_auto_leaves_out_heads_that_need_more_memory_than_there_is(rows, monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda: 0.0)
    X, Y = rows
    head = make("auto", heads=["forest", "linear"], folds=2, progress=False).fit(X[:90], Y[:90])
    assert (head.losses_ >= 0).tolist() == [False, True]
    (warning,) = head.warnings_
    assert warning.startswith("head auto left out forest: head forest would need")
    with pytest.raises(InsufficientMemoryError, match="head knn would need"):
        make("auto", heads=["knn", "forest"], folds=2, progress=False).fit(X[:90], Y[:90])


def test_auto_leaves_out_heads_for_which_torch_has_no_memory(rows, monkeypatch):
    def fit(self, X, *others, **more):
        torch.empty(1 << 60)  # bytes times 4, more than any machine has

    X, Y = rows
    monkeypatch.setattr(MLP, "fit", fit)
    head = make("auto", heads=["mlp", "prototype"], folds=2, progress=False).fit(X[:90], Y[:90])
    assert (head.losses_ >= 0).tolist() == [False, True]
    assert head.warnings_[0].startswith("head auto left out mlp: ")
    with pytest.raises(MemoryError, match="allocate"):
        make("auto", heads=["mlp"], folds=2, progress=False).fit(X[:90], Y[:90])
    with pytest.raises(MemoryError, match="CUDA"), checks.torch_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")  # of a GPU
    with pytest.raises(RuntimeError, match="shapes"), checks.torch_memory():  # another error of torch
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize("cross_fitted", [True, False])
def test_auto_keeps_a_head_that_all_rows_are_too_many_for(rows, monkeypatch, cross_fitted):
    X, Y = rows[0][:90], rows[1][:90]
    monkeypatch.setattr(auto, "CROSS_FITTED_UP_TO", 90 if cross_fitted else 0)
    monkeypatch.setattr(checks, "available_memory", lambda: 89.0 * (2 * 12 + 4))  # of knn with 89 rows
    head = make("auto", heads=["knn"], folds=2, progress=False).fit(X, Y)
    (warning,) = head.warnings_
    assert warning.startswith("head auto has fitted knn on a part of the rows only: head knn would need")
    assert len(head.blend_.heads_[0].rows_) < 90
    assert head.predict_proba(X).shape == (90, 4)
