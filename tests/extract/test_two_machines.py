"""Two machines, each in namespaces of its own, share the folder of a store; their clocks differ."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encode_once.cache import Store
from encode_once.cache.keys import present
from encode_once.cache.maintenance import verify
from tests.conftest import write_data

pytestmark = pytest.mark.scale

ROOT = Path(__file__).parents[2]
N = 200
APART = 600  # seconds: one clock is as much ahead of the file system's, the other behind
# The number of its first process is 1 on every machine, as in containers.
UNSHARE = ["unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
MACHINE = """
import datetime, errno, fcntl, os, socket, sys, time
name, shift, has_flock, *words = sys.argv[1:]
socket.sethostname(name)
now, now_ns, shift = time.time, time.time_ns, int(shift)
time.time = lambda: now() + shift
time.time_ns = lambda: now_ns() + shift * 10**9

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)

datetime.datetime = Shifted
def flock(*_):
    raise OSError(errno.ENOSYS, "no locks here")
if has_flock == "no":
    fcntl.flock = flock
from encode_once.cli import main
import encode_once.extract
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
main(words)
"""
# Slow enough that both machines write at the same time, and commit several times.
ENCODER = """
import time
import numpy as np
from encode_once.extract.encoders.base import Tower

class Colours(Tower):
    modality = "image"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "mean colour", "weights": "none"}})

    def load(self, device):
        pass

    def prepare(self, image):
        time.sleep(0.03)
        return np.asarray(image)

    def encode(self, batch):
        return {"mean": [image.mean(axis=(0, 1)) / 255 for image in batch]}
"""
FEATURE = "colours.py:Colours/mean"


def has_namespaces():
    return shutil.which("unshare") and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode


@pytest.fixture
def folder(tmp_path):
    if not has_namespaces():
        pytest.skip("namespaces need root, or a kernel that lets users make them")
    write_data(tmp_path / "input", N)
    (tmp_path / "colours.py").write_text(ENCODER)
    return tmp_path


def together(folder, *shards, flock="yes"):
    """Run `extract` for each shard on a machine of its own, all at the same time; their results."""
    machines = []
    for number, shard in enumerate(shards):
        shift = APART * (1 - 2 * number) // 2
        words = ["extract", "--encoder", "colours.py:Colours", "--shard", shard, "--workers", "1"]
        machines.append(
            subprocess.Popen(
                [*UNSHARE, sys.executable, "-c", MACHINE, f"machine-{number}", str(shift), flock, *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": f"{ROOT.parent}:{folder}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for machine in machines:
            assert machine.stdout.readline() == "ready 1\n", machine.communicate()[1]
        for machine in machines:
            machine.stdin.write("go\n")
            machine.stdin.flush()
        return [(machine.communicate()[1], machine.returncode) for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
            machine.wait()


def check_whole(folder):
    """The store has each row of the table once; the vectors, in the table's order."""
    store = Store(folder / "store")
    assert not [problem for report in verify(store) for problem in report.problems]
    assert not [*(folder / "store").rglob("*.tmp"), *(folder / "store").rglob("*.partial")]
    feature, table = store.feature(FEATURE), store.table()
    assert sum(part.rows for part in feature.parts) == N, "a row is in two parts, or in none"
    keys = table.keys("image")
    assert present(keys).sum() == N
    np.testing.assert_array_equal(feature.has(keys), present(keys))
    return feature.read(keys[present(keys)])


@pytest.mark.parametrize("flock", ["yes", "no"])
def test_machines_with_different_shards_make_the_whole_store(folder, flock):
    for stderr, status in together(folder, "1/2", "2/2", flock=flock):
        assert status == 0, stderr
    vectors = check_whole(folder)
    images = [Image.open(folder / "input" / "data" / f"{row}.png") for row in range(N)]
    expected = [np.asarray(image).mean(axis=(0, 1)) / 255 for image in images]
    np.testing.assert_array_equal(vectors, np.array(expected, np.float16))


@pytest.mark.parametrize("flock", ["yes", "no"])
def test_of_machines_with_the_same_shard_the_second_is_refused(folder, flock):
    results = sorted(together(folder, "1/1", "1/1", flock=flock), key=lambda result: result[1])
    assert [status for _, status in results] == [0, 1]
    refusal = results[1][0].splitlines()[-1]
    assert "another process is writing" in refusal
    assert "on machine-" in refusal
    assert socket.gethostname() not in refusal
    check_whole(folder)
