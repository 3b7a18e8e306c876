"""Batch sizes grow until memory or speed stops them; concurrent batches take a place each."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encode_once.extract import batches
from encode_once.extract.batches import Slots, TowerRunner
from encode_once.extract.encoders import batch_size as sizes
from encode_once.extract.encoders.base import Tower
from encode_once.extract.encoders.batch_size import grown_batch


def device(memory=1000, fixed=1.0, per_input=0.1):
    """Seconds of a device on which a batch has a fixed cost, and memory for a number of inputs."""

    def seconds(size):
        if size > memory:
            raise torch.OutOfMemoryError
        return fixed + per_input * size

    return seconds


def test_the_size_grows_until_speed_stops_it():
    # 32 / 4.2, 64 / 7.4 (13 % faster), 128 / 13.8 (7 %), 256 / 26.6 (4 %)
    assert grown_batch(device(), 32, 4096) == 128


def test_the_size_grows_until_memory_or_the_largest_size_stops_it():
    assert grown_batch(device(memory=100, per_input=0), 32, 4096) == 64
    assert grown_batch(device(memory=100, per_input=0), 32, 40) == 32
    assert grown_batch(device(per_input=0), 32, 5) == 5


@given(memory=st.integers(1, 64), most=st.integers(1, 64))
def test_the_size_fits_into_memory_and_is_not_above_the_largest(memory, most):
    size = grown_batch(device(memory, per_input=0), 32, most)
    assert size <= min(memory, most) < 4 * size  # within a factor of what would be possible


@pytest.mark.parametrize("error", [RuntimeError("broken"), torch.OutOfMemoryError()])
def test_other_errors_and_no_memory_for_one_input_are_raised(error):
    def seconds(size):
        raise error

    with pytest.raises(type(error)):
        grown_batch(seconds, 4, 64)


class CountingTower(Tower):
    """A tower without a model, which records the sizes of its batches."""

    modality = "image"

    def load(self, device):
        self.device, self.sizes = device, []

    def prepare(self, item):
        return item

    def encode(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > 100:
            raise torch.OutOfMemoryError
        return {"pooled": np.ones((len(batch), 2), np.float32)}


@pytest.mark.parametrize(("batch_size", "largest"), [(None, 64), (7, 7)])
def test_on_a_gpu_the_size_is_looked_for_unless_it_is_requested(monkeypatch, batch_size, largest):
    monkeypatch.setattr(batches, "_stream", lambda device: partial(contextmanager(lambda: (yield))))
    monkeypatch.setattr(sizes, "FASTER", 0.0)  # only memory stops it
    runner = TowerRunner("e", CountingTower({"pooled": {}}), "file")
    runner.load("cuda:0", 2, batch_size, 1000, lambda: [1, 2, 3])
    assert runner.batch_size == largest
    assert len(runner.encode(list(range(200)))["pooled"]) == 200
    assert max(runner.tower.sizes[-4:]) <= 64


@pytest.mark.parametrize(
    ("is_cast", "batch_size", "expected", "size"),
    [
        (True, None, batches.MANY, 64),
        (False, None, batches.MANY, 4),
        (True, 7, 9999, 7),
        (True, None, 1999, 4),
    ],
)
def test_on_a_cpu_it_is_looked_for_with_many_inputs_for_weights_in_reduced_precision(
    monkeypatch, is_cast, batch_size, expected, size
):
    tower = CountingTower({"pooled": {}})
    tower.cpu_batch, tower.parallel, tower.is_cast, tower.sizes = 4, True, is_cast, []
    monkeypatch.setattr(sizes, "FASTER", 0.0)  # only the largest size stops it
    monkeypatch.setattr(batches, "loaded", lambda *_: (tower, []))
    runner = TowerRunner("e", tower, "file")
    runner.load("cpu", 2, batch_size, expected, lambda: [1, 2, 3])
    assert runner.batch_size == size


def test_each_concurrent_batch_is_in_a_context_of_its_own():
    entered, both = Counter(), Barrier(2, timeout=10)

    @contextmanager
    def stream(name):
        entered[name] += 1
        assert entered[name] == 1
        try:
            yield
        finally:
            entered[name] -= 1

    slots = Slots([partial(stream, "a"), partial(stream, "b")])

    def batch(_):
        with slots.taken():
            both.wait()  # two are inside at a time
            assert sum(entered.values()) == 2
            both.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(batch, range(6)))
    with pytest.raises(ZeroDivisionError), slots.taken():
        1 / 0  # noqa: B018
    with slots.taken():  # no place is lost
        assert sum(entered.values()) == 1
