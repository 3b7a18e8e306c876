import numpy as np
import pytest
from scipy.special import erf, expit

from encode_once.classify.heads.mlp import MLP


@pytest.fixture(scope="module")
def data():
    """A label that no linear head can learn, whether two features agree in sign, and a linear one."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1_000, 4)).astype(np.float32)
    return X, np.stack([X[:, 0] * X[:, 1] > 0, X[:, 2] > 0], axis=1)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_scores_are_those_of_its_layers(hidden, data):
    X, Y = data
    head = MLP(hidden=hidden, epochs=2, device="cpu", progress=False).fit(X, Y)
    state = head.state()
    weights = [array for name, array in state.items() if name.startswith("networks")]
    layer = X[:, state["columns"]].astype(np.float64)
    for weight, bias in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
        layer = layer @ weight.T + bias
        layer = layer * (1 + erf(layer / np.sqrt(2))) / 2  # GELU (Hendrycks and Gimpel, 2016)
    expected = expit(layer @ weights[-2].T + weights[-1])
    assert head.predict_proba(X)[:, state["classes"]] == pytest.approx(expected, abs=1e-5)


def test_hidden_layers_learn_what_a_linear_head_cannot(data):
    X, Y = data
    options = {"dropout": 0.0, "input_dropout": 0.0, "epochs": 40, "learning_rate": 0.01, "patience": 40}
    correct = {}
    for hidden in ((), (32,)):
        head = MLP(hidden=hidden, **options, device="cpu", progress=False).fit(X[:800], Y[:800])
        correct[hidden] = ((head.predict_proba(X[800:]) > 0.5) == Y[800:]).mean(axis=0)
    assert correct[()][0] < 0.65
    assert correct[(32,)].min() > 0.9


def test_options_can_come_from_json(data):
    X, Y = data
    scores = MLP(hidden=(8, 8), epochs=2, device="cpu", progress=False).fit(X, Y).predict_proba(X)
    again = MLP(hidden=[8, 8], epochs=2, device="cpu", progress=False).fit(X, Y).predict_proba(X)
    assert np.array_equal(scores, again)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_layers_of_equal_width_are_residual_if_requested(batch_norm, residual, data):
    X, Y = data
    options = {"epochs": 2, "device": "cpu", "progress": False}
    head = MLP(hidden=(4, 6, 6), batch_norm=batch_norm, residual=residual, **options).fit(X, Y)
    state = {n.removeprefix("networks.0."): array.astype(float) for n, array in head.state().items()}
    layer = X[:, head.state()["columns"]].astype(float)
    for i, added in enumerate([residual, False, residual]):
        prefix = f"1.{i}.step" if added else f"1.{i}"
        step = layer @ state[f"{prefix}.0.weight"].T + state[f"{prefix}.0.bias"]
        if batch_norm:
            norm = {
                name: state[f"{prefix}.1.{name}"]
                for name in ("running_mean", "running_var", "weight", "bias")
            }
            step = (step - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
            step = step * norm["weight"] + norm["bias"]
        step = step * (1 + erf(step / np.sqrt(2))) / 2
        layer = layer + step if added else step
    expected = expit(layer @ state["2.weight"].T + state["2.bias"])
    assert head.predict_proba(X)[:, head.state()["classes"]] == pytest.approx(expected, abs=1e-5)
