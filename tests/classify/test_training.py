import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from classify.splits import inner
from classify.training import (
    SCHEDULES,
    Training,
    choose_device,
    logits,
    mean_f1,
    seeded,
    train,
    with_validation,
)

OPTIONS = {"batch_size": 16, "learning_rate": 0.01, "progress": False}


def bce(model, X, Y):
    return nn.functional.binary_cross_entropy_with_logits(model(X), Y)


@pytest.fixture
def rows():
    """Training and validation rows of one linear label in three."""
    X = np.random.default_rng(0).normal(size=(820, 5)).astype(np.float32)
    Y = X[:, :3] > 0.5
    return X[:800], Y[:800], X[800:], Y[800:]


def weights_after(scores, rows, *, patience, epochs=10):
    """The weights after each epoch, those train leaves, when the epochs reach these scores."""
    with seeded(0, torch.device("cpu")):
        model = nn.Linear(5, 3)
        seen = []

        def score(_, __):
            seen.append(model.weight.detach().clone())
            return scores[len(seen) - 1]

        how = Training(epochs=epochs, patience=patience, **OPTIONS)
        assert train([model], *rows, how, bce, score) is model
    return seen, model.weight.detach()


@pytest.mark.parametrize(
    ("scores", "best", "epochs"),
    [
        ([1, 3, 2, 2, 2, 9], 1, 4),  # two epochs without a better one: the last is never reached
        ([1, 2, 1, 3, 3, 3], 3, 6),  # an equal score is no better one
        ([5, 4, 3, 2, 1, 0], 0, 3),
    ],
)
def test_training_stops_when_it_no_longer_improves_and_restores_the_best(rows, scores, best, epochs):
    seen, final = weights_after([*scores, *[0] * 10], rows, patience=2)
    assert len(seen) == epochs
    assert torch.equal(final, seen[best])


def test_training_ends_after_its_epochs(rows):
    seen, final = weights_after(range(10), rows, patience=2, epochs=3)
    assert len(seen) == 3
    assert torch.equal(final, seen[-1])


def test_one_epoch_equals_a_plain_torch_loop(rows):
    X, Y = torch.from_numpy(rows[0]), torch.from_numpy(rows[1]).float()
    with seeded(3, torch.device("cpu")):
        model = nn.Linear(5, 3)
        train([model], *rows, Training(epochs=1, **OPTIONS), bce)
    with seeded(3, torch.device("cpu")):
        plain = nn.Linear(5, 3)
        order = torch.randperm(800)
        optimiser = torch.optim.AdamW(plain.parameters(), weight_decay=0.0)
        for step in range(50):
            optimiser.param_groups[0]["lr"] = 0.01 * (step + 1) / 50
            batch = order[16 * step : 16 * step + 16]
            p = plain(X[batch]).sigmoid()
            optimiser.zero_grad()
            (-(Y[batch] * p.log() + (1 - Y[batch]) * (1 - p).log()).mean()).backward()
            optimiser.step()
    assert torch.allclose(model.weight, plain.weight, atol=1e-6)


def test_rows_are_held_out_where_none_are_given_to_validate_on(rows):
    X, Y, X_val, Y_val = rows
    for given, kept in zip(rows, with_validation(*rows, seed=0), strict=True):
        assert kept is given
    for some in ((None, None), (X_val, None), (None, Y_val)):
        X_fit, Y_fit, X_held, Y_held = with_validation(X, Y, *some, seed=3)
        fit, held = inner(Y, np.arange(800), seed=3)
        for got, expected in ((X_fit, X[fit]), (Y_fit, Y[fit]), (X_held, X[held]), (Y_held, Y[held])):
            np.testing.assert_array_equal(got[:], expected)


@pytest.mark.parametrize(("n", "size"), [(800, 16), (830, 17), (400, 8), (99, 3), (10, 2), (1, 1)])
def test_small_tables_are_cut_into_smaller_batches_of_two_rows_at_least(rows, n, size):
    model = nn.Linear(5, 3)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])) if model.training else None)
    X, Y = np.tile(rows[0], (2, 1))[:n], np.tile(rows[1], (2, 1))[:n]
    train([model], X, Y, *rows[2:], Training(epochs=1, **OPTIONS), bce)
    assert max(seen) == size
    assert min(seen) >= min(max(size - 1, 2), n)
    assert sum(seen) == n


def test_the_rate_rises_to_its_full_height_and_falls_as_its_schedule_says():
    for name, falls in (
        ("cosine", (1 + np.cos(np.linspace(0, np.pi, 91))) / 2),
        ("linear", np.linspace(1, 0, 91)),
        ("constant", np.ones(91)),
    ):
        rates = np.array([SCHEDULES[name](step, 10, 100) for step in range(101)])
        assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
        assert rates[10:] == pytest.approx(falls)
        assert [SCHEDULES[name](step, 10, 10) for step in (9, 10)] == [1, 1]  # one epoch is all warm-up
        assert SCHEDULES[name](0, 0, 10) == 1


def test_mean_f1_leaves_out_classes_that_do_not_occur():
    rng = np.random.default_rng(0)
    Y, scores = rng.random((50, 6)) < 0.3, rng.normal(size=(50, 6))
    Y[:, 4] = False
    expected = f1_score(Y, scores >= 0, average="micro")
    expected += f1_score(Y, scores >= 0, average="macro", labels=[0, 1, 2, 3, 5])
    assert mean_f1(torch.tensor(scores), torch.tensor(Y).float()) == pytest.approx(expected / 2)
    assert mean_f1(torch.full((3, 2), -1.0), torch.zeros(3, 2)) == 0.0


@pytest.mark.parametrize("n", [0, 2, 3, 10])
def test_logits_are_computed_in_evaluation_mode_chunk_by_chunk(monkeypatch, n):
    monkeypatch.setattr("classify.matrices.CHUNK", 3)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    assert torch.allclose(logits(model, X), model[1](torch.from_numpy(X)), atol=1e-6)
    assert max(sizes) <= 3
    assert not model.training


def test_seeded_repeats_and_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    draws = []
    for _ in range(2):
        with seeded(7, torch.device("cpu")):
            draws.append(torch.rand(2))
    assert torch.equal(*draws)
    assert torch.equal(torch.rand(2), expected)


def test_auto_is_the_gpu_where_there_is_one():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
