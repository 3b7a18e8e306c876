import numpy as np
import pytest
import torch

from encode_once.classify.platt import fit_lines


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
def test_the_gradient_is_zero_for_rare_classes_with_heavy_tailed_scores(as_array):
    """With a constant limit on Newton's steps, four of these classes step to and fro for ever."""
    rng = np.random.default_rng(0)
    z = rng.lognormal(sigma=2, size=(1000, 40))
    z = (z - z.mean(0)) / z.std(0)
    labels = (rng.random((1000, 40)) < 0.02 * (1 + z.clip(0, 5))).astype(float)
    start = np.stack([np.log((labels.sum(0) + 0.5) / 1001), np.zeros(40)])
    prior, precision = np.array([[0.0], [0.0]]), np.array([[0.0], [1.0]])
    lines = np.asarray(fit_lines(*map(as_array, (z, labels, start, prior, precision))))
    error = 1 / (1 + np.exp(-lines[0] - lines[1] * z)) - labels
    np.testing.assert_allclose(error.sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((error * z).sum(0) + lines[1], 0, atol=1e-5)
