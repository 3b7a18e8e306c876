import numpy as np
import pytest

from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.bench.thresholds import OBJECTIVES, PEER, SHRUNK, from_curves, speed
from encode_once.classify.decisions.exact import tune
from encode_once.classify.evaluation.metrics import average_f1


def test_each_objective_is_timed_and_the_exact_peer_reaches_the_same():
    rows = speed(400, 3, repeats=1)
    scores, labels = synthetic_scores(400, 3)
    figures = {(row["way"], row["objective"]): row for row in rows}
    for objective in OBJECTIVES:
        expected = average_f1(labels, scores >= tune(scores, labels, objective), objective.split("-")[-1])
        assert figures["tune", objective]["F1"] == pytest.approx(expected)
    assert {objective for way, objective in figures if way == "tune, shrunk"} == {*SHRUNK}
    peer, ours = figures[PEER, "macro"], figures["tune", "macro"]
    assert ours["F1"] == figures["tune, torch on cpu", "macro"]["F1"] == pytest.approx(peer["F1"])
    assert ours["× peer"] == pytest.approx(peer["seconds"] / ours["seconds"])
    assert rows[-1]["way"] == "expected-f1"
    assert rows[-1]["F1"] > figures["tune", "samples"]["F1"] - 0.1


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_curves_give_thresholds_of_equal_f1(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, (60, 4)).astype(np.float32) / 20  # with ties
    labels = rng.random((60, 4)) < 0.3
    exact, curves = (
        average_f1(labels, scores >= thresholds, "macro")
        for thresholds in (tune(scores, labels, "macro"), from_curves(scores, labels))
    )
    assert curves == pytest.approx(exact)
