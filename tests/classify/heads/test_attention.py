import numpy as np
import pytest
import torch
from torch import nn

from encode_once.classify.heads.attention import Attention

SHAPES = [(1, 3), (5, 2)]


@pytest.fixture
def rows():
    """Rows of a vector and a sequence of tokens, and the sequences' lengths; two rows lack the vector."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3 + 10)).astype(np.float32)
    lengths = [3, 5, 1, 0, 2, 0]
    for row, length in zip(X, lengths, strict=True):
        row[3 + 2 * length :] = 0
    X[4:, :3] = 0  # the fifth row has only tokens, the sixth nothing
    return X, lengths


def network(layers):
    torch.manual_seed(0)
    return Attention(shapes=SHAPES, width=8, attention_heads=2, layers=layers)._network(13, 4).eval()


@pytest.mark.parametrize("layers", [1, 2])
def test_each_sample_attends_to_its_own_tokens_only(rows, layers):
    X, lengths = rows
    net = network(layers)
    nn.init.normal_(net.nothing)
    logits = net(torch.from_numpy(X))
    for i, length in enumerate(lengths):
        tokens = [net.nothing[0]]
        if X[i, :3].any():
            tokens.append(net.projections[0](torch.from_numpy(X[i : i + 1, :3])) + net.places[0])
        sequence = torch.from_numpy(X[i, 3 : 3 + 2 * length].reshape(length, 2))
        tokens = torch.cat([*tokens, net.projections[1](sequence) + net.places[1][:length]])
        queries = net.queries
        for step in net.steps:
            attended, _ = step.attend(queries, tokens, tokens)
            queries = step.norms[0](queries + attended)
            queries = step.norms[1](queries + step.think(queries))
        expected = torch.stack([q @ w + b for q, w, b in zip(queries, net.weights, net.bias, strict=True)])
        torch.testing.assert_close(logits[i], expected, rtol=1e-4, atol=1e-5)


def test_a_sample_without_a_token_has_finite_scores_and_gradients(rows):
    X, _ = rows
    net = network(1).train()
    net(torch.from_numpy(X)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_a_token_indicates_a_label_at_any_place():
    rng = np.random.default_rng(1)
    n, length = 400, 6
    tokens = np.zeros((n, length, 3), np.float32)
    Y = rng.random((n, 2)) < 0.5
    for row, labels in zip(tokens, Y, strict=True):
        places = rng.permutation(length - 1)[:3]
        row[: length - 1, 2] = 1
        for label in (0, 1):
            row[places[label], label] = 2 * labels[label]
    head = Attention(
        shapes=[(length, 3)], width=16, dropout=0.0, input_dropout=0.0, learning_rate=0.005, epochs=8,
        device="cpu", progress=False,
    )  # fmt: skip
    X = tokens.reshape(n, -1)
    scores = head.fit(X[:300], Y[:300]).predict_proba(X[300:])
    assert ((scores > 0.5) == Y[300:]).mean() > 0.95
