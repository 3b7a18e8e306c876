import os
import time

import pytest

from encode_once.cache import DataError
from encode_once.cache.bench import peak_memory
from encode_once.cache.bench.peak_memory import with_peak_memory


def refuse():
    raise DataError("not this")


def test_errors_are_raised_here():
    with pytest.raises(DataError, match="not this"):
        with_peak_memory(refuse)


def compute():
    while True:
        pass


def test_a_function_that_computes_too_long_is_killed():
    with pytest.raises(TimeoutError, match=r"killed after 1 processor seconds"):
        with_peak_memory(compute, limit=1)


def test_a_function_that_waits_too_long_is_killed(monkeypatch):
    monkeypatch.setattr(peak_memory, "PATIENCE", 2)
    with pytest.raises(TimeoutError, match=r"killed after 1 s by the clock"):
        with_peak_memory(time.sleep, 600, limit=0.5)


def test_a_process_that_dies_is_reported():
    with pytest.raises(ChildProcessError, match="status 7"):
        with_peak_memory(os._exit, 7)
