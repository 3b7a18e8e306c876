import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.summary import summarise, text
from tests.classify.report.samples import make_run, scored


def test_a_summary_has_what_the_run_reaches_and_is_json():
    run = make_run(decision=DecisionSpec("micro"))
    summary, (evidence,) = summarise([Evidence.of(run)])
    evaluation = evidence.evaluation
    (content,) = summary["runs"]
    assert summary["comparison"] is None
    assert json.loads(json.dumps(content)) == content
    predictions = run.eval.scores.astype(np.float64) >= run.decision.thresholds
    np.testing.assert_array_equal(evaluation.predictions, predictions)
    expected = f1_score(run.eval.labels, predictions, average="micro")
    assert content["metrics"]["micro_f1"] == pytest.approx(expected)
    assert content["rules"][0]["micro_f1"] == pytest.approx(expected)
    low, high = content["metrics"]["intervals"]["micro_f1"]
    assert low < expected < high
    assert [row["threshold"] for row in content["thresholds"].values()] == run.decision.thresholds.tolist()


def test_thresholds_of_calibrated_scores_are_not_shown_as_those_of_plain_ones():
    summary, _ = summarise([Evidence.of(make_run(decision=DecisionSpec("micro", calibrate="sigmoid")))])
    assert summary["runs"][0]["thresholds"] == {}


def test_pairs_count_the_rows_with_both_classes():
    run = make_run(decision=DecisionSpec("at:0.5"))
    summary, _ = summarise([Evidence.of(run)])
    labels, predictions = run.eval.labels, run.eval.scores >= 0.5
    counts = {
        tuple(pair["classes"]): (pair["true"], pair["predicted"]) for pair in summary["runs"][0]["pairs"]
    }
    for (i, first), (j, second) in [((0, "a"), (1, "b")), ((0, "a"), (2, "c")), ((1, "b"), (2, "c"))]:
        both = [int((table[:, i] & table[:, j]).sum()) for table in (labels, predictions)]
        assert counts[first, second] == tuple(both)
    differences = [abs(pair["true"] - pair["predicted"]) for pair in summary["runs"][0]["pairs"]]
    assert differences == sorted(differences, reverse=True)


def test_runs_are_compared_on_the_same_rows_and_the_best_comes_first():
    worse = scored(1)
    worse.scores[:] = 0.5 * worse.scores + 0.25 * np.random.default_rng(0).random(worse.scores.shape)
    runs = [make_run(evaluated=worse, path="worse"), make_run(path="better")]
    summary, evidences = summarise([*map(Evidence.of, runs)])
    assert [run["run"] for run in summary["runs"]] == ["better", "worse"]
    assert [evidence.evaluation.run for evidence in evidences] == ["better", "worse"]
    (difference,) = summary["comparison"]["differences"]
    assert (difference["run"], difference["to"]) == ("better", "worse")  # from the first that was named
    assert difference["metrics"]["micro_f1"]["difference"] > 0


def test_runs_measured_on_different_rows_are_not_compared_which_is_reported():
    summary, _ = summarise(
        [*map(Evidence.of, [make_run(path="one"), make_run(evaluated=scored(7), path="other")])]
    )
    assert summary["comparison"] is None
    assert "not comparable" in summary["notes"][0]
    assert "only 0 evaluated rows are in all runs" in summary["notes"][0]


def test_the_text_has_a_line_for_each_rule_with_split_and_rows_and_one_for_each_check():
    summary, _ = summarise([Evidence.of(make_run(tune_on="eval", split="tail:400"))])
    lines = text(summary).splitlines()
    assert lines[0].split() == [
        "run",
        "head",
        "features",
        "split",
        "n",
        "rule",
        "micro_f1",
        "macro_f1",
        "samples_f1",
    ]
    assert len(lines) == 1 + 6 + 1
    assert all("tail:400  400" in line for line in lines[1:7])
    assert lines[-1].startswith("run: EO009: ")


def test_a_run_named_after_a_recipe_has_the_figures_of_its_report():
    run = make_run(path="runs/recipes/tfidf-linear-500")
    (content,) = summarise([Evidence.of(run)])[0]["runs"]
    assert content["reported"]["micro_f1"] == 0.7989
    assert summarise([Evidence.of(make_run(path="runs/mine"))])[0]["runs"][0]["reported"] == {}
