import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once import cli
from encode_once.cache import DataError, Failure, Store, UsageError
from encode_once.classify import fit, heads, load_run, measure_kept, retune, sweep
from encode_once.classify.data.rows import content_order
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import METRICS, interval, resampled
from encode_once.classify.experiments import commands, trial
from encode_once.classify.experiments.experiment import KINDS, feature_sets, metric_of
from encode_once.classify.heads.knn import KNN
from encode_once.classify.heads.search_space import Range
from encode_once.classify.runs import head_fitter

pytestmark = pytest.mark.usefixtures("fit_once")
ROOT = Path(__file__).parents[3]
OF_GRU = {"epochs": [1], "hidden": [4], "progress": [False], "device": ["cpu"]}
QUICK = {"mlp": {"epochs": [1], "hidden": [[8]], "progress": [False], "device": ["cpu"]}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def fits(monkeypatch):
    """The folders of the runs that were fitted."""
    folders = []

    def counted(*args, **options):
        folders.append(options["run"])
        return fit(*args, **options)

    monkeypatch.setattr(trial, "fit", counted)
    return folders


def test_each_row_is_a_separate_run_on_the_same_eval_rows(filled, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(head_fitter, "FOLDS_UP_TO", 400)
    store = filled()
    rows = sweep(store, ["linear", "knn"], subsets=True, split="tail:100", decision="micro", folder=folder)
    sets = [["e/image"], ["e/text"], ["e/image", "e/text"]]
    expected = sorted(itertools.product(["linear", "knn"], sets))
    assert sorted((row["head"], row["features"]) for row in rows) == expected
    for row in rows:
        run, metrics = fit(
            store,
            row["head"],
            features=row["features"],
            split="tail:100",
            decision="micro",
            run=tmp_path / "alone",
            overwrite=True,
        )
        predictions, order = run.decision(run.eval.scores), content_order(run.eval.keys, run.eval.ids)
        draws = resampled(run.eval.labels, predictions, run.eval.scores, order=order)
        for name in METRICS:
            assert row[name] == metrics[name]
            assert row[f"{name}_interval"] == interval(draws[name], row[name])
        assert load_run(row["run"]).eval.ids == run.eval.ids
        assert row["seconds"] > 0
        assert row["error"] is None
    ranked = [row["micro_f1"] for row in rows]
    assert ranked == sorted(ranked, reverse=True)
    assert json.loads((folder / "leaderboard.json").read_text()) == rows
    table = (folder / "leaderboard.md").read_text()
    assert table.startswith(
        "| head | features | settings | micro_f1 | macro_f1 | samples_f1 | mAP | seconds |"
    )
    assert (
        "100 rows (tail:100); thresholds maximise micro; tuned on out-of-fold scores of the 300 train rows"
        in table
    )


def test_all_combinations_of_options_and_seeds_are_fitted(filled, folder):
    grid = {"forest": {"trees": [5, 6], "extra": [True, False], "jobs": [1]}}
    rows = sweep(filled(), ["forest"], grid=grid, seeds=2, folder=folder, by="mAP")
    options = [
        (row["settings"]["trees"], row["settings"]["extra"], row["settings"].get("seed", 0)) for row in rows
    ]
    assert sorted(options) == sorted(itertools.product([5, 6], [True, False], [0, 1]))
    assert [row["mAP"] for row in rows] == sorted((row["mAP"] for row in rows), reverse=True)
    assert len({tuple(load_run(row["run"]).eval.ids) for row in rows}) == 1


def test_the_table_is_read_once_for_all_trials(filled, folder, monkeypatch):
    store, load, headers = filled(), Store.load, []

    def counted(store, header):
        headers.append(header)
        return load(store, header)

    monkeypatch.setattr(Store, "load", counted)
    sweep(store, ["knn"], subsets=True, folder=folder)
    assert len(headers) == 1


def test_existing_runs_are_not_fitted_again_even_for_other_thresholds(filled, folder, fits):
    store = filled()
    first = sweep(store, ["linear"], subsets=True, folder=folder)
    assert len(fits) == 3
    assert sweep(store, ["linear"], subsets=True, folder=folder) == first
    for objective in ("samples", "none", "at:0.3"):
        rows = sweep(store, ["linear"], decision=objective, folder=folder)
        assert len(fits) == 3
        assert {row["run"] for row in rows} == {row["run"] for row in first}
        (row,) = (row for row in rows if len(row["features"]) == 2)
        run = load_run(row["run"])
        assert run.decision.spec == DecisionSpec(objective)
        assert row["samples_f1"] == retune(run, DecisionSpec(objective))[0]["samples_f1"]


def test_the_eval_rows_are_resampled_once_for_each_run_and_rule(filled, folder, monkeypatch):
    """The model card and the leaderboard show the same intervals."""
    draws = []

    def counted(*arrays, **options):
        draws.append(len(arrays[0]))
        return resampled(*arrays, **options)

    monkeypatch.setattr(intervals, "resampled", counted)
    store = filled()
    (row,) = sweep(store, ["linear"], folder=folder, split="tail:100")
    assert draws == [100]
    (tuned,) = sweep(store, ["linear"], folder=folder, split="tail:100", decision="none")
    assert draws == [100, 100]
    assert tuned["micro_f1_interval"] != row["micro_f1_interval"]


def test_other_options_rows_or_labels_are_fitted_again(filled, folder, fits):
    store = filled()
    for change in ({}, {"split": "tail:50"}, {"grid": {"linear": {"tolerance": [0.01]}}}):
        sweep(store, ["linear"], folder=folder, **change)
    assert len(set(fits)) == 3
    table = store.tables()[0]
    table.labels = [("cat", "dog", "9"), *table.labels[1:]]
    store.save(table)
    sweep(store, ["linear"], folder=folder)
    assert len(set(fits)) == 4


def test_a_trial_that_fails_is_a_row_with_its_error_and_the_others_go_on(filled, folder, monkeypatch):
    store, choose = filled(), KNN._choose

    def failing(head, *arguments, **options):
        if head.ks == [6]:
            raise TypeError("six\nlines")
        choose(head, *arguments, **options)

    monkeypatch.setattr(KNN, "_choose", failing)
    grid = {"knn": {"metric": ["cosine", "chebyshev"], "ks": [[5], [6]]}}
    rows = sweep(store, ["knn"], grid=grid, folder=folder)
    assert [bool(row["error"]) for row in rows] == [False, True, True, True]
    reasons = {str(row["settings"]): row["error"] for row in rows}
    assert "chebyshev" in reasons["{'metric': 'chebyshev', 'ks': [5]}"]
    assert reasons["{'metric': 'cosine', 'ks': [6]}"].startswith("TypeError: ")
    assert all("\n" not in (reason or "") for reason in reasons.values())
    assert rows[-1]["micro_f1"] is rows[-1]["mAP_interval"] is rows[-1]["seconds"] is None
    assert "failed: knn" in (folder / "leaderboard.md").read_text()


def test_a_head_that_cannot_take_sequences_is_a_row_with_its_error(filled, folder):
    store = filled()
    keys = store.tables()[0].keys("caption")
    with store.declare("e/tokens", {"modality": "caption"}).writer(len(keys)) as writer:
        writer.append(keys, np.ones((2 * len(keys), 3), np.float16), np.full(len(keys), 2))
    able, unable = sweep(
        store,
        ["linear", "bigru"],
        features=["e/text", "e/tokens"],
        grid={"bigru": OF_GRU},
        validation="tenth",
        folder=folder,
    )
    assert (able["head"], able["error"]) == ("bigru", None)
    assert "e/tokens holds a sequence per row, which head linear cannot take" in unable["error"]


def test_cross_validated_rows_are_all_measured(filled, folder):
    store = filled()
    (row,) = sweep(store, ["linear"], split="kfold:3", folder=folder)
    run = load_run(row["run"])
    assert len(run.eval.ids) == 400
    metrics, predictions = measure_kept(run)
    order = content_order(run.eval.keys, run.eval.ids)
    draws = resampled(run.eval.labels, predictions, run.eval.scores, order=order)
    assert (row["macro_f1"], row["macro_f1_interval"]) == (
        metrics["macro_f1"],
        pytest.approx(interval(draws["macro_f1"], metrics["macro_f1"])),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": ["liner"]}, "did you mean 'linear'"),
        ({"features": ["e/imag"]}, "did you mean 'e/image'"),
        ({"grid": {"linear": {"tolerence": [1]}}}, "did you mean 'tolerance'"),
        ({"grid": {"mlp": {"epochs": [1]}}}, "unknown head of a setting 'mlp'"),
        ({"decision": "macroo"}, "did you mean 'macro'"),
        ({"by": "f1"}, "unknown metric 'f1'"),
        ({"trials": 2}, "nothing to search of linear; there is of mlp"),
        ({"trials": 2, "names": ["mlp"], "split": "kfold:3"}, "kfold:3"),
    ],
)
def test_wrong_names_are_errors_before_anything_is_fitted(filled, folder, fits, wrong, message):
    with pytest.raises(UsageError, match=message):
        sweep(filled(), **{"names": ["linear"], "folder": folder, **wrong})
    assert not fits


def test_the_decision_rule_decides_the_metric_that_ranks():
    assert metric_of(DecisionSpec("global-samples")) == "samples_f1"
    for rule in ("expected-mean", "expected-f1"):
        assert metric_of(DecisionSpec("macro", decide=rule)) == "samples_f1"
    assert metric_of(DecisionSpec(decide="argmax")) == "micro_f1"
    for name in ("none", "weighted", "precision:0.9"):
        assert metric_of(DecisionSpec(name)) == "micro_f1"


def test_the_sets_of_features_of_each_kind():
    names = ["a", "b", "c"]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    alone = [("a",), ("b",), ("c",)]
    expected = [[("a", "b", "c")], alone, pairs, pairs, [*alone, *pairs, ("a", "b", "c")]]
    assert [feature_sets(names, kind) for kind in KINDS] == expected
    assert [feature_sets(["a"], kind) for kind in KINDS] == [[("a",)], [("a",)], [], [], [("a",)]]


def whole_runs(folder):
    """Folder → when its run was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


@pytest.mark.slow
def test_the_same_command_continues_a_killed_sweep(filled, folder, tmp_path):
    store = filled()
    words = ["sweep", "--head", "gbm", "--head", "forest", "--subsets", "--split", "tail:100"]
    words += [
        "--validation",
        "tenth",
        "--seeds",
        "2",
        "--store",
        str(store.path),
        "--folder",
        str(folder),
        "--json",
    ]
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen(command, **silent)
    while len(whole_runs(folder)) < 3:
        assert process.poll() is None, "the sweep ended before it was killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "leaderboard.json").exists()
    before = whole_runs(folder)
    assert 3 <= len(before) < 12
    ended = subprocess.run(command, capture_output=True, env=environment, check=True)
    rows = json.loads(ended.stdout)
    after = whole_runs(folder)
    assert before.items() <= after.items(), "a run that was whole was fitted again"
    assert len(rows) == len(after) == 12
    settings = {"split": "tail:100", "validation": "tenth", "seeds": 2, "folder": tmp_path / "other"}
    undisturbed = sweep(store, ["gbm", "forest"], subsets=True, **settings)
    for row, same in zip(rows, undisturbed, strict=True):
        assert {**row, "run": 0, "seconds": 0} == {**same, "run": 0, "seconds": 0}


def test_a_partly_written_run_is_fitted_again(filled, folder, fits):
    store = filled()
    (row,) = sweep(store, ["linear"], folder=folder)
    run = Path(row["run"])
    for name in os.listdir(run):
        (run / name).unlink()
    (run / "weights.safetensors.123.tmp").write_bytes(b"part")
    (again,) = sweep(store, ["linear"], folder=folder)
    assert len(fits) == 2
    assert again["micro_f1"] == row["micro_f1"]


@pytest.mark.parametrize("name", heads.HEADS)
def test_search_spaces_and_losses_belong_to_options_of_the_head(name):
    space = heads.class_of(name).SPACE
    assert set(space) <= set(heads.options_of(name))
    for values in space.values():
        assert values.low < values.high if isinstance(values, Range) else len(values) > 1
    assert set(heads.class_of(name).LOSSES) == set() or "loss" in heads.options_of(name)


def test_a_search_chooses_on_the_validation_rows(filled, folder, fits):
    store = filled()
    settings = {"grid": QUICK, "trials": 4, "folder": folder, "split": "tail:100", "validation": "tenth"}
    rows = sweep(store, ["mlp", "linear"], **settings)
    assert {row["head"] for row in rows} == {"mlp", "linear"}
    assert len(fits) == 4 + 1
    (best,) = [row for row in rows if row["head"] == "mlp"]
    assert best["settings"]["hidden"] == [8]
    assert set(best["settings"]) == set(heads.class_of("mlp").SPACE) | set(QUICK["mlp"])

    assert [path.name for path in folder.glob("mlp*")] == [Path(best["run"]).name]
    tried = [load_run(path.parent) for path in folder.glob("search/mlp*/run.json")]
    assert len(tried) == 4

    def validation_f1(run):
        return retune(replace(run, eval=run.validation), DecisionSpec())[0]["samples_f1"]

    assert best["validation_samples_f1"] == pytest.approx(max(map(validation_f1, tried)))
    assert sweep(store, ["mlp", "linear"], **settings) == rows
    assert len(fits) == 5
    sweep(store, ["mlp"], **{**settings, "trials": 5})
    assert len(fits) == 6


def test_an_interrupted_search_has_the_same_result(filled, folder, tmp_path, monkeypatch):
    store = filled()
    settings = {"grid": QUICK, "trials": 3, "split": "tail:100", "validation": "tenth"}
    calls = []

    def interrupted(*args, **options):
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(trial, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(store, ["mlp"], folder=folder, **settings)
    (row,) = sweep(store, ["mlp"], folder=folder, **settings)
    assert len(calls) == 4
    (undisturbed,) = sweep(store, ["mlp"], folder=tmp_path / "other", **settings)
    assert (row["settings"], row["mAP"]) == (undisturbed["settings"], undisturbed["mAP"])


def test_a_search_without_optuna_says_what_to_install(filled, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DataError, match=r"pip install 'encode-once\[search\]'"):
        sweep(filled(), ["mlp"], trials=2, folder=folder)


def test_the_command_prints_the_leaderboard(filled, folder):
    store = filled(missing={3})
    key = store.tables()[0].keys("image")[3].tobytes().hex()
    store.feature("e/image").record_failures([Failure(key, "empty", "", "")])
    words = ["sweep", "--head", "knn", "--set", "knn.metric=l2,wrong", "--folder", folder, "--store"]
    result = CliRunner().invoke(cli.main, [*map(str, words), str(store.path)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["head", "features", "settings", *METRICS, "seconds"]
    assert lines[1].startswith("knn   e/image + e/text  metric=l2")
    assert lines[-1].startswith("failed: knn e/image + e/text metric=wrong: unknown metric 'wrong'")
    assert "warning: e/image: 1 of 400 rows have no vector" in result.stderr
    assert "1/2 knn metric=l2 on e/image + e/text: samples_f1 0." in result.stderr


def test_the_command_fails_if_all_trials_fail(filled, folder):
    words = ["sweep", "--head", "knn", "--set", "knn.metric=wrong", "--folder", folder, "--json", "--store"]
    result = CliRunner().invoke(cli.main, [*map(str, words), str(filled().path)])
    assert result.exit_code == 1
    assert [row["micro_f1"] for row in json.loads(result.stdout)] == [None]


def test_the_next_command_compares_the_best_runs_of_two_settings_not_of_two_seeds():
    def row(head, error=None, **settings):
        values = {"run": f"{head}{settings}", "features": ["x"], "settings": settings}
        return {"head": head, "error": error, **values}

    rows = [
        row("mlp", seed=1),
        row("mlp"),
        row("knn", "failed"),
        row("mlp", width=2, seed=1),
        row("knn", k=3),
    ]
    assert commands._best(rows) == ["mlp{'seed': 1}", "mlp{'width': 2, 'seed': 1}", "knn{'k': 3}"]
