import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classify.metrics import measure

KEYS = ["micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall", "per_class", "n"]
CLASS_KEYS = ["label", "threshold", "precision", "recall", "f1", "ap", "support"]


@st.composite
def results(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    scores = draw(arrays(np.float32, shape, elements=st.integers(0, 8).map(lambda i: i / 8)))
    return draw(arrays(bool, shape)), scores >= 0.5, scores


def ratio(a, b):
    return a / b if b else 0.0


def f1_of(true, predicted):
    return ratio(2 * (true & predicted).sum(), true.sum() + predicted.sum())


def average_precision(true, scores):
    """The mean of the precision at each positive, over the rows whose score is at least its own."""
    return np.mean([true[scores >= score].mean() for score in scores[true]])


@settings(max_examples=200, deadline=None)
@given(result=results())
def test_every_figure_equals_its_definition(result):
    labels, predictions, scores = result
    n, c = labels.shape
    names = [f"label {k}" for k in range(c)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = measure(labels, predictions, scores, names, np.full(c, 0.5))
    f1 = [f1_of(labels[:, k], predictions[:, k]) for k in range(c)]
    support = labels.sum(axis=0)
    ap = [average_precision(labels[:, k], scores[:, k]) for k in range(c) if support[k]]
    hits = (labels & predictions).sum()
    expected = {
        "micro_f1": f1_of(labels, predictions),
        "macro_f1": np.mean(f1),
        "weighted_f1": ratio(np.dot(f1, support), support.sum()),
        "samples_f1": np.mean([f1_of(labels[i], predictions[i]) for i in range(n)]),
        "precision": ratio(hits, predictions.sum()),
        "recall": ratio(hits, labels.sum()),
        "n": n,
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)
    assert metrics["mAP"] == (pytest.approx(np.mean(ap)) if ap else None)
    for k, row in enumerate(metrics["per_class"]):
        true, predicted = labels[:, k], predictions[:, k]
        both = (true & predicted).sum()
        assert (row["label"], row["threshold"], row["support"]) == (names[k], 0.5, support[k])
        assert row["f1"] == pytest.approx(f1[k])
        assert row["precision"] == pytest.approx(ratio(both, predicted.sum()))
        assert row["recall"] == pytest.approx(ratio(both, true.sum()))
        assert (row["ap"] is None) == (support[k] == 0)
    assert list(metrics) == KEYS
    assert all(list(row) == CLASS_KEYS for row in metrics["per_class"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_rows_without_labels_or_predictions_count_as_zero_in_samples_f1():
    labels = np.array([[True, False], [False, False]])
    metrics = measure(labels, labels, labels.astype(float), ["a", "b"], np.full(2, 0.5))
    assert metrics["samples_f1"] == 0.5
    assert metrics["micro_f1"] == 1.0
