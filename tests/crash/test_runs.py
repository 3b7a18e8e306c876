"""SIGKILL of what writes and reads runs: a run's folder is the old run or the new one, or it is refused."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from encode_once.cache import EncodeOnceError
from encode_once.classify import fit, load_run, retune
from encode_once.classify.bench.synthetic import synthetic_store
from encode_once.classify.decisions.rule import DecisionSpec
from tests.invariants.test_files_agree import check

KILLS_PER_RUN = 4  # of the option --kills, which counts those of a store: commands on runs take longer
FITTED = ("weights.safetensors", "scores.h5")  # differ between seeds


class Killed(BaseException):
    """Ends the program where a signal would."""


def end_after(monkeypatch, last):
    """End the program after it has replaced the file of this name."""
    replace = Path.replace

    def ending(path, target):
        replace(path, target)
        if Path(target).name == last:
            raise Killed

    monkeypatch.setattr(Path, "replace", ending)


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
        kills, refused, seconds = dict.fromkeys(("fit", "tune", "report"), 0), 0, {}
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
            try:
                loaded = load_run(run)
            except EncodeOnceError as error:
                assert "\n" not in str(error)
                refused += 1
                repair = ["tune", str(run)] if (run / "run.json").exists() else [*words_of_fit, str(run)]
                assert fork_server.run(repair) == 0
                loaded = load_run(run)
            check(run)
            for name in FITTED:
                assert (run / name).read_bytes() == (whole[loaded.spec.seed] / name).read_bytes()
            decision = json.loads((run / "thresholds.json").read_text())["objective"]
            assert json.loads((run / "metrics.json").read_text())["objective"] == decision
    print("kills:", kills, "refused:", refused)


@pytest.mark.parametrize("last", ["thresholds.json", "metrics.json", "predictions.csv"])
def test_a_kill_between_two_files_of_a_decision_rule_is_noticed(fork_server, tmp_path, monkeypatch, last):
    """The program ends after the file was replaced; `tune` completes what was interrupted."""
    with synthetic_store(2000, 8) as store:
        run, _ = fit(store, "linear", split="random:0.5", run=tmp_path / "run")

    end_after(monkeypatch, last)
    with pytest.raises(Killed):
        run.save_decision(*retune(run, DecisionSpec("micro", at_least=1)))
    monkeypatch.undo()
    with pytest.raises(EncodeOnceError, match="tune it again"):
        load_run(run.path)
    assert fork_server.run(["tune", str(run.path)]) == 0
    check(run.path)
    assert load_run(run.path).decision.spec == DecisionSpec("micro", at_least=1)


@pytest.mark.parametrize(
    "last", [*FITTED, "history.csv", "thresholds.json", "metrics.json", "predictions.csv"]
)
def test_a_fit_that_ends_between_two_files_leaves_no_run(tmp_path, monkeypatch, last):
    with synthetic_store(300, 8) as store:
        run, _ = fit(store, "linear", run=tmp_path / "run")
        end_after(monkeypatch, last)
        with pytest.raises(Killed):
            fit(store, "linear", run=run.path, overwrite=True, seed=1)
        monkeypatch.undo()
        with pytest.raises(EncodeOnceError, match=r"no run\.json"):
            load_run(run.path)
        fit(store, "linear", run=run.path, seed=1)
    assert load_run(run.path).spec.seed == 1
