import time
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import ALL, CLASS_F1, METRICS, differences, interval, resampled


@pytest.fixture
def held_out():
    """A function that makes labels, predictions and scores of rows; scores are rounded, so some are equal."""

    def make(n=120, c=6, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.random((n, c)) < np.linspace(0.02, 0.6, c)
        scores = (0.4 * labels + 0.6 * rng.random((n, c))).round(2).astype(np.float32)
        return labels, scores >= 0.5, scores

    return make


def drawn_rows(n, draws, seed=0):
    """The rows of each draw, as often as they were drawn."""
    W = np.concatenate(list(intervals._drawn(n, draws, seed)), axis=1)
    return [np.repeat(np.arange(n), times.astype(int)) for times in W.T]


def test_every_figure_is_that_of_scikit_learn_on_the_rows_drawn(held_out, monkeypatch):
    monkeypatch.setattr(intervals, "TOGETHER", 16)
    labels, predictions, scores = held_out()
    found = resampled(labels, predictions, scores, draws=40)
    lacking = 0
    for draw, rows in enumerate(drawn_rows(120, 40)):
        assert len(rows) == 120
        truth = labels[rows]
        predicted, settings = predictions[rows], {"zero_division": 0}
        expected = {
            f"{name}_f1": sklearn.f1_score(truth, predicted, average=name, **settings)
            for name in ("micro", "macro", "weighted", "samples")
        } | {
            "precision": sklearn.precision_score(truth, predicted, average="micro", **settings),
            "recall": sklearn.recall_score(truth, predicted, average="micro", **settings),
            "subset_accuracy": sklearn.accuracy_score(truth, predicted),
            "hamming_loss": sklearn.hamming_loss(truth, predicted),
            "coverage_error": sklearn.coverage_error(truth, scores[rows]),
            "ranking_loss": sklearn.label_ranking_loss(truth, scores[rows]),
        }
        assert {*expected, "mAP"} == {*ALL}
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        by_class = sklearn.f1_score(truth, predicted, average=None, **settings)
        assert found[CLASS_F1][draw] == pytest.approx(by_class)
        there = truth.any(axis=0)
        lacking += not there.all()
        expected = sklearn.average_precision_score(truth[:, there], scores[rows][:, there], average="macro")
        assert found["mAP"][draw] == pytest.approx(expected, abs=1e-6)
    assert lacking, "the test has no draw in which a class lacks positives"


def test_the_same_rows_and_seed_are_drawn_alike(held_out):
    first, again, other = (resampled(*held_out(), draws=50, seed=seed) for seed in (0, 0, 1))
    assert {*METRICS} < {*ALL}
    for name in first:
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_without_any_positive_there_is_no_average_precision():
    nothing = np.zeros((20, 3), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = resampled(nothing, nothing, np.zeros((20, 3), np.float32), draws=10)
        assert interval(found["mAP"]) is None
    assert interval(found["micro_f1"]) == [0, 0]


def test_an_interval_is_the_middle_95_percent():
    assert interval(np.arange(1001.0)) == pytest.approx([25, 975])
    assert interval(np.array([np.nan, 2, 2])) == [2, 2]


def test_it_holds_the_truth_as_often_as_it_says(held_out):
    """Of models whose true F1 is known, 95 % of the intervals hold it: here at least 90 % of 200."""
    labels, predictions, scores = held_out(40_000, 4)
    truth = sklearn.f1_score(labels, predictions, average="micro")
    held = 0
    for part in range(200):
        rows = slice(200 * part, 200 * part + 200)
        low, high = interval(
            resampled(labels[rows], predictions[rows], scores[rows], draws=200, seed=part)["micro_f1"]
        )
        held += low <= truth <= high
    assert held >= 180


def test_a_paired_difference_is_narrower_than_its_parts(held_out):
    labels, predictions, scores = held_out(300)
    worse = predictions.copy()
    worse[:10] = False
    ours, theirs = resampled(labels, predictions, scores), resampled(labels, worse, scores)
    low, high = interval(differences(ours, theirs)["micro_f1"])
    assert 0 < low < high
    assert high - low < np.ptp(interval(ours["micro_f1"])) / 2
    for values in differences(ours, ours).values():
        assert not values.any()


def test_a_class_that_is_better_shows_in_the_differences_of_that_class_alone(held_out):
    labels, predictions, scores = held_out(300)
    better = predictions.copy()
    better[:, 4] = labels[:, 4]
    ours, theirs = resampled(labels, better, scores), resampled(labels, predictions, scores)
    found = differences(ours, theirs)[CLASS_F1]
    assert found.shape == (1000, 6)
    assert interval(found[:, 4])[0] > 0
    assert not np.delete(found, 4, axis=1).any()


def test_a_thousand_draws_of_a_thousand_rows_take_well_under_a_second(held_out):
    rows = held_out(1000, 19)
    resampled(*rows, draws=10)
    started = time.process_time()
    resampled(*rows)
    assert time.process_time() - started < 1.5  # 0.3 s where nothing else runs
