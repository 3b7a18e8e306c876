"""SIGKILL of what writes and reads runs: a run's folder is the old run or the new one."""

import itertools
import json
import random
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from encode_once.cache import EncodeOnceError
from encode_once.cache.format.replacement import MARKER, Replacement
from encode_once.classify import fit, load_run, measure_kept, retune
from encode_once.classify.bench.synthetic import synthetic_store
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.run import FILES
from tests.conftest import files_of
from tests.invariants.test_files_agree import check

KILLS_PER_RUN = 4  # of the option --kills, which counts those of a store: commands on runs take longer
FITTED = ("weights.safetensors", "scores.h5")  # differ between seeds


class Killed(BaseException):
    """Ends the program where a signal would."""


def end_after(monkeypatch, count):
    """End the program after it has renamed this number of files; nothing is cleaned up."""
    replace, renamed = Path.replace, []

    def ending(path, target):
        replace(path, target)
        renamed.append(target)
        if len(renamed) == count:
            raise Killed

    monkeypatch.setattr(Path, "replace", ending)
    monkeypatch.setattr(Replacement, "discard", lambda self: None)


@pytest.mark.real
def test_no_kill_leaves_a_mixture_of_two_runs(request, fork_server, tmp_path):
    with synthetic_store(2000, 8) as store:
        words_of_fit = "fit --head linear --overwrite --split random:0.5 --store".split()
        words_of_fit += [str(store), "--run"]
        whole, run, rng = {}, tmp_path / "run", random.Random(0)
        target = request.config.getoption("--kills") // KILLS_PER_RUN
        for seed in (0, 1):
            whole[seed] = tmp_path / f"seed-{seed}"
            assert fork_server.run([*words_of_fit, str(whole[seed]), "--seed", str(seed)]) == 0
        shutil.copytree(whole[0], run)
        kills, seconds = dict.fromkeys(("fit", "tune", "report"), 0), {}
        while sum(kills.values()) < target:
            verb, objective = min(kills, key=kills.get), rng.choice(["micro", "macro", "samples"])
            words = {
                "fit": [*words_of_fit, str(run), "--seed", str(rng.randrange(2)), "--tune", objective],
                "tune": ["tune", str(run), "--objective", objective],
                "report": ["report", str(run)],
            }[verb]
            if verb not in seconds:
                started = time.perf_counter()
                assert fork_server.run(words) == 0
                seconds[verb] = time.perf_counter() - started
            status = fork_server.run(words, kill_after=seconds[verb] * rng.uniform(0.5, 1))
            kills[verb] += status == -9
            loaded = load_run(run)
            check(run)
            for name in FITTED:
                assert (run / name).read_bytes() == (whole[loaded.spec.seed] / name).read_bytes()
            decision = json.loads((run / "thresholds.json").read_text())["objective"]
            assert json.loads((run / "metrics.json").read_text())["objective"] == decision
    print("kills:", kills)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Runs of different seeds and decision rules, with what `save` takes."""
    folder, options = tmp_path_factory.mktemp("runs"), {"split": "random:0.5", "validation": "tenth"}
    with synthetic_store(2000, 8) as store:
        runs = [
            fit(store, "linear", run=folder / rule, seed=seed, decision=DecisionSpec(rule), **options)[0]
            for seed, rule in enumerate(["micro", "macro"])
        ]
    return [(run, *measure_kept(run), model_card(run)) for run in runs]


def every_end(write, old, folder, monkeypatch):
    """Yield the folder, in which `write` was ended after each rename in turn, as a copy of an old run."""
    for count in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)
        with monkeypatch.context() as patch:
            end_after(patch, count)
            try:
                write()
                return
            except Killed:
                pass
        yield folder


def test_wherever_a_fit_ends_the_folder_holds_the_old_run_or_the_new_one(two_runs, tmp_path, monkeypatch):
    (old, *_), (new, *results) = two_runs
    moved, seeds = replace(new, path=tmp_path / "run"), []
    for folder in every_end(lambda: moved.save(*results), old.path, moved.path, monkeypatch):
        loaded = load_run(folder)
        seeds.append(loaded.spec.seed)
        check(folder)
        assert {*FILES} <= {path.name for path in folder.iterdir()}  # no file is missing for a moment
        for name in FITTED:
            whole = (old, new)[loaded.spec.seed].path
            assert (folder / name).read_bytes() == (whole / name).read_bytes()
        assert loaded.model is not None
    assert seeds == sorted(seeds)  # old, and from one moment on new
    assert {*seeds} == {0, 1}


def test_wherever_tune_ends_the_rule_its_metrics_and_its_labels_agree(two_runs, tmp_path, monkeypatch):
    (old, *_), _ = two_runs
    moved = replace(old, path=tmp_path / "run")
    results = *retune(moved, DecisionSpec("samples", at_least=1)), model_card(moved)
    objectives = []
    for folder in every_end(lambda: moved.save_decision(*results), old.path, moved.path, monkeypatch):
        objectives.append(load_run(folder).decision.spec.objective)
        check(folder)
    assert {*objectives} == {"micro", "samples"}
    assert objectives == sorted(objectives)


def test_wherever_tune_without_a_card_ends_there_is_no_card_of_another_rule(two_runs, tmp_path, monkeypatch):
    (old, *_), _ = two_runs
    moved = replace(old, path=tmp_path / "run")
    results = retune(moved, DecisionSpec("samples", at_least=1))
    for folder in every_end(lambda: moved.save_decision(*results), old.path, moved.path, monkeypatch):
        load_run(folder)
        check(folder)
    assert not (folder / "README.md").exists()
    assert "README.md" not in json.loads((folder / "checksums.json").read_text())


def test_a_first_fit_that_ended_leaves_no_run_and_can_be_repeated(two_runs, tmp_path, monkeypatch):
    _, (new, *results) = two_runs
    moved = replace(new, path=tmp_path / "run")
    with monkeypatch.context() as patch:
        end_after(patch, 3)
        with pytest.raises(Killed):
            moved.save(*results)
    with pytest.raises(EncodeOnceError, match=r"no run\.json"):
        load_run(moved.path)
    moved.save(*results)
    assert load_run(moved.path).spec.seed == 1
    assert not [*moved.path.glob("*.new")]


def test_an_error_while_a_run_is_written_leaves_the_old_one_and_no_other_file(
    two_runs, tmp_path, monkeypatch
):
    (old, *_), (new, *results) = two_runs
    folder = shutil.copytree(old.path, tmp_path / "run")
    before = files_of(folder)
    monkeypatch.setattr("encode_once.classify.runs.run.write_csv", failing)
    with pytest.raises(EncodeOnceError, match="disk is full"):
        replace(new, path=folder).save(*results)
    assert files_of(folder) == before


def failing(*args, **options):
    raise OSError("the disk is full")


def test_a_list_of_other_files_than_a_runs_is_refused(two_runs, tmp_path):
    folder = shutil.copytree(two_runs[0][0].path, tmp_path / "run")
    (tmp_path / "victim.new").write_text("new")
    (tmp_path / "victim").write_text("old")
    for names in (["../victim"], ["report.html"], {"run.json": 1}, [["run.json"]]):
        (folder / MARKER).write_text(json.dumps(names))
        with pytest.raises(EncodeOnceError, match="remove it"):
            load_run(folder)
    assert (tmp_path / "victim").read_text() == "old"


def test_a_fit_that_ends_after_the_new_files_count_is_completed_before_the_next_one(
    two_runs, tmp_path, monkeypatch
):
    """The next fit fails while it writes: the folder holds the run that counted, not a mixture."""
    (old, *_), (new, *results) = two_runs
    moved = replace(new, path=tmp_path / "run")
    for folder in every_end(lambda: moved.save(*results), old.path, moved.path, monkeypatch):
        if not (folder / MARKER).exists():
            continue
        with monkeypatch.context() as patch:
            patch.setattr("encode_once.classify.runs.run.write_csv", failing)
            with pytest.raises(EncodeOnceError, match="disk is full"):
                replace(old, path=folder).save(*measure_kept(old))
        assert load_run(folder).spec.seed == 1
        check(folder)


def test_a_reader_waits_for_a_writer_and_sees_one_run(two_runs, tmp_path):
    (old, *old_results), (new, *new_results) = two_runs
    folder = tmp_path / "run"
    replace(old, path=folder).save(*old_results)
    ended = threading.Event()

    def write():
        for number in range(20):
            run, results = ((old, old_results), (new, new_results))[number % 2]
            replace(run, path=folder).save(*results)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not ended.is_set():
        loaded = load_run(folder)
        assert loaded.decision.spec.objective == ("micro", "macro")[loaded.spec.seed]
        reads += 1
    writer.join()
    assert reads
