import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss

from encode_once.classify.heads.torch.scores import SCORES, score_of


@pytest.mark.parametrize("occurring", [[0, 1, 2, 3, 5], [4]])
def test_the_scores_to_stop_by_are_scikit_learns(occurring):
    rng = np.random.default_rng(1)
    Y, scores = rng.random((50, 6)) < 0.3, rng.normal(size=(50, 6))
    Y[:, [c for c in range(6) if c not in occurring]] = False
    Y[3] = False
    scores[3] = -1  # neither labels nor predictions

    def f1(average, **options):
        return f1_score(Y, scores >= 0, average=average, zero_division=0, **options)

    expected = {
        "micro": f1("micro"),
        "macro": f1("macro", labels=occurring),
        "f1": (f1("micro") + f1("macro", labels=occurring)) / 2,
        "samples": f1("samples"),
        "mAP": np.mean([average_precision_score(Y[:, c], scores[:, c]) for c in occurring]),
        "loss": -np.mean(
            [log_loss(Y[:, c], 1 / (1 + np.exp(-scores[:, c])), labels=[False, True]) for c in range(6)]
        ),
    }
    got = {name: SCORES[name](torch.tensor(scores), torch.tensor(Y).double()) for name in SCORES}
    assert got == pytest.approx(expected)


def test_scores_are_defined_without_any_label():
    nothing = torch.full((3, 2), -1.0), torch.zeros(3, 2)
    assert {name: score(*nothing) for name, score in SCORES.items() if name != "loss"} == dict.fromkeys(
        ["f1", "micro", "macro", "samples", "mAP"], 0.0
    )


def test_the_scores_of_one_label_per_row_are_scikit_learns_of_the_highest_logit():
    rng = np.random.default_rng(1)
    truth, logits = rng.integers(0, 4, 60), rng.normal(size=(60, 4)) - 3  # no logit reaches 0
    Y, p = np.eye(4)[truth], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    accuracy = accuracy_score(truth, logits.argmax(axis=1))
    macro = f1_score(truth, logits.argmax(axis=1), average="macro")
    expected = {
        "micro": accuracy,
        "samples": accuracy,
        "macro": macro,
        "f1": (accuracy + macro) / 2,
        "mAP": average_precision_score(Y, p),
        "loss": -log_loss(truth, p),
    }
    got = {name: score_of(name, "single")(torch.tensor(logits), torch.tensor(Y)) for name in SCORES}
    assert got == pytest.approx(expected)
    assert score_of("micro", "multi") is SCORES["micro"]
