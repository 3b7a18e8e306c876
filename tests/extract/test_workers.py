"""The inner loop with small towers: order, threads, memory and interruption."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encode_once.cache import Store
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.extract import ComputeOptions, batches, encode, encoders, workers
from encode_once.extract.encoders.base import Tower
from tests.conftest import picture

ROOT = Path(__file__).parents[2]


class Mean(Tower):
    """The mean colour; remembers its batches."""

    modality = "image"
    parallel = True
    cpu_batch = 4

    def __init__(self):
        super().__init__({"mean": {"encoder": "mean colour", "weights": "none"}})
        self.lock, self.batches, self.now, self.most = threading.Lock(), [], 0, 0

    def load(self, device):
        self.device = device

    def prepare(self, image):
        return np.asarray(image, np.float32).mean((0, 1)) / 255

    def encode(self, batch):
        with self.lock:
            self.batches.append(len(batch))
            self.now += 1
            self.most = max(self.most, self.now)
            number = len(self.batches)
        vectors = self.work(batch, number)
        with self.lock:
            self.now -= 1
        return {"mean": vectors}

    def work(self, batch, number):
        return batch


class Uneven(Mean):
    """Takes longer for every other batch."""

    def work(self, batch, number):
        time.sleep(0.03 * (number % 2))
        return batch


class InTurn(Uneven):
    parallel = False


class LittleMemory(Mean):
    room = 3

    def work(self, batch, number):
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch


@pytest.fixture
def extract_by(monkeypatch, tmp_path):
    """A function that extracts with towers of a test and returns the store."""

    def extract(root, *towers, **compute):
        by_name = {f"tower{number}": tower for number, tower in enumerate(towers)}
        monkeypatch.setattr(encoders, "towers", lambda name, options: [by_name[name]])
        encode(root, list(by_name), tmp_path / "store", device="cpu", compute=ComputeOptions(**compute))
        return Store(tmp_path / "store")

    return extract


def mean_colours(number):
    pictures = (np.asarray(picture(row, (40 + row % 7, 40 + row % 5))) for row in range(number))
    return [pixels.mean((0, 1)) / 255 for pixels in pictures]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("commit_seconds", [0, 0.05, 10])
def test_rows_are_stored_in_the_order_of_the_table_whichever_batch_is_done_first(
    folder, extract_by, threads, commit_seconds, monkeypatch
):
    monkeypatch.setattr(workers, "COMMIT_SECONDS", commit_seconds)
    store = extract_by(folder(30), Uneven(), workers=threads, batch_size=2)
    (table,), feature = store.tables(), store.feature("tower0/mean")
    np.testing.assert_array_equal(feature.keys, table.keys("image"))
    np.testing.assert_allclose(feature.read(table.keys("image")), mean_colours(30), atol=1e-3)


def test_what_a_killed_process_has_committed_is_not_encoded_again(folder, extract_by, monkeypatch):
    root = folder(9)

    def die(writer):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FeatureWriter, "close", die)  # so that the part is not sealed
        extract_by(root, Mean())
    for path in (root / "data").glob("[78].png"):
        path.write_bytes((root / "data" / "0.png").read_bytes()[:-1] + bytes([int(path.stem)]))
    again = Mean()
    store = extract_by(root, again)
    assert sum(again.batches) == 2
    assert len(store.feature("tower0/mean")) == 11


def test_only_parallel_towers_encode_in_several_threads_at_once(folder, extract_by):
    parallel, in_turn = Uneven(), InTurn()
    extract_by(folder(40), parallel, in_turn, workers=3, batch_size=2)
    assert parallel.most > 1
    assert in_turn.most == 1


def test_few_inputs_are_shared_among_the_workers(folder, extract_by):
    tower = Uneven()
    extract_by(folder(8), tower, workers=2, batch_size=256)
    assert tower.batches == [2, 2, 2, 2]


def test_batches_become_smaller_if_memory_is_short(folder, extract_by):
    tower = LittleMemory()
    store = extract_by(folder(40), tower, workers=1, batch_size=16)
    np.testing.assert_allclose(
        store.feature("tower0/mean").read(store.tables()[0].keys("image")), mean_colours(40), atol=1e-3
    )
    assert tower.batches.count(16) == 1
    assert tower.batches.count(8) == 1
    assert max(tower.batches[2:]) <= 4


def test_an_input_that_never_fits_into_memory_is_an_error(folder, extract_by):
    tower = LittleMemory()
    tower.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        extract_by(folder(4), tower)


@pytest.mark.parametrize(("needed", "decoded"), [((50, 45), 1), ((50, 101), 2), ((50, None), 2)])
def test_a_large_jpeg_is_decoded_once_for_each_scale(folder, extract_by, monkeypatch, needed, decoded):
    root = folder(1)
    (root / "data" / "0.png").unlink()
    Image.new("RGB", (400, 400), "red").save(root / "data" / "0.jpg")
    (root / "train.csv").write_text("ImageID,Labels\n0.jpg,red\n")
    sizes, towers = [], [Mean(), Mean()]
    original = batches.decode
    monkeypatch.setattr(batches, "decode", lambda *args: sizes.append(args) or original(*args))
    for tower, shorter_side in zip(towers, needed, strict=True):
        tower.shorter_side = shorter_side
    extract_by(root, *towers)
    assert len(sizes) == decoded


SLOW = """
import time
from encode_once.extract.encoders.base import Tower

class Slow(Tower):
    modality = "image"

    def __init__(self, options):
        super().__init__({"size": {"encoder": "size", "weights": "none"}})

    def load(self, device):
        pass

    def prepare(self, image):
        return [float(image.width), float(image.height)]

    def encode(self, batch):
        print("encoding", flush=True)
        time.sleep(0.2)
        return {"size": batch}
"""


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_with_everything_committed(folder, tmp_path):
    folder(60)
    (tmp_path / "slow.py").write_text(SLOW)
    words = ["extract", "--encoder", "slow.py:Slow", "--batch-size", "1", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, which CI may be, inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(8):  # the eighth input is begun, so seven are done
        assert process.stdout.readline() == "encoding\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.strip().splitlines()[-1].startswith("interrupted")
    store = Store(tmp_path / "store")
    (name,) = store.features()
    feature = store.feature(name)
    assert 6 <= len(feature) < 60
    (table,) = store.tables()
    sizes = [(40 + row % 7, 40 + row % 5) for row in range(len(feature))]
    np.testing.assert_array_equal(feature.read(table.keys("image")[: len(feature)]), sizes)
