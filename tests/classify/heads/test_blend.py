import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from encode_once.classify.heads import blend
from encode_once.classify.heads.blend import blended, fit_blend


def heads_of(rng, n, c, slopes, noise):
    """Labels (n, c), and logits of heads that see the same truth, each with its own noise."""
    truth = rng.normal(size=(n, c)) - 1
    Y = rng.random((n, c)) < expit(2 * truth)
    return Y, [
        (slope * (truth + sd * rng.normal(size=(n, c)))).astype(np.float32)
        for slope, sd in zip(slopes, noise, strict=True)
    ]


def test_weights_are_those_of_scikit_learns_logistic_regression():
    Y, logits = heads_of(np.random.default_rng(0), 2000, 3, [1, 2], [0.5, 1])
    weights, intercept = fit_blend(logits, Y)
    peer = LogisticRegression(C=np.inf).fit(np.stack([z.ravel() for z in logits], 1), Y.ravel())
    np.testing.assert_allclose([*weights, intercept], [*peer.coef_[0], *peer.intercept_], atol=0.01)
    expected = peer.decision_function(np.stack([z.ravel() for z in logits], 1)).reshape(Y.shape)
    np.testing.assert_allclose(blended(logits, weights, intercept), expected, atol=0.05)


def test_a_blend_is_better_on_further_rows_than_each_head_and_any_mean():
    Y, logits = heads_of(np.random.default_rng(1), 4000, 3, [1, 1, 1], [1, 1, 2])
    fit, rest = slice(0, 2000), slice(2000, None)
    weights, intercept = fit_blend([z[fit] for z in logits], Y[fit])

    def loss(z):
        return 3 * log_loss(Y[rest].ravel(), expit(z[rest].astype(float)).ravel())

    means = [np.average(logits, axis=0, weights=w) for w in np.ndindex(5, 5, 5) if any(w)]
    chosen = blended(logits, weights, intercept)
    assert loss(chosen) < min(map(loss, means)) - 0.01
    assert blend.log_loss(chosen[rest], Y[rest]) == pytest.approx(loss(chosen), rel=1e-5)


@pytest.mark.parametrize("noise", [[0.2, 40.0], [40.0, 0.2]])
def test_a_head_that_adds_nothing_is_left_out(noise):
    Y, logits = heads_of(np.random.default_rng(2), 1000, 3, [1, 1], noise)
    weights, _ = fit_blend(logits, Y)
    assert (weights > 0).tolist() == [sd == 0.2 for sd in noise]


def test_a_head_that_misleads_has_no_negative_weight():
    Y, (good, _) = heads_of(np.random.default_rng(3), 500, 2, [1, 1], [0.3, 1])
    weights, _ = fit_blend([-good], Y)
    assert 0 < weights[0] < 0.01


def test_few_rows_that_a_head_gets_all_right_give_no_extreme_weight():
    Y = np.array([[True, False], [False, True], [True, False]])
    z = logit(np.where(Y, 0.7, 0.3)).astype(np.float32)
    weights, intercept = fit_blend([z, z], Y)
    assert weights.sum() < 3
    assert abs(intercept) < 0.1


def test_chunks_of_rows_change_nothing(monkeypatch):
    Y, logits = heads_of(np.random.default_rng(4), 300, 2, [1, 2], [0.5, 1])
    weights, intercept = fit_blend(logits, Y)
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 7)
    of_chunks, other = fit_blend(logits, Y)
    np.testing.assert_allclose([*of_chunks, other], [*weights, intercept], atol=1e-4)
