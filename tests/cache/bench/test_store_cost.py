import pytest

from encode_once.cache.bench.store_cost import index_memory, store_cost
from encode_once.cache.keys import KEY_BYTES


def test_all_costs_of_a_row_in_the_store_are_measured(tmp_path):
    cost = store_cost(300, 1000, repeats=1, folder=str(tmp_path))
    assert cost.keys() == {"commit", "write", "seal", "merge", "vector_bytes"}
    assert all(value >= 0 for value in cost.values())
    # 2,000 bytes of values, 16 of the key and 8 of the checksum; the rest is the same for any number of rows.
    header = 320 * (cost["vector_bytes"] - 2024)
    assert 8192 < header < 60_000
    assert list(tmp_path.iterdir()) == []


def test_an_index_takes_at_least_what_it_keeps():
    assert index_memory(2000) >= KEY_BYTES + 24
    assert index_memory(20_000) == pytest.approx(index_memory(2000), rel=0.2)
