"""Fits on rows that do not fit into the memory that they may have."""

import pytest

from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.classify.bench.race import memory

GIB = 2**30
SHOWN = "micro_f1", "macro_f1", "mAP"
OPTIONS = {"linear": {}, "mlp": {"epochs": 3, "hidden": [256], "batch_size": 512, "progress": False}}


def allocate(megabytes):
    return len(bytearray(megabytes << 20))


def test_a_process_gets_no_more_private_memory_than_its_limit():
    with pytest.raises(MemoryError):
        with_peak_memory(allocate, 1000, memory=800 << 20)


@pytest.mark.scale
@pytest.mark.parametrize("head", OPTIONS)
def test_a_head_is_fitted_on_two_million_rows_in_4_gib(head):
    options = OPTIONS[head] | ({"epochs": 1} if head == "mlp" else {})
    row = memory(head, 2_000_000, 768, options, 4 * GIB)
    assert row["MB with imports"] < 4 * GIB / 1e6
    assert row["mAP"] > 0.5


@pytest.mark.scale
@pytest.mark.parametrize("head", OPTIONS)
def test_streamed_rows_give_scores_as_good_as_held_ones(head):
    in_memory, streamed = (memory(head, 200_000, 768, OPTIONS[head], streamed=way) for way in (False, True))
    tolerance = 0.002 if head == "linear" else 0.005  # the batches of a network are others
    assert [streamed[name] for name in SHOWN] == pytest.approx(
        [in_memory[name] for name in SHOWN], abs=tolerance
    )
