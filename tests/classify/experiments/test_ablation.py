import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once import cli
from encode_once.cache import DataError
from encode_once.classify import ablate, fit, load_run
from encode_once.classify.data.rows import content_order
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS, interval, resampled
from encode_once.classify.experiments import ablation, trial
from encode_once.classify.experiments.ablation import variants
from encode_once.classify.experiments.tasks import run_all
from encode_once.classify.heads.torch.losses import NAMES
from encode_once.classify.spec import FitSpec

pytestmark = pytest.mark.usefixtures("fit_once")
QUICK = {"epochs": 2, "hidden": [16], "progress": False, "device": "cpu", "loss": "focal"}


def draws_of(run):
    predictions, order = run.decision(run.eval.scores), content_order(run.eval.keys, run.eval.ids)
    return resampled(run.eval.labels, predictions, run.eval.scores, order=order)


def test_each_feature_option_and_loss_is_changed_alone(filled, tmp_path):
    spec = FitSpec("mlp", options=QUICK, split="tail:100", decision="micro", validation="tenth")
    run, _ = fit(filled(), spec, run=tmp_path / "run")
    rows = ablate(run)
    others = [f"loss={name}" for name in NAMES if name != "focal"]
    assert [row["changed"] for row in rows] == [
        "nothing",
        "without e/image",
        "without e/text",
        "epochs=12, not 2",
        "hidden=[1024], not [16]",
        *others,
    ]
    whole = draws_of(run)
    for row in rows[1:]:
        other = load_run(row["run"])
        assert other.eval.ids == run.eval.ids
        assert (other.spec.split, other.decision.spec) == ("tail:100", DecisionSpec("micro"))
        for name in METRICS:
            assert row[f"{name}_change"] == pytest.approx(row[name] - rows[0][name])
            assert row[f"{name}_change_interval"] == interval(
                draws_of(other)[name] - whole[name], row[f"{name}_change"]
            )
    assert rows[0]["micro_f1_change"] is None
    assert load_run(rows[2]["run"]).record.features.keys() == {"e/image"}
    assert "hidden" not in load_run(rows[4]["run"]).spec.options
    assert load_run(rows[5]["run"]).spec.options == {**run.spec.options, "loss": "bce"}
    folder = tmp_path / "run" / "ablation"
    assert json.loads((folder / "ablation.json").read_text()) == rows
    assert "| without e/image |" in (folder / "ablation.md").read_text()


def test_existing_variants_are_not_fitted_again(filled, tmp_path, monkeypatch):
    run, _ = fit(filled(), "linear", options={"tolerance": 0.01}, run=tmp_path / "run")
    rows = ablate(run, tmp_path / "elsewhere")
    assert [row["changed"] for row in rows[3:]] == ["tolerance=0.0001, not 0.01"]
    monkeypatch.setattr(trial, "fit", None)
    assert ablate(load_run(run.path), tmp_path / "elsewhere") == rows


def test_a_run_of_other_code_has_no_ablation(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    run.record = replace(run.record, code="other")
    with pytest.raises(DataError, match=r"run was fitted by another version of this program.*fit it again"):
        ablate(run)


def test_variants_of_a_run_tuned_on_its_eval_rows_are_too_and_the_table_says_so(filled, tmp_path):
    run, _ = fit(filled(), "linear", tune_on="eval", run=tmp_path / "run")
    rows = ablate(run)
    assert {load_run(row["run"]).spec.tune_on for row in rows} == {"eval"}
    assert "on eval: the 40 rows it is measured on" in (run.path / "ablation" / "ablation.md").read_text()


def test_a_single_feature_is_not_dropped_and_a_head_without_losses_keeps_its_own():
    options = {"epochs": 12, "device": "cpu", "progress": False, "seed": 3}
    assert list(variants(FitSpec("label-rnn", ["e/text"], options))) == []


def test_a_table_that_has_changed_is_an_error(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", split="tail:100", run=tmp_path / "run")
    table = store.tables()[0]
    table.labels = [*table.labels[:-1], ("cat", "dog", "9", "10", "traffic light")]
    store.save(table)
    with pytest.raises(DataError, match="is not what it was when"):
        ablate(run)


def test_a_file_of_prompts_that_a_run_names_is_opened_only_with_trust(filled, tmp_path):
    store, prompts = filled(), tmp_path / "prompts.npy"
    classes = {label for row in store.tables()[0].labels for label in row}
    np.save(prompts, np.random.default_rng(0).normal(size=(len(classes), store.feature("e/text").dim)))
    options = {"prompts": str(prompts), "shots": 0}
    run, _ = fit(store, "prototype", features=["e/text"], options=options, run=tmp_path / "run")
    prompts.rename(tmp_path / "elsewhere.npy")
    with pytest.raises(DataError, match=r"names files to open: .*prompts\.npy; pass --trust"):
        ablate(run)
    rows = ablate(run, trust=True)
    assert any("no file" in (row["error"] or "") for row in rows), "with --trust the file is opened"


def test_the_command_prints_the_table(filled, tmp_path, monkeypatch):
    run, _ = fit(filled(), "knn", options={"metric": "l2"}, run=tmp_path / "run")
    processes = []

    def in_turn(runner, tasks, log, jobs):
        processes.append(jobs)
        return run_all(runner, tasks, log)

    monkeypatch.setattr(ablation, "run_all", in_turn)
    result = CliRunner().invoke(cli.main, ["ablate", str(run.path), "--jobs", "2"])
    assert (result.exit_code, processes) == (0, [2]), result.output
    *lines, measured = result.stdout.splitlines()
    assert measured.startswith("40 rows (stratified:0.1); ")
    assert lines[0].split()[:3] == ["changed", "micro_f1", "micro_f1_change"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "nothing",
        "without e/image",
        "without e/text",
        "metric=cosine, not l2",
    ]
    assert "without e/image: " in result.stderr


@pytest.mark.slow
def test_processes_give_the_same_table(filled, tmp_path):
    run, _ = fit(filled(), "knn", options={"metric": "l2"}, run=tmp_path / "run")
    lines = []
    alone, together = ablate(run, tmp_path / "1"), ablate(run, tmp_path / "2", lines.append, jobs=2)
    assert [{**row, "run": 0, "seconds": 0} for row in together] == [
        {**row, "run": 0, "seconds": 0} for row in alone
    ]
    assert len({row["run"] for row in together}) == len(together) == 4
    assert sorted(line.split()[0] for line in lines[:3]) == ["1/3", "2/3", "3/3"]


def test_thresholds_by_hand_are_no_rule_for_variants(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    run.decision = DecisionRule.by_hand(np.full(len(run.record.classes), 0.5))
    with pytest.raises(DataError, match="were chosen by hand"):
        ablate(run)
