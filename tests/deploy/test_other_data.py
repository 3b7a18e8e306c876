"""`evaluate` and `predict` from Python give what the commands give."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import encode_once as eo
from encode_once.cache import DataError, EncodeOnceError, UsageError
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.runs.prevalence import decided
from encode_once.cli import main
from encode_once.deploy import PredictionWarning
from tests.conftest import files_of, write_data


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("other-data")
    write_data(root / "input", 60, test_rows=6)
    write_data(root / "other", 80)
    with (root / "other" / "train.csv").open("a") as file:
        file.write("80.png,unicorn,a unicorn\n")
    (root / "other" / "data" / "80.png").write_bytes((root / "other" / "data" / "7.png").read_bytes() + b"\0")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        eo.encode("input", ["glove-50"], "store", progress=False)
        eo.fit("store", "linear", run="runs/linear", validation="tenth")
    return root


@pytest.fixture
def place(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def command(*words):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result


def test_eval_rows_are_measured_as_by_the_command(place):
    expected = json.loads(command("evaluate", "runs/linear", "--json").stdout)
    for run in (eo.load_run("runs/linear"), "runs/linear", Path("runs/linear")):
        evaluation = eo.evaluate(run)
        assert evaluation.with_intervals() == expected
        assert not evaluation.warnings


def test_labels_follow_from_scores_that_are_corrected_for_the_prevalence(place, tmp_path):
    larger = str(tmp_path / "larger")
    few = tmp_path / "few"
    write_data(few, 10)
    for path in (few / "data").iterdir():
        path.write_bytes(path.read_bytes() + b"\1")  # in no store
    write_data(Path(larger), 120)  # half of which the run has not seen
    run = eo.load_run("runs/linear")
    before = eo.predict(run, larger, table="train")
    with pytest.warns(PredictionWarning, match="prevalence: "):
        after = eo.predict(run, larger, table="train", prevalence="em")
    expected = decided(run, before.scores, "em")
    np.testing.assert_array_equal(after.scores, expected.probabilities)
    np.testing.assert_array_equal(after.is_label, expected.labels)
    assert after[:3].prevalence == expected.prevalence
    assert before.prevalence is None

    with pytest.warns(PredictionWarning, match="prevalence: "):
        evaluation = eo.evaluate(run, larger, prevalence="em")
    result = command("evaluate", "runs/linear", "--data", larger, "--prevalence", "em", "--json")
    assert json.loads(result.stdout)["micro_f1"] == evaluation.metrics["micro_f1"]
    probabilities = run.decision.probabilities(evaluation.rows.scores)
    np.testing.assert_array_equal(evaluation.predictions, decided(run, probabilities, "em").labels)
    with pytest.raises(UsageError, match="prevalence is for other data"):
        eo.evaluate(run, prevalence="em")
    files = files_of("runs")
    for function in (eo.predict, eo.evaluate):  # noticed before anything is encoded
        with pytest.raises(DataError, match=r"^10 rows do not say how frequent classes are"):
            function(run, str(few), table="train", prevalence="em")
    assert files_of("runs") == files
    with pytest.raises(UsageError, match="did you mean 'em'"):
        eo.predict(run, larger, prevalence="EM")


def test_other_data_are_measured_as_by_the_command(place):
    before = files_of("store")
    result = command("evaluate", "runs/linear", "--data", "other", "--json")
    with pytest.warns(PredictionWarning, match="unicorn"):
        evaluation = eo.evaluate("runs/linear", Path("other"))
    content = json.loads(result.stdout)
    assert content.pop("warnings") == evaluation.warnings
    assert evaluation.with_intervals() == content
    lines = [line.removeprefix("warning: ") for line in result.stderr.splitlines()]
    assert evaluation.warnings
    assert {*evaluation.warnings} <= {*lines}
    assert files_of("store") == before


def test_a_data_set_of_the_store_is_measured_without_the_rows_that_were_fitted_on(place):
    data = eo.load("store").dataset("train")
    with pytest.warns(PredictionWarning, match="rows are left out"):
        evaluation = eo.evaluate("runs/linear", data)
    run = eo.load_run("runs/linear")
    assert {*evaluation.rows.ids} == {*run.eval.ids}
    assert evaluation.metrics["micro_f1"] == pytest.approx(eo.evaluate(run).metrics["micro_f1"])
    with pytest.raises(DataError, match="has no labels to measure against"):
        eo.evaluate(run, eo.load("store").dataset("test"))


def test_what_a_data_set_leaves_out_is_a_warning(place):
    data = eo.load("store").dataset("train", classes=["cat", "dog"])
    with pytest.warns(PredictionWarning) as issued:
        evaluation = eo.evaluate("runs/linear", replace(data, X=Matrix([])))
    lines = [str(warning.message) for warning in issued]
    assert "read for runs/linear, although the data set leaves it out: glove-50/mean" in lines
    expected = (
        "measured in the 6 classes of runs/linear, also in those that the data set leaves out: bird, boat"
    )
    assert any(line.startswith(expected) for line in lines)
    assert evaluation.classes == eo.load_run("runs/linear").record.classes


def test_labels_are_those_of_the_command(place):
    command("predict", "runs/linear", "-o", "predictions.csv", "--scores", "scores.csv")
    labels = pd.read_csv("predictions.csv", index_col=0, keep_default_na=False).Labels
    scores = pd.read_csv("scores.csv", index_col=0)
    for data in (
        "input",
        eo.load("store").dataset("test"),
        eo.load("store").dataset("test", "glove-50/mean"),
    ):
        with warnings.catch_warnings(action="error", category=PredictionWarning):
            predictions = eo.predict("runs/linear", data)
        frame = predictions.frame()
        assert frame.index.tolist() == labels.index.tolist()
        assert [{*names} for names in frame.Labels] == [{*text.split()} for text in labels]
        np.testing.assert_allclose(frame[scores.columns], scores, atol=1e-6)
    assert len(eo.predict("runs/linear", "input", table="train")) == 60


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: eo.evaluate("runs/linear", table="train"), UsageError, "table is for a folder of data"),
        (lambda: eo.evaluate("runs/linear", store="other"), UsageError, "store is for a folder of data"),
        (lambda: eo.evaluate("runs/linear", device="cpu"), UsageError, "device is for a folder of data"),
        (lambda: eo.evaluate("runs/linear", trust=True), UsageError, "trust is for a folder of data"),
        (
            lambda: eo.predict("runs/linear", eo.load("store").dataset("test"), device="cpu"),
            UsageError,
            "device is for a folder of data",
        ),
        (
            lambda: eo.predict(eo.load_run("runs/linear"), eo.load("store").dataset("test"), trust=True),
            UsageError,
            "trust is for a folder of data",
        ),
        (
            lambda: eo.evaluate("runs/linear", read=eo.ReadOptions(keep_text=True)),
            UsageError,
            "read is for a folder of data",
        ),
        (
            lambda: eo.evaluate("runs/linear", compute=eo.ComputeOptions(workers=1)),
            UsageError,
            "compute is for a folder of data",
        ),
        (
            lambda: eo.evaluate("runs/linear", "other", compute=eo.ComputeOptions(bit_depth=12)),
            UsageError,
            "bit_depth is that of the features that a run was fitted on",
        ),
        (
            lambda: eo.Predictor("runs/linear", compute=eo.ComputeOptions("float16")),
            UsageError,
            "precision is that of the features that a run was fitted on",
        ),
        (lambda: eo.predict("runs/linear", "nowhere"), EncodeOnceError, "nowhere"),
        (lambda: eo.predict("runs/linear", "input", table="tst"), UsageError, "did you mean 'test'"),
        (lambda: eo.predict("runs/nope", "input"), EncodeOnceError, "runs/nope is not a run"),
        (
            lambda: eo.predict("runs/linear", "input", weights={"clip": "x"}),
            UsageError,
            "the run's encoders are glove-50",
        ),
    ],
)
def test_what_is_wrong_is_one_clear_line(place, call, error, message):
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
