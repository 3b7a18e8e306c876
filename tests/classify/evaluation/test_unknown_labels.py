"""Metrics and intervals of labels of which some are unknown, against scikit-learn on the known ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    coverage_error,
    f1_score,
    label_ranking_loss,
    precision_score,
    recall_score,
)

from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import resampled
from encode_once.classify.evaluation.metrics import average_f1, calibration_error, measure
from tests.conftest import examples


@st.composite
def tables(draw):
    n, c = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.choice([-1, 0, 1], (n, c), p=[0.3, 0.4, 0.3]).astype(np.int8)
    return labels, rng.random((n, c)) < 0.4, rng.integers(0, 6, (n, c)) / 5


def mean(values):
    values = [*values]
    return np.mean(values) if values else 0


@given(tables())
@examples(60)
def test_metrics_are_those_of_the_known_entries(table):
    labels, predictions, scores = table
    entries = labels >= 0
    metrics = measure(labels, predictions, scores, [str(k) for k in range(labels.shape[1])])
    flat = labels[entries], predictions[entries]
    assert metrics["micro_f1"] == pytest.approx(f1_score(*flat, zero_division=0) if len(flat[0]) else 0)
    if len(flat[0]):
        assert metrics["precision"] == pytest.approx(precision_score(*flat, zero_division=0))
        assert metrics["recall"] == pytest.approx(recall_score(*flat, zero_division=0))
        assert metrics["hamming_loss"] == pytest.approx(np.mean(flat[0] != flat[1]))
    rows = [(labels[i, of], predictions[i, of], scores[i, of]) for i, of in enumerate(entries) if of.any()]
    samples = [f1_score(truth, predicted, zero_division=0) for truth, predicted, _ in rows]
    assert metrics["samples_f1"] == pytest.approx(mean(samples))
    exact = [np.array_equal(truth, predicted) for truth, predicted, _ in rows]
    assert metrics["subset_accuracy"] == pytest.approx(mean(exact))
    # scikit-learn ranks two labels or more: a true one of a row alone has rank 1, and no pairs.
    ranked = [(truth, of_row) for truth, _, of_row in rows if len(truth) > 1]
    alone = [int(truth[0]) for truth, _, _ in rows if len(truth) == 1]
    losses = [label_ranking_loss([truth], [of_row]) for truth, of_row in ranked]
    assert metrics["ranking_loss"] == pytest.approx(mean([*losses, *(0 for _ in alone)]))
    ranks = [coverage_error([truth], [of_row]) for truth, of_row in ranked]
    assert metrics["coverage_error"] == pytest.approx(mean([*ranks, *alone]))
    f1_of_classes, precisions = [], []
    for k, row in enumerate(metrics["per_class"]):
        of_class = entries[:, k]
        truth = labels[of_class, k]
        assert row["support"] == truth.sum()
        assert row.get("known_rows", len(labels)) == of_class.sum()
        if truth.any():
            f1_of_classes.append(f1_score(truth, predictions[of_class, k], zero_division=0))
            precisions.append(average_precision_score(truth, scores[of_class, k]))
            assert row["f1"] == pytest.approx(f1_of_classes[-1])
            assert row["ap"] == pytest.approx(precisions[-1])
        if len(truth):
            order = np.argsort(-scores[of_class, k])
            expected = calibration_error(truth[order] == 1, scores[of_class, k][order])
            assert row["calibration_error"] == pytest.approx(expected)
    assert metrics["macro_f1"] == pytest.approx(mean(f1_of_classes))
    assert metrics["mAP"] == (pytest.approx(mean(precisions)) if precisions else None)
    assert metrics.get("unknown", 0) == (~entries).sum()
    for average in ("micro", "macro", "samples"):
        assert average_f1(labels, predictions, average) == pytest.approx(metrics[f"{average}_f1"])


@given(tables())
@examples(15)
def test_intervals_are_about_the_figures_and_rows_without_a_known_label_change_nothing(table):
    labels, predictions, scores = table
    if (labels < 0).all():
        return
    n, c = labels.shape
    metrics = measure(labels, predictions, scores, [str(k) for k in range(c)])
    nothing = np.full((n, c), -1, np.int8), np.ones((n, c), np.bool_), np.zeros((n, c))
    longer = [np.vstack(pair) for pair in zip((labels, predictions, scores), nothing, strict=True)]
    of_longer = measure(*longer, [str(k) for k in range(c)])
    for name, value in metrics.items():
        if isinstance(value, float):
            assert of_longer[name] == pytest.approx(value)
    draws = resampled(*longer, draws=300)
    assert draws["micro_f1"].mean() == pytest.approx(metrics["micro_f1"], abs=0.2)
    for name in ("samples_f1", "subset_accuracy", "hamming_loss", "ranking_loss"):
        assert draws[name].mean() == pytest.approx(metrics[name], abs=0.1)
    np.testing.assert_array_equal(resampled(*longer, draws=20)["mAP"], resampled(*longer, draws=20)["mAP"])


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_the_absence_of_a_single_class_counts_on_every_draw_if_a_known_row_lacks_it(absent):
    truth = np.array([1, 1, 1, 1, *[0] * absent])
    predicted = np.array([1, 1, 1, 0, *[0, 1, 0][:absent]], np.bool_)
    longer = [
        np.concatenate([of_known, of_unknown])[:, None]
        for of_known, of_unknown in ((truth.astype(np.int8), [-1, -1]), (predicted, [True, False]))
    ]
    scores = np.linspace(0.1, 0.9, len(truth) + 2)[:, None]
    groups = np.arange(len(truth) + 2)
    (W,) = intervals._weights(groups, 30, 0)
    drawn = intervals.resampled(*longer, scores, draws=30)["balanced_accuracy"]
    for weights, figure in zip(W.T[:, : len(truth)], drawn, strict=True):
        expected = [
            np.average(predicted[truth == side] == side, weights=weights[truth == side])
            for side in {*truth.tolist()}
        ]
        assert figure == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_single_class_is_measured_on_its_known_rows():
    rng = np.random.default_rng(0)
    labels, scores = rng.choice([-1, 0, 1], (60, 1)).astype(np.int8), rng.random((60, 1))
    rows = labels[:, 0] >= 0
    metrics = measure(labels, scores >= 0.5, scores, ["dog"])
    expected = measure(labels[rows] == 1, scores[rows] >= 0.5, scores[rows], ["dog"])
    assert metrics["unknown"] == (~rows).sum()
    for name, value in expected.items():
        if name not in ("n", "per_class"):
            assert metrics[name] == (pytest.approx(value) if isinstance(value, float) else value)
    draws = resampled(labels, scores >= 0.5, scores, draws=300)
    for name in ("accuracy", "balanced_accuracy"):
        assert draws[name].mean() == pytest.approx(expected[name], abs=0.05)
