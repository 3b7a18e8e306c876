import numpy as np

from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.bench.store_vs_npy import against_npy, stat_check


def test_the_store_is_measured_beside_npy():
    found = against_npy(rows=3000, dim=8)
    assert len({row["task"] for row in found}) == len(found) == 8
    for row in found:
        assert row["ms"] > 0
        assert row["speed / npy's"] == row["npy ms"] / row["ms"]


def test_the_stat_check_is_measured():
    found = stat_check(2000)
    assert found["files"] == 2000
    assert found["seconds"] > 0


def hold(megabytes):
    return float(np.ones(megabytes << 17).sum())


def test_peak_memory_is_that_of_the_work_and_no_more():
    result, peak = with_peak_memory(hold, 200)
    assert result == 200 << 17
    assert 200 << 20 <= peak < 260 << 20
