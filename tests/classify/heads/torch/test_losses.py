import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from encode_once.cache.errors import UsageError
from encode_once.classify.heads.torch.losses import NAMES, check, make


@pytest.fixture(scope="module")
def batch():
    """Logits (30, 4) and their labels; the last class never occurs."""
    rng = np.random.default_rng(0)
    Y = rng.random((30, 4)) < [0.5, 0.3, 0.02, 0.0]
    Y[0, 2] = True
    return torch.tensor(rng.normal(size=(30, 4)) * 3), Y


def asymmetric(logits, Y):
    """The paper's formula, number by number: γ+ = 1, γ- = 4, m = 0.05."""
    total = 0.0
    for x, y in zip(logits.flatten().tolist(), Y.flatten().tolist(), strict=True):
        p = 1 / (1 + np.exp(-x))
        shifted = max(p - 0.05, 0)
        total -= y * (1 - p) * np.log(p) + (1 - y) * shifted**4 * np.log(1 - shifted)
    return total / Y.numel()


def weighted(logits, Y):
    positives = Y.sum(0)
    weights = ((len(Y) - positives) / positives.clamp(min=1)).clamp(max=100)
    return functional.binary_cross_entropy_with_logits(logits, Y, pos_weight=weights)


ORACLES = {
    "bce": functional.binary_cross_entropy_with_logits,
    "soft-margin": functional.multilabel_soft_margin_loss,
    "focal": lambda logits, Y: sigmoid_focal_loss(logits, Y, alpha=-1, gamma=2, reduction="mean"),
    "asymmetric": asymmetric,
    "bce+pos_weight": weighted,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_equals_its_oracle(name, batch):
    logits, Y = batch
    truth = torch.tensor(Y).double()
    assert float(make(name, Y)(logits, truth)) == pytest.approx(float(ORACLES[name](logits, truth)), rel=1e-6)


@pytest.mark.parametrize("name", ["bce", "soft-margin"])
def test_smoothing_moves_labels_towards_a_half(name, batch):
    logits, Y = batch
    smoothed = torch.tensor(np.where(Y, 0.9, 0.1))
    loss = make(name, Y, smoothing=0.2)(logits, torch.tensor(Y).double())
    assert float(loss) == pytest.approx(float(ORACLES[name](logits, smoothed)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_for_extreme_logits(name, smoothing):
    logits = torch.tensor([[-100.0, -20, 0, 20, 100]] * 2, requires_grad=True)
    Y = torch.tensor([[0.0] * 5, [1.0] * 5])
    loss = make(name, Y.bool().numpy(), smoothing)(logits, Y)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    if not smoothing and name != "asymmetric":  # its margin ignores negatives of p < 0.05
        assert (logits.grad[0] >= 0).all()
        assert (logits.grad[1] <= 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_of_one_label_per_row_the_loss_is_torchs_cross_entropy(smoothing, batch):
    logits, _ = batch
    truth = torch.arange(30) % 4
    Y = functional.one_hot(truth).double()
    loss = make("bce", Y.numpy() > 0, smoothing, "single")(logits, Y)
    assert float(loss) == pytest.approx(
        float(functional.cross_entropy(logits, truth, label_smoothing=smoothing))
    )
    for name in set(NAMES) - {"bce"}:
        with pytest.raises(UsageError, match=r"leave it out, and --task single"):
            check(name, "single")
