import numpy as np
import pytest

from encode_once.classify import DecisionSpec, fit, retune
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.evaluation.tables import metrics_text
from encode_once.classify.runs.retune import evaluate_kept


@pytest.fixture
def run(filled, tmp_path):
    return fit(filled(), "linear", run=tmp_path / "run")


def test_metrics_have_a_line_per_class_and_then_the_averages(run):
    _, metrics = run
    *classes, _, about, averages, errors = metrics_text(metrics).splitlines()
    assert "threshold" not in classes[0]  # the labels of sets follow from none
    for line, row in zip(classes[1:], metrics["per_class"], strict=True):
        assert line.startswith(row["label"])
        assert f"{row['f1']:.3f}" in line
    assert about.startswith("40 rows (stratified:0.1); sets of the greatest expected mean")
    assert about.endswith("tuned on out-of-fold scores of the 360 train rows")
    assert f"micro_f1 {metrics['micro_f1']:.3f}" in averages
    assert f"ranking_loss {metrics['ranking_loss']:.3f}" in errors


def test_thresholds_stand_next_to_the_figures_that_they_give(run):
    metrics, _ = retune(run[0], DecisionSpec("macro"))
    header, *lines = metrics_text(metrics).splitlines()
    assert header.split()[:3] == ["label", "threshold", "interval"]
    for line, row in zip(lines, metrics["per_class"], strict=False):
        assert f"{row['threshold']:.3f}" in line


def test_intervals_are_a_further_line(run):
    fitted, metrics = run
    with_intervals = evaluate_kept(fitted).with_intervals()
    *first, last = metrics_text(with_intervals).splitlines()
    assert first == metrics_text(metrics).splitlines()
    low, high = with_intervals["intervals"]["micro_f1"]
    assert last.startswith(f"95 % intervals: micro_f1 {low:.3f} … {high:.3f}  macro_f1")


def test_a_missing_value_is_a_dash(run):
    _, metrics = run
    text = metrics_text(metrics | {"mAP": None, "intervals": dict.fromkeys(metrics)})
    assert text.count("mAP –") == 2


def test_classes_that_cannot_be_measured_are_named():
    labels = np.array([[1, 0, 0], [0, 0, 0]], bool)
    predictions = np.array([[1, 1, 0], [0, 0, 0]], bool)
    metrics = measure(labels, predictions, predictions.astype(float), ["cat", "dog", "emu"])
    rule = {"objective": "none", "decided": "", "split": "", "tuned_on": "", "guarantee": ""}
    for row in metrics["per_class"]:
        row |= {"threshold": None, "interval": None}
    text = metrics_text({**metrics, **rule})
    assert metrics["macro_f1"] == 1
    line = "macro F1 and mAP leave out 2 of 3 classes, without a positive row to measure on: dog, emu"
    assert line in text.splitlines()
