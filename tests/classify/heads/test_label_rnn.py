from itertools import product

import numpy as np
import pytest
import torch

from encode_once.classify.heads.label_rnn import LabelRNN

OPTIONS = {"width": 8, "hidden": 6, "dropout": 0.0, "input_dropout": 0.0, "device": "cpu", "progress": False}
SETS = np.array(list(product([False, True], repeat=4)))  # all label sets of four classes
ORDER = [2, 0, 3, 1]


def decoder(beam, classes=4, order=ORDER):
    torch.manual_seed(0)
    network = LabelRNN(**OPTIONS, beam=beam)._network(5, classes).eval()
    network.order = torch.tensor(order)
    with torch.no_grad():
        for parameter in network.parameters():  # otherwise all sets are almost equally likely
            parameter.mul_(3)
    return network


def rows(n):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(1))


def probability(network, X, labels):
    """p of a label set for a row (5,), as the product of the steps over the labels that may follow."""
    written = [rank for rank, label in enumerate(network.order.tolist()) if labels[label]]
    context = network.start(network.joined(X[None]))
    state, p, last = context, 1.0, 4
    for rank in [*written, 4]:
        state = network.cell(network.words.weight[[last]], state)
        logits = network.next(torch.cat([context, state], dim=1))[0]
        allowed = [r for r in range(5) if r == 4 or last == 4 or r > last]
        p *= float(logits[rank].exp() / logits[allowed].exp().sum())
        last = rank
    return p


@torch.no_grad()
def test_the_probabilities_of_all_sets_sum_to_1_and_the_loss_is_their_logarithm():
    network, X = decoder(16), rows(3)
    p = np.array([[probability(network, row, labels) for labels in SETS] for row in X])
    assert p.sum(axis=1) == pytest.approx(np.ones(3), rel=1e-5)
    for i, row in enumerate(X):
        for labels, p_set in zip(SETS, p[i], strict=True):
            loss = network.negative_log_likelihood(row[None], torch.tensor(labels[None]).float())
            assert float(loss) == pytest.approx(-np.log(p_set), rel=1e-4, abs=1e-5)
    picked = [5, 0, 15]
    together = network.negative_log_likelihood(X, torch.tensor(SETS[picked]).float())
    assert float(together) == pytest.approx(-np.log(p[range(3), picked]).mean(), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("beam", [16, 40])
def test_a_beam_of_all_sets_gives_the_exact_marginals(beam):
    network, X = decoder(beam), rows(8)
    for row, scores in zip(X, network(X).sigmoid().numpy(), strict=True):
        p = np.array([probability(network, row, labels) for labels in SETS])
        assert scores == pytest.approx(p @ SETS, abs=2e-5)


@torch.no_grad()
def test_a_beam_of_one_is_the_greedy_set():
    network, X = decoder(1), rows(8)
    for row, scores in zip(X, network(X).sigmoid().numpy(), strict=True):
        context = network.start(network.joined(row[None]))
        state, last, written = context, 4, []
        while True:
            state = network.cell(network.words.weight[[last]], state)
            logits = network.next(torch.cat([context, state], dim=1))[0]
            last = max((r for r in range(5) if r == 4 or last == 4 or r > last), key=lambda r: logits[r])
            if last == 4:
                break
            written.append(network.order[last])
        assert np.flatnonzero(scores > 0.5).tolist() == sorted(written)
        assert np.minimum(scores, 1 - scores).max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("classes", [1, 2, 4, 9])
def test_with_a_smaller_beam_scores_are_probabilities_that_do_not_depend_on_other_rows(beam, classes):
    network, X = decoder(beam, classes, np.random.default_rng(0).permutation(classes)), rows(6)
    scores = network(X).sigmoid()
    assert ((scores > 0) & (scores < 1)).all()
    alone = torch.cat([network(row[None]) for row in X]).sigmoid()
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def learned():
    """A head for rows that all have label 1; labels 0, 2 and 3 depend on the features."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 5)).astype(np.float32)
    Y = np.stack([X[:, 0] > 0.8, X[:, 1] > -9, X[:, 1] > 0.3, X[:, 2] > -0.5], axis=1)
    head = LabelRNN(**{**OPTIONS, "width": 32, "hidden": 16}, epochs=15, learning_rate=0.01, seed=1)
    return head.fit(X[:400], Y[:400]), X[400:], Y[400:]


def test_labels_are_written_from_frequent_to_rare(learned):
    head, *_ = learned
    classes = head.network_.classes
    assert classes[head.network_.networks[0].order].tolist() == [1, 3, 2, 0]


def test_labels_are_learned_beside_the_one_that_is_always_present(learned):
    head, X, Y = learned
    predicted = head.predict_proba(X) > 0.5
    assert predicted[:, 1].all()
    assert ((predicted == Y).mean(axis=0) > 0.9).all()
    assert (predicted == Y).all(axis=1).mean() > 0.8
