"""compact and gc, beyond what the state machine covers."""

import numpy as np
import pytest

from encode_once.cache import Store
from encode_once.cache.format import feature_writer
from encode_once.cache.maintenance import compact, drop_unreferenced, verify
from tests.cache.rows import KEYS, VALUES, fill, save_table


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_compact_makes_one_part_in_the_order_of_the_table(store):
    fill(store, range(20))
    order = np.random.default_rng(1).permutation(18)
    save_table(store, order)
    (change,) = compact(store)
    feature = store.feature("e/o")
    assert (change.rows, len(feature.parts), len(feature)) == (0, 1, 20)
    assert change.nbytes < 0
    assert not feature.read(KEYS[order]).flags.owndata  # mapped: the table's rows lie in its order
    np.testing.assert_array_equal(feature.read(KEYS), VALUES)
    (part,) = [part.path for part in feature.parts]
    compact(store)
    assert store.feature("e/o").parts[0].path == part, "a compact feature is not rewritten"


def test_a_compacted_part_may_be_larger_than_a_written_one(store, monkeypatch):
    monkeypatch.setattr(feature_writer, "PART_BYTES", 40)
    fill(store, range(20))
    assert len(store.feature("e/o").parts) == 5
    compact(store)
    assert len(store.feature("e/o").parts) == 1


def test_gc_only_counts_by_default(store):
    fill(store, range(20))
    save_table(store, range(10))
    save_table(store, range(5, 15), "other")
    (counted,) = drop_unreferenced(store)
    assert (counted.rows, counted.nbytes, len(store.feature("e/o"))) == (5, 0, 20)
    (dropped,) = drop_unreferenced(store, delete=True)
    assert dropped.rows == 5
    assert dropped.nbytes < 0
    assert store.feature("e/o").has(KEYS).tolist() == [True] * 15 + [False] * 5
    assert verify(store) == []


def test_gc_keeps_parts_that_are_needed_completely(store):
    before = {part.path for part in fill(store, range(20)).parts}
    save_table(store, range(19))
    drop_unreferenced(store, delete=True)
    assert len(before & {part.path for part in store.feature("e/o").parts}) == 4
