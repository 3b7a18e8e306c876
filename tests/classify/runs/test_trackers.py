"""What trackers hold is `history.csv` and `metrics.json`, read back by their own libraries."""

import csv
import json

import pytest

from encode_once.classify.runs.trackers import CURVES

EXPERIMENT = "encode-once"


@pytest.fixture
def fitted(folder, run, tmp_path, fit_once, monkeypatch):
    """A function that fits with a tracker, and returns the history and the metrics of the run."""
    folder(60)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/tracked")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder needs no server
    run("extract", "--encoder", "glove-50")

    def fit(*words):
        result = run("fit", "--head", "mlp", "--set", "epochs=3", "--run", "run", *words)
        with open("run/history.csv") as file:
            history = list(csv.DictReader(file))
        with open("run/metrics.json") as file:
            return history, json.load(file), result

    return fit


def test_tensorboard_has_the_epochs_and_the_figures(fitted, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted("--track", "tensorboard")
    history, metrics, result = fitted("--track", "tensorboard", "--overwrite")
    assert "tensorboard: run/tensorboard" in result.stderr
    assert len([*(tmp_path / "run/tensorboard").iterdir()]) == 1  # that of the replaced run is gone
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for name in CURVES:
        points = {event.step: event.value for event in events.Scalars(name)}
        assert points == pytest.approx({int(row["epoch"]): float(row[name]) for row in history})
    assert events.Scalars("eval/micro_f1")[0].value == pytest.approx(metrics["micro_f1"])


@pytest.mark.slow
def test_mlflow_has_the_epochs_the_figures_and_the_settings(fitted):
    from mlflow import MlflowClient

    history, metrics, result = fitted("--track", "mlflow", "--set", "dropout=0.25")
    client = MlflowClient()
    (tracked,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert tracked.info.run_id in result.stderr
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["head"] == "mlp"
    assert tracked.data.params["option.dropout"] == "0.25"
    assert tracked.data.metrics["eval.micro_f1"] == pytest.approx(metrics["micro_f1"])
    losses = {point.step: point.value for point in client.get_metric_history(tracked.info.run_id, "loss")}
    assert losses == pytest.approx({int(row["epoch"]): float(row["loss"]) for row in history})


def test_a_tracker_that_fails_leaves_the_run_and_one_line(fitted, tmp_path, run, monkeypatch):
    fitted()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://server")
    result = run("fit", "--head", "linear", "--run", "other", "--track", "mlflow", status=1)
    assert "other is fitted, but mlflow did not take it (" in result.stderr
    assert (tmp_path / "other" / "run.json").exists()


def test_an_unknown_tracker_and_one_that_is_not_installed_are_refused_before_anything_is_fitted(
    folder, run, monkeypatch
):
    assert "did you mean 'mlflow'?" in run("fit", "--track", "mlfow", status=2).stderr
    monkeypatch.setattr("encode_once.classify.runs.trackers.find_spec", lambda name: None)
    assert "pip install 'encode-once[mlflow]'" in run("fit", "--track", "mlflow", status=1).stderr
