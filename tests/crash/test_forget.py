"""SIGKILL of `forget`: the store and the runs stay sound, and the same command removes the rest."""

import random
import shutil
import time

import pytest

from encode_once.cache import Store
from encode_once.cache.maintenance import verify
from encode_once.classify import load_run
from tests.conftest import vectors_file
from tests.crash.workload import arguments
from tests.deploy.test_forget import traces
from tests.invariants.test_files_agree import check

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fork server")]
NAMES = ["3.png", "7.png"]


def test_after_a_kill_at_any_moment_the_same_command_forgets_the_rest(
    fork_server, folder, tmp_path, request, monkeypatch
):
    root = folder(30)
    assert (
        fork_server.run(arguments(root, tmp_path / "old/store", vectors_file(tmp_path / "vectors.txt"))) == 0
    )
    options = ["--store", str(tmp_path / "old/store"), "--validation", "tenth", "--split", "random:0.4"]
    words = ["fit", "--head", "linear", *options, "--run", str(tmp_path / "old/runs/linear")]
    assert fork_server.run(words) == 0
    place, rng, errors = tmp_path / "place", random.Random(0), tmp_path / "errors"
    forget = ["forget", *NAMES, "--store", str(place / "store"), "--runs", str(place / "runs")]

    def prepare():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / "old", place)

    monkeypatch.chdir(tmp_path)
    prepare()
    whole = len(traces(NAMES[0], root, [place]))
    started = time.monotonic()
    assert fork_server.run(forget, stderr=errors) == 0, errors.read_text()
    longest, kills, ended, between = time.monotonic() - started, 0, 0, 0
    while kills < request.config.getoption("--kills"):
        prepare()
        status = fork_server.run(forget, kill_after=longest * rng.uniform(0.5, 1), stderr=errors)
        kills += status == -9
        count = len(traces(NAMES[0], root, [place]))
        between += 0 < count < whole
        assert verify(Store(place / "store")) == []
        load_run(place / "runs/linear")
        check(place / "runs/linear")
        if status == -9:
            status = fork_server.run(forget, stderr=errors)
            text = errors.read_text()
            ended += "forgotten already" in text
            assert status == 0 or "forgotten already" in text, text
        assert [traces(name, root, [place]) for name in NAMES] == [set(), set()]
        assert verify(Store(place / "store")) == []
        assert len(Store(place / "store").table().ids) == 28
        check(place / "runs/linear")
    print(f"{kills} kills in {longest:.1f} s: {between} between two changes, {ended} after the last")
