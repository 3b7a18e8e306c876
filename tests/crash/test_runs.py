"""SIGKILL of what writes and reads runs: a run's folder is the old run or the new one, or it is refused."""

import json
import random
import shutil
import time

import pytest

from encode_once.cache import EncodeOnceError
from encode_once.classify import load_run
from encode_once.classify.bench.synthetic import synthetic_store
from tests.invariants.test_files_agree import check

KILLS = 45
FITTED = ("weights.safetensors", "scores.h5")  # differ between seeds


@pytest.mark.real
def test_no_kill_leaves_a_mixture_of_two_runs(fork_server, tmp_path):
    with synthetic_store(2000, 8) as store:
        fit = [
            "fit",
            "--head",
            "linear",
            "--store",
            str(store),
            "--overwrite",
            "--split",
            "random:0.5",
            "--run",
        ]
        whole, run, rng = {}, tmp_path / "run", random.Random(0)
        for seed in (0, 1):
            whole[seed] = tmp_path / f"seed-{seed}"
            assert fork_server.run([*fit, str(whole[seed]), "--seed", str(seed)]) == 0
        shutil.copytree(whole[0], run)
        kills, refused, seconds = dict.fromkeys(("fit", "tune", "report"), 0), 0, {}
        while sum(kills.values()) < KILLS:
            verb, objective = min(kills, key=kills.get), rng.choice(["micro", "macro", "samples"])
            words = {
                "fit": [*fit, str(run), "--seed", str(rng.randrange(2)), "--tune", objective],
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
                repair = ["tune", str(run)] if (run / "run.json").exists() else [*fit, str(run)]
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
    from encode_once.classify import fit, retune
    from encode_once.classify.decisions.rule import DecisionSpec

    with synthetic_store(2000, 8) as store:
        run, _ = fit(store, "linear", split="random:0.5", run=tmp_path / "run")

    class Killed(BaseException):
        pass

    replace = type(run.path).replace

    def end_after(path, target):
        replace(path, target)
        if target.name == last:
            raise Killed

    monkeypatch.setattr(type(run.path), "replace", end_after)
    with pytest.raises(Killed):
        run.save_decision(*retune(run, DecisionSpec("micro", at_least=1)))
    monkeypatch.undo()
    with pytest.raises(EncodeOnceError, match="tune it again"):
        load_run(run.path)
    assert fork_server.run(["tune", str(run.path)]) == 0
    check(run.path)
    assert load_run(run.path).decision.spec == DecisionSpec("micro", at_least=1)
