import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from encode_once.classify.evaluation.metrics import calibration_error, measure
from tests.conftest import examples

KEYS = [
    *("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall"),
    *("subset_accuracy", "hamming_loss", "coverage_error", "ranking_loss", "calibration_error"),
    *("per_class", "n"),
]
OF_ONE_LABEL = {"accuracy", "balanced_accuracy", "roc_auc", "confusion"}
CLASS_KEYS = ["label", "precision", "recall", "f1", "ap", "support", "calibration_error"]


@st.composite
def results(draw):
    """Labels, predictions and scores with many ties, classes without positives and rows without labels."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    scores = draw(arrays(np.float32, shape, elements=st.integers(0, 8).map(lambda i: i / 8)))
    return draw(arrays(bool, shape)), scores >= 0.5, scores


def measured(labels, predictions, scores):
    c = labels.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return measure(labels, predictions, scores, [f"label {k}" for k in range(c)])


def ratio(a, b):
    return a / b if b else 0.0


def f1_of(true, predicted):
    return ratio(2 * (true & predicted).sum(), true.sum() + predicted.sum())


def average_precision(true, scores):
    """The mean of the precision at each positive, over the rows whose score is at least its own."""
    return np.mean([true[scores >= score].mean() for score in scores[true]])


def expected_calibration_error(true, scores, bins=15):
    """By definition: n / bins rows per bin, in descending order, equal scores in the bin of the first."""
    order = sorted(range(len(true)), key=lambda row: -scores[row])
    places = [[scores[row] for row in order].index(score) for score in scores]
    members = [[row for row in order if places[row] * bins // len(true) == b] for b in range(bins)]
    return sum(abs(sum(float(scores[i]) - true[i] for i in rows)) for rows in members) / len(true)


@examples(200)
@given(result=results())
def test_every_metric_equals_its_definition(result):
    labels, predictions, scores = result
    n, c = labels.shape
    metrics = measured(labels, predictions, scores)
    f1 = [f1_of(labels[:, k], predictions[:, k]) for k in range(c)]
    support = labels.sum(axis=0)
    ap = [average_precision(labels[:, k], scores[:, k]) for k in range(c) if support[k]]
    calibration = [expected_calibration_error(labels[:, k], scores[:, k]) for k in range(c)]
    hits = (labels & predictions).sum()
    expected = {
        "micro_f1": f1_of(labels, predictions),
        "macro_f1": np.mean([f1[k] for k in range(c) if support[k]] or [0]),
        "weighted_f1": ratio(np.dot(f1, support), support.sum()),
        "samples_f1": np.mean([f1_of(labels[i], predictions[i]) for i in range(n)]) if c > 1 else None,
        "precision": ratio(hits, predictions.sum()),
        "recall": ratio(hits, labels.sum()),
        "calibration_error": np.mean(calibration),
        "n": n,
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)
    assert metrics["mAP"] == (pytest.approx(np.mean(ap)) if ap else None)
    for k, row in enumerate(metrics["per_class"]):
        true, predicted = labels[:, k], predictions[:, k]
        both = (true & predicted).sum()
        assert (row["label"], row["support"]) == (f"label {k}", support[k])
        assert row["f1"] == pytest.approx(f1[k])
        assert row["precision"] == pytest.approx(ratio(both, predicted.sum()))
        assert row["recall"] == pytest.approx(ratio(both, true.sum()))
        assert row["ap"] == (
            pytest.approx(average_precision(labels[:, k], scores[:, k])) if support[k] else None
        )
        assert row["calibration_error"] == pytest.approx(calibration[k])
    assert [name for name in metrics if name not in OF_ONE_LABEL] == KEYS
    assert all(list(row) == CLASS_KEYS for row in metrics["per_class"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@examples(60)
@given(result=results().filter(lambda result: result[0].shape[1] > 1))
def test_every_metric_equals_scikit_learns(result):
    """With two classes or more, because scikit-learn takes a single column for a binary problem."""
    labels, predictions, scores = result
    metrics = measured(labels, predictions, scores)
    for average in ("micro", "macro", "weighted", "samples"):
        measured_classes = {"labels": np.flatnonzero(labels.any(axis=0))} if average == "macro" else {}
        if average == "macro" and not labels.any():
            assert metrics["macro_f1"] == 0
            continue
        expected = sklearn.f1_score(labels, predictions, average=average, zero_division=0, **measured_classes)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    settings = {"average": None, "zero_division": 0}
    by_class = np.transpose(sklearn.precision_recall_fscore_support(labels, predictions, **settings))
    for row, figures in zip(metrics["per_class"], by_class, strict=True):
        assert [row[name] for name in ("precision", "recall", "f1", "support")] == pytest.approx(figures)
    present = labels.any(axis=0)
    if present.any():
        expected = sklearn.average_precision_score(labels[:, present], scores[:, present], average="macro")
        assert metrics["mAP"] == pytest.approx(expected)
    assert metrics["subset_accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predictions))
    assert metrics["hamming_loss"] == pytest.approx(sklearn.hamming_loss(labels, predictions))
    assert metrics["coverage_error"] == pytest.approx(sklearn.coverage_error(labels, scores))
    assert metrics["ranking_loss"] == pytest.approx(sklearn.label_ranking_loss(labels, scores))


def matrix_of(metrics, names):
    """The confusion matrix that a run's cells stand for."""
    counts = {(cell["true"], cell["predicted"]): cell["rows"] for cell in metrics["confusion"]}
    assert all(counts.values())
    return [[counts.get((true, predicted), 0) for predicted in names] for true in names]


@examples(60)
@given(st.data(), st.integers(2, 5), st.integers(1, 20))
def test_the_metrics_of_one_label_per_row_equal_scikit_learns(data, c, n):
    """Also where a class has no rows, or is never predicted."""
    classes = st.lists(st.integers(0, c - 1), min_size=n, max_size=n)
    truth, predicted = np.array(data.draw(classes)), np.array(data.draw(classes))
    labels, predictions = (np.eye(c, dtype=bool)[rows] for rows in (truth, predicted))
    metrics = measured(labels, predictions, predictions.astype(np.float32))
    assert "roc_auc" not in metrics
    accuracy = pytest.approx(sklearn.accuracy_score(truth, predicted))
    same = ("accuracy", "micro_f1", "samples_f1", "precision", "recall", "subset_accuracy")
    assert {name: metrics[name] for name in same} == dict.fromkeys(same, accuracy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and do not occur
        assert metrics["balanced_accuracy"] == pytest.approx(
            sklearn.balanced_accuracy_score(truth, predicted)
        )
    names = [row["label"] for row in metrics["per_class"]]
    expected = sklearn.confusion_matrix(truth, predicted, labels=range(c)).tolist()
    assert matrix_of(metrics, names) == expected
    counts = [cell["rows"] for cell in metrics["confusion"]]
    assert counts == sorted(counts, reverse=True)


@examples(60)
@given(result=results().filter(lambda result: result[0].shape[1] == 1))
def test_the_metrics_of_one_class_equal_scikit_learns(result):
    labels, predictions, scores = result
    metrics = measured(labels, predictions, scores)
    truth, predicted = labels[:, 0], predictions[:, 0]
    assert metrics["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics["balanced_accuracy"] == pytest.approx(
            sklearn.balanced_accuracy_score(truth, predicted)
        )
    both = 0 < truth.sum() < len(truth)
    assert metrics["roc_auc"] == (pytest.approx(sklearn.roc_auc_score(truth, scores)) if both else None)
    matrix = sklearn.confusion_matrix(truth, predicted, labels=[False, True])
    assert matrix_of(metrics, ["not label 0", "label 0"]) == matrix.tolist()
    several = ("samples_f1", "coverage_error", "ranking_loss")
    assert {name: metrics[name] for name in several} == dict.fromkeys(several)


def test_rows_of_several_labels_have_no_accuracy_and_no_confusion_matrix():
    single, double = np.eye(3, dtype=bool), np.eye(3, dtype=bool) | [True, False, False]
    none = single & [[True], [True], [False]]
    for labels, predictions in ((single, double), (double, single), (none, single)):
        assert not OF_ONE_LABEL & {*measured(labels, predictions, single.astype(np.float32))}


def random_rows(n=300, c=5, seed=0):
    """Rows with true and false labels each, classes with positives, and few ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, c)) < np.linspace(0.1, 0.6, c)
    labels = labels[labels.any(axis=1) & ~labels.all(axis=1)]
    scores = (0.4 * labels + 0.6 * rng.random(labels.shape)).astype(np.float32)
    return labels, scores >= 0.5, scores


def test_metrics_equal_those_of_torchmetrics():
    from torchmetrics.functional import classification as torchmetrics  # takes seconds to import

    labels, predictions, scores = random_rows()
    metrics = measured(labels, predictions, scores)
    truth, tensor, predicted = (torch.from_numpy(table) for table in (labels, scores, predictions))
    for average in ("micro", "macro", "weighted"):
        expected = torchmetrics.multilabel_f1_score(predicted.int(), truth.int(), 5, average=average)
        assert metrics[f"{average}_f1"] == pytest.approx(expected.item(), abs=1e-6)
    of_scores = {
        "mAP": torchmetrics.multilabel_average_precision,
        "coverage_error": torchmetrics.multilabel_coverage_error,
        "ranking_loss": torchmetrics.multilabel_ranking_loss,
        "subset_accuracy": torchmetrics.multilabel_exact_match,
        "hamming_loss": torchmetrics.multilabel_hamming_distance,
    }
    for name, function in of_scores.items():
        expected = function(tensor, truth.int(), 5)
        assert metrics[name] == pytest.approx(expected.item(), abs=1e-5), name


def test_the_calibration_error_is_that_of_scikit_learns_curve_over_quantiles():
    labels, predictions, scores = (table[:150] for table in random_rows())  # 10 rows per bin, no equal scores
    for k, row in enumerate(measured(labels, predictions, scores)["per_class"]):
        truth, mean_scores = calibration_curve(labels[:, k], scores[:, k], n_bins=15, strategy="quantile")
        assert row["calibration_error"] == pytest.approx(np.abs(truth - mean_scores).mean())


def test_calibrated_scores_have_almost_no_calibration_error():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(200_000))
    labels = rng.random(200_000) < scores
    assert calibration_error(labels, scores) < 0.01
    assert calibration_error(labels, scores**2) == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_no_metric_depends_on_the_order_of_the_rows():
    labels, predictions, scores = random_rows()
    scores = scores.round(1)
    order = np.random.default_rng(1).permutation(len(labels))
    first, second = (measured(labels[rows], predictions[rows], scores[rows]) for rows in (slice(None), order))
    for row, same in zip([first, *first["per_class"]], [second, *second["per_class"]], strict=True):
        assert {name: row[name] for name in row if name != "per_class"} == pytest.approx(
            {name: same[name] for name in same if name != "per_class"}
        )


def test_rows_without_labels_or_predictions_count_as_zero_in_samples_f1():
    labels = np.array([[True, False], [False, False]])
    metrics = measure(labels, labels, labels.astype(float), ["a", "b"])
    assert metrics["samples_f1"] == 0.5
    assert metrics["micro_f1"] == metrics["subset_accuracy"] == 1.0
