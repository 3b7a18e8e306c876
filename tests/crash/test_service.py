"""SIGKILL of `update`, `promote` and `rollback`: FOLDER@champion is a whole run at every moment."""

import csv
import json
import multiprocessing
import random
import time

import pytest

from encode_once.cache import Store
from encode_once.cache.aliases import resolved
from encode_once.cache.maintenance import verify
from encode_once.classify import load_run, measure_kept
from encode_once.deploy.service_versions import versions
from tests.conftest import WORDS, picture
from tests.invariants.test_files_agree import check

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fork server")]
ENCODER = "timm:test_vit"
KILLS_PER_COMMAND = 2  # of the option --kills, which counts those of a store: these commands take longer
WEIGHTS = {"update": 2, "promote": 1, "rollback": 1}  # how often each is killed
STATUSES = {
    "update": {0, 5},
    "promote": {0},
    "rollback": {0, 1},
}  # 5: nothing is new; 1: there is no step back


def read_always(alias, ended, errors, counts):
    """Load the run that an alias names, and measure it, until the test ends."""
    reads, names = 0, set()
    while not ended.is_set():
        try:
            run = load_run(alias)
            metrics, _ = measure_kept(run)
            assert metrics == json.loads((run.path / "metrics.json").read_text())
            assert run.model is not None
        except Exception as error:
            errors.put(repr(error))
            return
        reads, names = reads + 1, names | {run.path.name}
        time.sleep(0.01)  # leaves the processor to what is killed
    counts.put((reads, len(names)))


def add_rows(data, start, count):
    """Append rows to the table of a data folder, see `write_data`."""
    with (data / "train.csv").open("a", newline="") as file:
        for row in range(start, start + count):
            picture(row, (40, 40)).save(data / "data" / f"{row}.png")
            words = [WORDS[row % 6], WORDS[(row // 6) % 6]]
            csv.writer(file).writerow(
                [f"{row}.png", " ".join(dict.fromkeys(words)), f"a {words[0]} and a {words[1]}, {row}"]
            )


def test_whoever_is_killed_the_champion_is_a_whole_run(fork_server, folder, tmp_path, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, errors, rng = folder(30), tmp_path / "errors", random.Random(0)
    store, svc = str(tmp_path / "store"), tmp_path / "runs" / "svc"
    alias = f"{svc}@champion"

    def succeed(*words, statuses=(0,)):
        status = fork_server.run(list(words), stderr=errors)
        assert status in statuses, errors.read_text()
        return status

    extract = ["--data", str(data), "--store", store, "--encoder", ENCODER, "--weights", "random"]
    succeed("extract", *extract, "--workers", "1", "--device", "cpu")
    features = ["--features", ",".join([*Store(store).features(), "tfidf:20"])]
    succeed("fit", "--head", "linear", *features, "--store", store, "--split", "random:0.4",
            "--validation", "tenth", "--run", str(svc / "first"))  # fmt: skip
    succeed("promote", str(svc / "first"))
    words_of = {
        "update": lambda: ["update", alias, "--tolerance", "1", "--keep", "3", "--device", "cpu"],
        "promote": lambda: ["promote", str(rng.choice([svc / "first", *versions(svc)]))],
        "rollback": lambda: ["rollback", alias],
    }
    seconds, rows = {}, 30
    for verb in ("update", "promote", "rollback"):
        add_rows(data, rows, 2)
        rows += 2
        started = time.monotonic()
        succeed(*words_of[verb](), statuses=STATUSES[verb])
        seconds[verb] = time.monotonic() - started

    context = multiprocessing.get_context("fork")
    ended, failures, counts = context.Event(), context.Queue(), context.Queue()
    reader = context.Process(target=read_always, args=(alias, ended, failures, counts))
    reader.start()
    kills, finished = dict.fromkeys(words_of, 0), dict.fromkeys(words_of, 0)
    while KILLS_PER_COMMAND * sum(kills.values()) < request.config.getoption("--kills"):
        verb = min(WEIGHTS, key=lambda name: (kills[name] + finished[name] / 4) / WEIGHTS[name])
        if verb == "update" and rng.random() < 0.8:
            add_rows(data, rows, 2)
            rows += 2
        before = resolved(alias).name
        status = fork_server.run(
            words_of[verb](), kill_after=seconds[verb] * rng.uniform(0.1, 1), stderr=errors
        )
        assert status in {-9, *STATUSES[verb]}, errors.read_text()
        kills[verb] += status == -9
        finished[verb] += status != -9
        check(resolved(alias))
        if status == -9 and verb == "update":
            assert resolved(alias).name in (before, *(path.name for path in versions(svc)))
            status = succeed(*words_of[verb](), statuses=(0, 4, 5))  # 4: rollback left the version
            champion = load_run(alias)
            if status == 0:
                assert len(champion.fitted_on) + len(champion.eval.ids) == rows
            check(champion.path)
            assert verify(Store(store)) == []
            assert all((path / "run.json").exists() for path in versions(svc))
        assert failures.empty(), failures.get()
    ended.set()
    reader.join()
    assert failures.empty(), failures.get()
    reads, names = counts.get()
    assert reads
    assert not [path.name for path in svc.glob(".removed-*")]
    print(f"kills: {kills}; finished: {finished}; {reads} reads of {names} runs; {rows} rows")
