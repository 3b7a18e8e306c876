import pytest

from encode_once.classify import fit
from encode_once.classify.evaluation.tables import metrics_text
from encode_once.classify.runs.retune import evaluate_kept


@pytest.fixture
def run(filled, tmp_path):
    return fit(filled(), "linear", run=tmp_path / "run")


def test_metrics_have_a_line_per_class_and_then_the_averages(run):
    _, metrics = run
    *classes, _, about, averages, errors = metrics_text(metrics).splitlines()
    for line, row in zip(classes[1:], metrics["per_class"], strict=True):
        assert line.startswith(row["label"])
        assert f"{row['f1']:.3f}" in line
    assert about.startswith("40 rows (stratified:0.1); thresholds maximise macro; tuned on 36 validation")
    assert f"micro_f1 {metrics['micro_f1']:.3f}" in averages
    assert f"ranking_loss {metrics['ranking_loss']:.3f}" in errors


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
