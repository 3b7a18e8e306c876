"""Commands without a home, rights, network and terminal, as a service runs them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import files_of

ROOT = Path(__file__).parents[2]
# The user `nobody` with one capability: to read what is there, as Python may be installed in a user's home.
AS_NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
]  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv"),
]


@pytest.fixture
def service(folder, run, fit_once, tmp_path):
    """A function that runs a command as `nobody`, in a folder of its own; only root may write elsewhere."""
    folder(60)
    run("extract", "--encoder", "efficientnet-lite0", "--encoder", "glove-50")
    run("fit", "--head", "linear")
    folder(12, name="new")
    (tmp_path / "results").mkdir()
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    os.chown(tmp_path / "results", 65534, 65534)
    (tmp_path / "results").chmod(0o755)
    can_unshare = shutil.which("unshare") and not subprocess.run(["unshare", "--net", "true"]).returncode
    offline = ["unshare", "--net"] if can_unshare else []

    def command(*words):
        return subprocess.run(
            [*offline, *AS_NOBODY, sys.executable, "-m", "encode_once.cli", "--log-format", "json", *words],
            cwd=tmp_path / "results",
            env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
                 "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # without a terminal
            capture_output=True,
            text=True,
        )  # fmt: skip

    yield command
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)


def test_a_run_is_used_by_a_user_without_home_rights_network_and_terminal(service, tmp_path):
    before = files_of(tmp_path / "store"), files_of(tmp_path / "runs")
    denied = service("fit", "--head", "linear", "--store", "../store", "--run", "../runs/other")
    assert denied.returncode == 1
    assert "Permission denied" in denied.stderr
    done = {
        words: service(*words.split())
        for words in (
            "predict ../runs/linear --data ../new -o labels.csv",
            "predict ../runs/linear --data ../new -o again.csv --store ../store",
            "evaluate ../runs/linear --json",
            "evaluate ../runs/linear --data ../new --json",
        )
    }
    for words, process in done.items():
        assert process.returncode == 0, f"{words}: {process.stderr}"
        lines = [json.loads(line) for line in process.stderr.splitlines()]
        assert not [line for line in lines if line["level"] == "error"]
    assert json.loads(done["evaluate ../runs/linear --json"].stdout)["n"] == 6
    with open(tmp_path / "results/labels.csv") as file:
        assert len([*csv.reader(file)]) == 13
    assert (tmp_path / "results/labels.csv").read_bytes() == (tmp_path / "results/again.csv").read_bytes()
    assert (files_of(tmp_path / "store"), files_of(tmp_path / "runs")) == before
    assert (tmp_path / "results/labels.csv").stat().st_uid == 65534
