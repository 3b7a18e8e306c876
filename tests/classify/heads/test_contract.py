import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.base import clone
from sklearn.metrics import average_precision_score

from encode_once.cache.errors import DataError
from encode_once.classify.heads import HEADS, make
from encode_once.classify.heads.torch.head import TorchHead

OPTIONS = {
    "linear": {"device": "cpu"},
    "mlp": {"hidden": (128,), "device": "cpu", "progress": False},
    "knn": {"device": "cpu"},
    "prototype": {"device": "cpu"},
    "forest": {"trees": 60},
    "gbm": {"jobs": 1},
    "stack": {"parts": [[0], [0]], "heads": ["linear", "knn"], "folds": 3},
    "auto": {"heads": ["linear", "knn"], "folds": 2, "progress": False},
    "attention": {"width": 32, "device": "cpu", "progress": False},
}
OF_FUSED = {"width": 64, "hidden": 32, "device": "cpu", "progress": False, "learning_rate": 0.005}
# The least average precision: knn approximates a linear function less well, a decoder needs more rows.
LEARNED = {"knn": 0.75, "label-rnn": 0.7, "attention": 0.8}


@pytest.fixture(scope="module")
def data():
    """600 rows of 20 features; three labels are noisy linear functions, and the fourth never occurs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20)).astype(np.float32)
    logits = X @ rng.normal(size=(20, 4)) + rng.normal(size=(600, 4)) - [0, 1, 2, np.inf]
    return X, logits > 0


@pytest.fixture(scope="module")
def few(data):
    """150 of these rows, for tests that do not depend on how much is learned."""
    X, Y = data
    return X[:150], Y[:150]


@pytest.fixture(params=list(HEADS))
def name(request):
    return request.param


@pytest.fixture
def head(name):
    return make(name, **OPTIONS.get(name, OF_FUSED))


@pytest.fixture
def quick(head, fit_once):
    """The same with few epochs of few steps, for these tests."""
    return head.set_params(epochs=2) if "epochs" in head.get_params() else head


@pytest.fixture
def learned(name):
    return LEARNED.get(name, 0.85)


def test_the_constructor_only_stores_its_options(head):
    options = head.get_params()
    assert list(options) == sorted(inspect.signature(type(head)).parameters)
    assert all(getattr(head, name) is value for name, value in options.items())
    assert clone(head).get_params() == options


def test_fit_learns_the_labels(head, data, learned):
    X, Y = data
    assert head.fit(X[:400], Y[:400], X[400:500], Y[400:500]) is head
    scores = head.predict_proba(X[500:])
    assert scores.shape == (100, 4)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert average_precision_score(Y[500:, :3], scores[:, :3], average="macro") > learned
    assert scores[:, 3].max() < 0.1


# All heads of torch are trained by `TorchHead`, as `mlp` and `concat` are.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] * (name not in ("mlp", "concat") and isinstance(make(name), TorchHead)),
        )
        for name in HEADS
    ],
)
def test_fit_needs_no_validation_rows(head, data, learned):
    X, Y = data
    scores = head.fit(X[:500], Y[:500]).predict_proba(X[500:])
    assert average_precision_score(Y[500:, :3], scores[:, :3], average="macro") > learned


def test_labels_may_be_bool_or_integers(quick, few):
    X, Y = few
    scores = quick.fit(X[:100], Y[:100], X[100:], Y[100:]).predict_proba(X)
    again = clone(quick).fit(X[:100], Y[:100].astype(np.uint8), X[100:], Y[100:].astype(np.uint8))
    assert np.array_equal(scores, again.predict_proba(X))


def test_equal_seeds_give_equal_scores_and_the_callers_random_numbers_are_restored(quick, few):
    X, Y = few
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scores = quick.fit(X, Y).predict_proba(X)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(scores, clone(quick).fit(X, Y).predict_proba(X))


def test_a_head_loaded_from_a_file_gives_equal_scores(quick, few):
    X, Y = few
    scores = quick.fit(X, Y).predict_proba(X)
    state = load(save({name: np.ascontiguousarray(array) for name, array in quick.state().items()}))
    other = clone(quick)
    other.load_state(state)
    assert np.array_equal(other.predict_proba(X), scores)


def test_fitting_again_starts_from_scratch(quick, few):
    X, Y = few
    scores = clone(quick).fit(X, Y).predict_proba(X)
    assert np.array_equal(quick.fit(X[:, :5], ~Y[:, :2]).fit(X, Y).predict_proba(X), scores)


@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_extreme_values_are_an_error_or_give_informative_scores(quick, few, value):
    X, Y = few
    X = X.copy()
    X[::3, 4] = value
    try:
        scores = quick.fit(X[:100], Y[:100], X[100:], Y[100:]).predict_proba(X[100:])
    except DataError:
        return
    assert value < np.inf
    assert np.isfinite(scores).all()
    assert (np.ptp(scores[:, :3], axis=0) > 0).all()


def test_heads_that_learn_in_epochs_have_a_history_of_finite_losses(quick, name, few):
    X, Y = few
    history = quick.fit(X[:100], Y[:100], X[100:], Y[100:]).history_
    assert np.isfinite([(epoch.loss, epoch.validation_loss) for epoch in history]).all()
    assert bool(history) == ("epochs" in quick.get_params() or name == "gbm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forest", "gbm"])
def test_trees_are_fitted_without_importing_torch(name, filled, tmp_path):
    store = filled(60)
    code = (
        "import sys; from encode_once.classify import fit; "
        f"fit({str(store.path)!r}, {name!r}, run={str(tmp_path / 'run')!r}); sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_unknown_names_are_an_error_with_the_nearest_name():
    with pytest.raises(DataError, match="unknown head 'linaer': did you mean 'linear'"):
        make("linaer")
    with pytest.raises(DataError, match="unknown option of head 'mlp' 'hiden': did you mean 'hidden'"):
        make("mlp", hiden=(3,))
