"""Thresholds and intervals of 10,000 classes fit into 6 GB."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions import bootstrap
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.shrinkage import estimate
from encode_once.classify.evaluation import intervals

PROGRAM = """
import resource, sys
import numpy as np
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import resampled

resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9, 6 * 10**9))
n, c = 3_000, 10_000
rng = np.random.default_rng(0)
labels = rng.random((n, c), np.float32) < np.geomspace(0.05, 0.0005, c, dtype=np.float32)
scores = 0.7 * rng.random((n, c), np.float32) + 0.3 * labels
if sys.argv[1] == "intervals":
    resampled(labels, scores > 0.6, scores.astype(np.float64))
else:
    DecisionSpec(sys.argv[1]).fit(scores, labels)
"""


@pytest.mark.real  # minutes
@pytest.mark.parametrize("work", ["intervals", "macro", "samples", "precision:0.9", "global-micro"])
def test_10_000_classes_fit_into_6_gb(work):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, work],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("average", ["macro", "micro", "samples"])
def test_the_size_of_the_blocks_changes_nothing(monkeypatch, average):
    scores, labels = synthetic_scores(200, 7)
    whole = estimate(scores, labels, Objective.of(average))
    monkeypatch.setattr(bootstrap, "CELLS", 1)
    by_class = estimate(scores, labels, Objective.of(average))
    np.testing.assert_allclose(by_class.thresholds, whole.thresholds, rtol=1e-12)
    np.testing.assert_allclose(by_class.intervals, whole.intervals, rtol=1e-12)
    assert by_class.loss == pytest.approx(whole.loss, rel=1e-9)
    bias = intervals._binormal_bias(np.linspace(0, 3, 20), np.arange(1, 21), np.full(20, 100))
    monkeypatch.setattr(intervals, "CLASSES", 3)
    by_block = intervals._binormal_bias(np.linspace(0, 3, 20), np.arange(1, 21), np.full(20, 100))
    np.testing.assert_allclose(by_block, bias, rtol=1e-9)
