from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from encode_once.classify.data.splits import position_draws, validation_split
from encode_once.classify.heads.torch.scores import SCORES
from encode_once.classify.heads.torch.training import (
    OPTIMISERS,
    SCHEDULES,
    TrainingConfig,
    logits,
    lr_factor,
    seeded,
    train,
)
from encode_once.classify.heads.validation import with_validation

LOSS = nn.functional.binary_cross_entropy_with_logits
OPTIONS = {"batch_size": 16, "progress": False}


def bce(model, X, Y):
    return LOSS(model(X), Y)


@pytest.fixture
def rows():
    """Train and validation rows with three linear labels."""
    X = np.random.default_rng(0).normal(size=(820, 5)).astype(np.float32)
    Y = X[:, :3] > 0.5
    return X[:800], Y[:800], X[800:], Y[800:]


def weights_after(scores, rows, *, patience, epochs=10):
    """The weights after each epoch, if these are the scores, and the weights that `train` leaves."""
    with seeded(0, torch.device("cpu")):
        model = nn.Linear(5, 3)
        seen = []

        def score(_, __):
            seen.append(model.weight.detach().clone())
            return scores[len(seen) - 1]

        config = TrainingConfig(epochs=epochs, patience=patience, **OPTIONS)
        history = train([model], *rows, [0.01], config, bce, LOSS, score)
    assert [epoch.validation_score for epoch in history] == [*scores][: len(seen)]
    return seen, model.weight.detach()


@pytest.mark.parametrize(
    ("scores", "best", "epochs"),
    [
        ([1, 3, 2, 2, 2, 9], 1, 4),  # two epochs without a better score: the last is not reached
        ([1, 2, 1, 3, 3, 3], 3, 6),  # an equal score is not better
        ([5, 4, 3, 2, 1, 0], 0, 3),
    ],
)
def test_training_stops_without_improvement_and_restores_the_best_weights(rows, scores, best, epochs):
    seen, final = weights_after([*scores, *[0] * 10], rows, patience=2)
    assert len(seen) == epochs
    assert torch.equal(final, seen[best])


def test_training_ends_after_its_epochs(rows):
    seen, final = weights_after(range(10), rows, patience=2, epochs=3)
    assert len(seen) == 3
    assert torch.equal(final, seen[-1])


def test_training_up_to_an_epoch_keeps_its_weights_whatever_the_score(rows):
    def train_up_to(last_epoch, scores):
        with seeded(0, torch.device("cpu")):
            model, values = nn.Linear(5, 3), iter(scores)
            config = TrainingConfig(epochs=6, patience=1, **OPTIONS)
            history = train([model], *rows, [0.01], config, bce, LOSS, lambda *_: next(values), last_epoch)
        return model.weight, len(history)

    best_is_third, _ = train_up_to(None, [1, 2, 3, 0])
    weight, epochs = train_up_to(3, [3, 2, 1])
    assert epochs == 3
    assert torch.equal(weight, best_is_third)


def test_validation_rows_are_set_aside_unless_they_are_given(rows):
    X, Y, X_val, Y_val = rows
    for before, after in zip(rows, with_validation(*rows, seed=0), strict=True):
        assert after is before
    for incomplete in ((None, None), (X_val, None), (None, Y_val)):
        train_part, val_part = validation_split(Y, np.arange(800), 0.1, position_draws(800, 3))
        expected = X[train_part], Y[train_part], X[val_part], Y[val_part]
        for part, array in zip(with_validation(X, Y, *incomplete, seed=3), expected, strict=True):
            np.testing.assert_array_equal(part[:], array)


@pytest.mark.parametrize(("n", "size"), [(800, 16), (830, 17), (400, 8), (99, 3), (10, 2), (1, 1)])
def test_small_tables_have_smaller_batches_of_at_least_two_rows(rows, n, size):
    model = nn.Linear(5, 3)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])) if model.training else None)
    X, Y = np.tile(rows[0], (2, 1))[:n], np.tile(rows[1], (2, 1))[:n]
    train([model], X, Y, *rows[2:], [0.01], TrainingConfig(epochs=1, **OPTIONS), bce, LOSS)
    assert max(seen) == size
    assert min(seen) >= min(max(size - 1, 2), n)
    assert sum(seen) == n


def test_the_learning_rate_rises_and_then_follows_its_schedule():
    for name, falls in (
        ("cosine", (1 + np.cos(np.linspace(0, np.pi, 91))) / 2),
        ("linear", np.linspace(1, 0, 91)),
        ("constant", np.ones(91)),
    ):
        rates = np.array([lr_factor(name, step, 10, 100) for step in range(101)])
        assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
        assert rates[10:] == pytest.approx(falls)
        assert [lr_factor(name, step, 10, 10) for step in (9, 10)] == [1, 1]  # one epoch is all warm-up
        assert lr_factor(name, 0, 0, 10) == 1


PLAIN = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adadelta": torch.optim.Adadelta,
    "sgd": lambda *args, **kwargs: torch.optim.SGD(*args, momentum=0.9, nesterov=True, **kwargs),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_and_schedule_equal_a_plain_torch_loop(rows, name, schedule):
    X, Y = torch.from_numpy(rows[0][:200]), torch.from_numpy(rows[1][:200]).float()
    config = TrainingConfig(
        3,
        4,
        weight_decay=0.02,
        optimiser=name,
        schedule=schedule,
        warm_up=0.5,
        stop_by="loss",
        progress=False,
    )
    with seeded(3, torch.device("cpu")):
        model = nn.Linear(5, 3)
        plain = deepcopy(model)
        better = iter([1, 2, 3])  # so the last weights are kept
        train(
            [model],
            X.numpy(),
            rows[1][:200],
            *rows[2:],
            [0.1],
            config,
            bce,
            LOSS,
            score=lambda *_: next(better),
        )
    with seeded(3, torch.device("cpu")):
        nn.Linear(5, 3)
        optimiser = PLAIN[name](plain.parameters(), lr=0.1, weight_decay=0.02)
        for step in range(150):
            if step % 50 == 0:
                order = torch.randperm(200)
            done = (step - 25) / 125
            fall = {"cosine": (1 + np.cos(np.pi * done)) / 2, "linear": 1 - done, "constant": 1}[schedule]
            optimiser.param_groups[0]["lr"] = 0.1 * ((step + 1) / 25 if step < 25 else fall)
            batch = order[step % 50 * 4 :][:4]
            optimiser.zero_grad()
            bce(plain, X[batch], Y[batch]).backward()
            optimiser.step()
    assert torch.allclose(model.weight, plain.weight, atol=1e-5)


RATES = [0.001, 0.1, 0.01]


def network():
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 3))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_network_is_trained_as_if_it_were_alone(rows, optimiser):
    first = network()

    def trained(rates):
        models = [deepcopy(first) for _ in rates]
        config = TrainingConfig(2, 16, weight_decay=0.01, optimiser=optimiser, progress=False)
        better = iter(range(99))  # so the last weights are kept
        with seeded(1, torch.device("cpu")):
            train(models, *rows, rates, config, bce, LOSS, score=lambda *_: next(better))
        return models

    for model, rate in zip(trained(RATES), RATES, strict=True):
        (alone,) = trained([rate])
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_each_network_is_left_at_its_best_epoch(rows):
    models = [nn.Linear(5, 3) for _ in RATES]
    scores = iter([1, 2, 3, 5, 9, 2, 8, 7, 6])  # of three networks in three epochs
    seen = []

    def score(_, __):
        seen.append([model.weight.detach().clone() for model in models])
        return next(scores)

    config = TrainingConfig(3, 16, progress=False)
    history = train(models, *rows, RATES, config, bce, LOSS, score)
    assert [(epoch.epoch, epoch.model, epoch.validation_score) for epoch in history] == [
        (1, 0, 1), (1, 1, 2), (1, 2, 3), (2, 0, 5), (2, 1, 9), (2, 2, 2), (3, 0, 8), (3, 1, 7), (3, 2, 6)
    ]  # fmt: skip
    for model, epoch in enumerate([2, 1, 2]):
        assert torch.equal(models[model].weight, seen[3 * epoch + model][model])


def test_the_history_has_the_mean_loss_of_the_batches_and_the_loss_after_the_epoch(rows):
    batches = []

    def criterion(model, X, Y):
        loss = bce(model, X, Y)
        batches.append((len(X), loss.item()))
        return loss

    model = nn.Linear(5, 3)
    config = TrainingConfig(3, 300, stop_by="loss", progress=False)
    history = train([model], *rows, [0.01], config, criterion, LOSS)
    for number, epoch in enumerate(history):
        sizes, losses = np.transpose(batches[50 * number :][:50])
        assert epoch.loss == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)
    assert history[0].validation_loss > history[1].validation_loss > history[2].validation_loss
    scores = 1 / (1 + np.exp(-model(torch.from_numpy(rows[2])).detach().numpy().astype(float)))
    expected = np.mean([log_loss(rows[3][:, c], scores[:, c], labels=[False, True]) for c in range(3)])
    assert history[-1].validation_loss == pytest.approx(expected, rel=1e-5)


def test_the_warm_up_is_a_number_of_epochs(rows):
    weights = []
    for warm_up in (0.0, 2.0):
        with seeded(0, torch.device("cpu")):
            model = nn.Linear(5, 3)
            before = model.weight.detach().clone()
            config = TrainingConfig(
                1, 16, optimiser="sgd", schedule="constant", warm_up=warm_up, progress=False
            )
            train([model], rows[0][:2], rows[1][:2], *rows[2:], [0.01], config, bce, LOSS)  # one batch
            weights.append(model.weight.detach() - before)
    assert torch.allclose(weights[0], 2 * weights[1], atol=1e-7)


@pytest.mark.parametrize("stop_by", SCORES)
@pytest.mark.parametrize("rates", [[1e30], [1e30, 1e25]])
def test_training_that_diverges_scores_minus_infinity(rows, stop_by, rates):
    models = [nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 3)) for _ in rates]
    config = TrainingConfig(2, 16, optimiser="sgd", stop_by=stop_by, progress=False)
    history = train(models, *rows, rates, config, bce, LOSS)
    assert {epoch.validation_score for epoch in history} == {-np.inf}


def test_a_network_that_diverges_does_not_affect_the_others(rows):
    models = [nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 3)) for _ in range(2)]
    config = TrainingConfig(2, 16, optimiser="sgd", progress=False)
    for epoch in train(models, *rows, [1e30, 0.01], config, bce, LOSS):
        assert epoch.validation_score == -np.inf if epoch.model == 0 else 0 <= epoch.validation_score <= 1
    assert all(value.isfinite().all() for value in models[1].state_dict().values())


@pytest.mark.parametrize("n", [0, 2, 3, 10])
def test_logits_are_computed_in_evaluation_mode_chunk_by_chunk(monkeypatch, n):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 3)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    assert torch.allclose(logits(model, X), model[1](torch.from_numpy(X)), atol=1e-6)
    assert max(sizes) <= 3
    assert not model.training


def test_seeded_repeats_and_restores_the_callers_random_numbers():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    draws = []
    for _ in range(2):
        with seeded(7, torch.device("cpu")):
            draws.append(torch.rand(2))
    assert torch.equal(*draws)
    assert torch.equal(torch.rand(2), expected)
