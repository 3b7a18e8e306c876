import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from torch import nn

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify.data.matrix import column_order
from encode_once.classify.heads import HEADS, make
from encode_once.classify.heads.fused import Fused
from encode_once.classify.heads.torch import head as head_module
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.heads.torch.losses import NAMES
from encode_once.classify.heads.torch.training import train

QUICK = {"epochs": 2, "device": "cpu", "progress": False}
SMALL = {"mlp": {"hidden": (8,)}, "attention": {"width": 8}}
TORCH = [name for name in HEADS if isinstance(make(name), TorchHead)]


def small(name, **options):
    return make(name, **QUICK, **SMALL.get(name, {"width": 8, "hidden": 4}), **options)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    return X, X[:, :3] + rng.normal(size=(300, 3)) > [0, 1, 2]


@pytest.mark.parametrize("name", [name for name in TORCH if name != "label-rnn"])
def test_training_starts_from_the_class_frequencies(name, data):
    X, Y = data
    head = small(name, learning_rate=0.0, batch_size=300).fit(X, Y, X, Y)
    frequencies = (Y.sum(0) + 0.5) / 301
    *_, last = (
        p for n, p in head.network_.networks[0].named_parameters() if n == "bias" or n.endswith(".bias")
    )
    bias = head.network_.networks[0].bias if name == "attention" else last
    np.testing.assert_allclose(bias.detach(), logit(frequencies), rtol=1e-5)


def test_the_options_loss_and_smoothing_are_used(data):
    X, Y = data
    scores = {}
    for name in NAMES:
        scores[name] = small("concat", loss=name).fit(X, Y).predict_proba(X)
        smooth = small("concat", loss=name, label_smoothing=0.3).fit(X, Y).predict_proba(X)
        assert not np.allclose(smooth, scores[name])
    assert scores["bce+pos_weight"][:, 2].mean() > scores["bce"][:, 2].mean()  # a rare label
    for name in set(NAMES) - {"bce", "soft-margin"}:  # these two are equal
        assert not np.allclose(scores[name], scores["bce"], atol=1e-3)
    np.testing.assert_allclose(scores["soft-margin"], scores["bce"], atol=1e-3)


@pytest.mark.parametrize("name", ["mlp", "attention", "label-rnn"])
def test_of_several_learning_rates_the_best_on_the_validation_rows_is_kept(name, data):
    X, Y = data
    parts = X[:200], Y[:200], X[200:], Y[200:]
    head = small(name, learning_rate=[1e-9, 0.02], stop_by="mAP").fit(*parts)
    assert head.get_params()["learning_rate"] == [1e-9, 0.02]
    untrained = small(name, learning_rate=1e-9).fit(*parts)
    assert not np.allclose(head.predict_proba(X), untrained.predict_proba(X), atol=1e-3)
    again = small(name, learning_rate=[1e-9, 0.02], stop_by="mAP").fit(*parts)
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    other = small(name)
    other.load_state(head.state())
    np.testing.assert_array_equal(other.predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "bec"}, "unknown loss 'bec': did you mean 'bce'"),
        ({"optimiser": "sdg"}, "unknown optimiser 'sdg': did you mean 'sgd'"),
        ({"schedule": "cosinus"}, "unknown schedule 'cosinus': did you mean 'cosine'"),
        ({"stop_by": "makro"}, "unknown stop_by 'makro': did you mean 'macro'"),
        ({"reader": "bigur"}, "unknown reader 'bigur': did you mean 'bigru'"),
        ({"fusion": "mutn"}, "unknown fusion 'mutn': did you mean 'mutan'"),
    ],
)
def test_unknown_names_are_an_error_of_fit(options, message, data):
    with pytest.raises(UsageError, match=message):
        small("concat", **options).fit(*data)


@pytest.mark.parametrize("name", TORCH)
def test_divergence_at_a_high_learning_rate_is_an_error(name, data):
    with pytest.raises(DataError, match="training diverged at learning rate 1e"):
        small(name, optimiser="sgd", warm_up=0.0).set_params(learning_rate=1e38).fit(*data)


def test_the_history_has_every_rate_and_member_and_the_scores_of_the_kept_networks(data):
    X, Y = data
    head = small("mlp", members=2, learning_rate=[1e-9, 0.02], stop_by="loss")
    history = head.fit(X[:200], Y[:200], X[200:], Y[200:]).history_
    assert [(epoch.epoch, epoch.model) for epoch in history] == [(e, m) for e in (1, 2) for m in range(4)]
    kept = [max(e.validation_score for e in history if e.model == model) for model in (2, 3)]
    with torch.no_grad():
        columns, classes = head.network_.columns, head.network_.classes
        logits = [network(torch.from_numpy(X[200:])[:, columns]) for network in head.network_.networks]
    truth = torch.from_numpy(Y[200:])[:, classes].float()
    losses = [nn.functional.binary_cross_entropy_with_logits(z, truth) for z in logits]
    assert kept == pytest.approx([-float(loss) for loss in losses], rel=1e-5)


@pytest.mark.parametrize("name", ["mlp", "label-rnn"])
def test_the_logits_of_members_are_averaged(name, data):
    X, Y = (part[:80] for part in data)
    head = small(name, members=3, learning_rate=[1e-9, 0.01]).fit(X, Y)
    assert len(head.network_.networks) == 3
    with torch.no_grad():
        rows = torch.from_numpy(X)[:, head.network_.columns]
        each = torch.stack([network(rows) for network in head.network_.networks])
    assert not torch.allclose(each[0], each[1])
    scores = head.predict_proba(X)[:, head.network_.classes]
    np.testing.assert_allclose(scores, each.mean(0).sigmoid(), atol=1e-6)


def test_layers_and_batch_norm_are_between_the_fusion_and_the_output(data):
    X, Y = data
    head = small("concat", hidden_layers=[5, 4], batch_norm=True, shapes=[(1, 2), (1, 4)]).fit(X, Y)
    state = {n.removeprefix("networks.0."): value.astype(float) for n, value in head.state().items()}

    def gelu(x):
        return nn.functional.gelu(torch.tensor(x)).numpy()

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    blocks = np.split(X[:, head.network_.columns], [2], axis=1)
    joined = [gelu(linear(x, f"0.readers.{i}.project.0")) for i, x in enumerate(blocks)]
    hidden = np.concatenate(joined, axis=1)
    hidden = (hidden - state["1.running_mean"]) / np.sqrt(state["1.running_var"] + 1e-5)
    hidden = hidden * state["1.weight"] + state["1.bias"]
    hidden = gelu(linear(gelu(linear(hidden, "2.0.0")), "2.1.0"))
    scores = head.predict_proba(X)[:, head.network_.classes]
    np.testing.assert_allclose(scores, expit(linear(hidden, "3")), atol=1e-5)


@pytest.mark.parametrize("name", ["columns", "classes"])
def test_a_state_whose_columns_or_classes_are_no_order_is_an_error(name, data):
    state = small("mlp").fit(*data).state()
    with pytest.raises(ValueError, match="no order"):
        small("mlp").load_state({**state, name: 0 * state[name]})


def test_columns_keep_to_their_feature_and_all_places_of_a_sequence_are_ordered_alike():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2 + 3 * 4)).astype(np.float32)
    columns = column_order(X, [(1, 2), (3, 4)])
    assert sorted(columns[:2]) == [0, 1]
    places = columns[2:].reshape(3, 4) - 2
    assert (places // 4 == np.arange(3)[:, None]).all()
    assert (places % 4 == places[0] % 4).all()
    assert sorted(places[0]) == [0, 1, 2, 3]
    widths = rng.permutation(4)
    moved = np.concatenate([X[:, :2], X[:, 2:].reshape(50, 3, 4)[:, :, widths].reshape(50, 12)], axis=1)
    np.testing.assert_array_equal(moved[:, column_order(moved, [(1, 2), (3, 4)])], X[:, columns])


@pytest.mark.parametrize("fusion", ["concat", "mutan", "gated"])
def test_vectors_can_stay_unprojected(fusion, data):
    X, Y = data
    head = Fused(shapes=[(1, 2), (1, 4)], fusion=fusion, width=0, **QUICK).fit(X, Y)
    assert head.network_.networks[0][0].width == (6 if fusion == "concat" else 256)
    assert not any("readers" in name for name in head.state())
    assert head.predict_proba(X).shape == (300, 3)


def test_without_validation_rows_new_networks_learn_from_all_rows(data, monkeypatch):
    X, Y = data
    calls = []

    def recorded(networks, rows, *rest):
        history = train(networks, rows, *rest)
        calls.append((len(rows), rest[-1], history))
        return history

    monkeypatch.setattr(head_module, "train", recorded)
    head = make("mlp", hidden=(8,), epochs=4, device="cpu", progress=False).fit(X, Y)
    (part, no_limit, history), (rows, epochs, _) = calls
    assert (part, no_limit, rows) == (round(0.9 * len(X)), None, len(X))
    assert epochs == 1 + np.argmax([epoch.validation_score for epoch in history])
    assert list(head.history_) == history
