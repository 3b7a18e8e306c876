"""A decision rule tuned again from Python does what the command `tune` does."""

import json
from dataclasses import replace

import numpy as np
import pytest

from encode_once.cache import DataError, UsageError
from encode_once.classify import DecisionSpec, fit, load_run, tune
from encode_once.classify.runs.retune import evaluate_kept, retune
from encode_once.classify.spec import ARGMAX

pytestmark = pytest.mark.usefixtures("fit_once")


@pytest.fixture
def fitted(filled, tmp_path):
    return fit(filled(200), "linear", run=tmp_path / "run", validation="tenth")[0]


def test_the_run_and_its_folder_get_the_rule(fitted):
    expected, predictions = retune(load_run(fitted.path), DecisionSpec("macro", at_least=1))
    for run in (fitted, fitted.path):
        evaluation = tune(run, "macro", at_least=1)
        assert evaluation.metrics == expected
        np.testing.assert_array_equal(evaluation.predictions, predictions)
        loaded = load_run(fitted.path)
        assert loaded.decision.spec == DecisionSpec("macro", at_least=1)
        assert (
            evaluate_kept(loaded).metrics
            == expected
            == json.loads((fitted.path / "metrics.json").read_text())
        )
    assert fitted.decision.spec == loaded.decision.spec
    assert "thresholds maximise macro" in (fitted.path / "README.md").read_text()
    assert tune(fitted, at_least=0).metrics["decided"] == "thresholds maximise macro"  # the rest stays
    assert tune(fitted, decide="expected-f1").metrics["objective"] == "expected-f1"


def test_an_edited_card_is_a_warning(fitted):
    (fitted.path / "README.md").write_text("mine")
    assert "written or edited by hand" in tune(fitted, "micro").warnings[0]


def test_thresholds_of_a_file_are_taken(fitted, tmp_path):
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps({"thresholds": dict.fromkeys(fitted.record.classes, 0.25)}))
    evaluation = tune(fitted, thresholds_file=file)
    np.testing.assert_array_equal(evaluation.predictions, fitted.eval.scores >= 0.25)
    assert load_run(fitted.path).decision.spec.objective == "by-hand"
    file.write_text("{}")
    with pytest.raises(DataError, match="expected a JSON object"):
        tune(fitted, thresholds_file=file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "makro"}, "did you mean 'macro'"),
        ({"at_leest": 1}, "unknown field of a decision rule 'at_leest': did you mean 'at_least'"),
        ({"objective": "by-hand"}, "come from a file"),
        (
            {"objective": "macro", "thresholds_file": "x.json"},
            "are not tuned, so that objective has no effect",
        ),
        (
            {"decide": "argmax", "at_most": 2},
            "exactly one label, .*: leave out at_least, at_most and calibrate",
        ),
    ],
)
def test_what_is_wrong_is_one_clear_line_and_nothing_changes(fitted, options, message):
    before = (fitted.path / "thresholds.json").read_bytes()
    with pytest.raises(UsageError, match=message):
        tune(fitted, **options)
    assert (fitted.path / "thresholds.json").read_bytes() == before


def test_a_run_stays_as_it_is_if_thresholds_are_not_for_its_task(fitted, tmp_path):
    fitted.spec = replace(fitted.spec, task="single", decision=ARGMAX)
    before, evaluation = fitted.decision, evaluate_kept(fitted)
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps({"thresholds": dict.fromkeys(fitted.record.classes, 0.25)}))
    with pytest.raises(UsageError, match="task single"):
        tune(fitted, thresholds_file=file)
    assert fitted.decision is before
    assert evaluate_kept(fitted) is evaluation


def test_argmax_drops_bounds_and_calibration_with_a_line(fitted):
    tune(fitted, decide="expected-f1", calibrate="isotonic", at_most=2)
    (warning,) = tune(fitted, decide="argmax").warnings
    assert warning.startswith("no longer in effect: at_most 2, calibrate isotonic; argmax gives")
    assert (
        load_run(fitted.path).decision.spec
        == fitted.decision.spec
        == DecisionSpec("samples", decide="argmax")
    )
    assert not tune(fitted, decide="argmax").warnings


def test_the_command_names_its_own_option(fitted, run):
    line = run("tune", fitted.path, "--objective", "by-hand", status=2).stderr
    assert "by-hand thresholds come from a file: --from FILE" in line
