import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from encode_once.classify.decisions.bootstrap import CURVES, Bins
from encode_once.classify.decisions.calibration import logits
from encode_once.classify.decisions.exact import ranked, tune
from encode_once.classify.decisions.objectives import Objective
from tests.classify.decisions.test_shrinkage import AVERAGES, f1, rows
from tests.conftest import examples


@examples(60)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 400), steps=st.integers(1, 50))
def test_bins_keep_equal_scores_together_and_count_every_row(seed, n, steps):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, steps + 1, (n, 2)) / steps, rng.random((n, 2)) < 0.4
    bins = Bins.of(ranked(scores, labels))
    np.testing.assert_array_equal(bins.positives.sum(axis=1), labels.sum(axis=0))
    np.testing.assert_array_equal(bins.negatives.sum(axis=1), (~labels).sum(axis=0))
    for c in range(2):
        for edge, z in zip(bins.edges[c], bins.z[c], strict=True):
            if 0 < edge < n:
                assert (scores[:, c] >= expit(z)).sum() == edge


@pytest.mark.parametrize("average", AVERAGES)
def test_curves_peak_at_the_optimal_thresholds_in_units_of_f(average):
    """Moving a class's threshold changes the F of all rows by as much as its curve falls."""
    scores, labels = rows(200, c=4)
    objective = Objective.of(average)
    exact = tune(scores, labels, objective)
    bins = Bins.of(ranked(scores, labels))
    values = CURVES[average](bins, exact, objective)(bins.positives, bins.negatives)  # (c, bins + 1)
    best = f1(scores, labels, exact, average)
    for c in range(4):
        reached = []
        for z in bins.z[c]:
            thresholds = exact.copy()
            thresholds[c] = expit(z)
            reached.append(f1(scores, labels, thresholds, average))
        reached, curve = np.array(reached)[1:-1], values[c, 1:-1]  # the ends predict none, or all
        edge = reached.argmax()
        assert edge == curve.argmax()
        near = reached > best - 0.02  # further off, the best thresholds of the others would change, too
        fallen = reached[edge] - reached[near]
        np.testing.assert_allclose(curve[edge] - curve[near], fallen, rtol=0.15, atol=1e-6)


@pytest.mark.parametrize("average", AVERAGES)
def test_drawn_thresholds_spread_as_those_of_resampled_rows(average):
    """Compared with the plain bootstrap, except for a class so rare that some draws have none of it."""
    scores, labels = rows(1500, c=4)
    objective = Objective.of(average)
    bins = Bins.of(ranked(scores, labels))
    curve = CURVES[average](bins, tune(scores, labels, objective), objective)
    ours, _ = bins.best(curve)
    rng = np.random.default_rng(0)
    picks = (rng.integers(len(scores), size=len(scores)) for _ in range(100))
    plain = logits(np.array([tune(scores[pick], labels[pick], objective) for pick in picks]))
    np.testing.assert_allclose(ours.mean(axis=0)[:3], plain.mean(axis=0)[:3], atol=0.35)
    np.testing.assert_allclose(ours.std(axis=0)[:3], plain.std(axis=0)[:3], rtol=0.5)
