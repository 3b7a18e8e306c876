"""A full disk gives one line that says what to do, wherever a writer meets it; nothing is lost."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Store, content_key
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import verify

ROOT = Path(__file__).parents[2]
ROWS = 200
KEYS = pack(content_key(bytes([row])) for row in range(ROWS))
VALUES = np.random.default_rng(0).normal(size=(ROWS, 64)).astype(np.float16)
LENGTHS = np.ones(ROWS, np.intp)
EXTRACT = """
import sys
from encode_once.cache import Store
from encode_once.cache.errors import StoreError
from tests.cache.test_full_disk import fill
try:
    fill(Store(sys.argv[1]))
except StoreError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""
VERIFY = """
import sys
from encode_once.cache import Store
from encode_once.cache.maintenance import verify
sys.exit("; ".join(verify(Store(sys.argv[1]))) or 0)
"""


def fill(store):
    """A dense and a ragged feature, in batches of 20 rows."""
    for name, lengths in (("e/dense", None), ("e/ragged", LENGTHS)):
        feature = store.declare(name, {"modality": "image", "output": name})
        with feature.writer(ROWS) as writer:
            for first in range(0, ROWS, 20):
                rows = slice(first, first + 20)
                writer.append(KEYS[rows], VALUES[rows], None if lengths is None else lengths[rows])


def run(code, path):
    command = [sys.executable, "-c", code, path]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a tmpfs of some kilobytes, or changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(kilobytes):
        options = [f"size={kilobytes}k"] + (["remount"] if folder.is_mount() else [])
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder], check=True, capture_output=True
        )
        return folder

    try:
        resize(64)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield resize
    subprocess.run(["umount", "--lazy", folder], check=True)  # the store is still mapped here


SIZES = [20, 60, 120, *(pytest.param(size, marks=pytest.mark.slow) for size in (28, 36, 44, 80, 100, 150))]


@pytest.mark.parametrize("kilobytes", SIZES)
def test_a_full_tmpfs_is_reported_in_one_line_and_loses_nothing(small_disk, kilobytes):
    store = small_disk(kilobytes) / "store"
    process = run(EXTRACT, store)
    assert process.returncode == 1, process
    assert len(process.stderr.strip().splitlines()) == 1, process
    assert "cannot be written" in process.stderr
    if (store / "store.json").exists():
        process = run(VERIFY, store)
        assert (process.returncode, process.stderr) == (0, ""), process
    small_disk(2000)
    fill(Store(store))
    np.testing.assert_array_equal(Store(store).feature("e/dense").read(KEYS), VALUES)
    np.testing.assert_array_equal(Store(store).feature("e/ragged").read_ragged(KEYS)[0], VALUES)
    assert verify(Store(store)) == []
