import sys

import numpy as np
import pytest

from encode_once.cache import DataError
from encode_once.classify.bench.splits import contest, synthetic_labels, unevenness
from encode_once.classify.data.splits import folds, position_draws


def test_both_are_measured_on_the_same_labels():
    labels = synthetic_labels(500, 6)
    for row, spec in zip(contest("synthetic", labels), ("stratified:0.1", "kfold:5"), strict=True):
        assert row["labels"] == "synthetic, 500 × 6"
        assert row["split"] == spec
        assert row["times as fast"] == pytest.approx(row["peer's seconds"] / row["seconds"])
        ours = [unevenness(labels, folds(spec, labels, {}, position_draws(500, seed))) for seed in range(5)]
        assert row["uneven"] == pytest.approx(1e5 * np.mean(ours))
        assert row["uneven"] <= row["peer's uneven"] + 1e5 * 0.2 / 50


def test_unevenness_is_the_distance_between_label_shares():
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], bool)  # shares 1/2 and 1/4
    assert unevenness(labels, [np.array([0, 3]), np.array([0])]) == pytest.approx(
        np.mean([0, 1 / 4, 1 / 2, 1 / 4])
    )


def test_synthetic_classes_go_from_common_to_rare():
    frequencies = synthetic_labels(50_000, 10).mean(axis=0)
    assert np.all(np.diff(frequencies) < 0)
    assert 0.3 < frequencies[0] < 0.4
    assert frequencies[-1] == pytest.approx(0.001, rel=0.3)


def test_without_the_peer_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "iterstrat.ml_stratifiers", None)
    with pytest.raises(DataError, match="pip install iterative-stratification"):
        next(contest("synthetic", synthetic_labels(100, 3)))
