import numpy as np

from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.bench.store_vs_npy import against_npy, stat_check


def test_the_store_is_compared_with_npy():
    rows = against_npy(rows=3000, dim=8)
    assert len({row["task"] for row in rows}) == len(rows) == 9
    for row in rows:
        assert row["ms"] > 0
        assert row["speed / npy's"] == row["npy ms"] / row["ms"]


def test_the_file_index_is_measured():
    result = stat_check(2000)
    assert result["files"] == 2000
    assert result["seconds"] > 0


def allocate(megabytes):
    return float(np.ones(megabytes << 17).sum())


def test_peak_memory_is_that_of_the_function_only():
    result, peak = with_peak_memory(allocate, 200)
    assert result == 200 << 17
    assert 200 << 20 <= peak < 260 << 20
