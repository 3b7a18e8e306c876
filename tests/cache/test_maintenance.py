"""compact, gc and merge beyond what the state machine covers: what is told, refused and left alone."""

import numpy as np
import pytest

from encode_once.cache import DataError, Failure, SpecMismatchError, Store, Table, content_key
from encode_once.cache.format import feature_writer as cache_writer
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact, drop_unreferenced, merge
from encode_once.cache.verify import verify

SPEC = {"modality": "image", "weights": "w"}
KEYS = pack(content_key(bytes([row])) for row in range(20))
VALUES = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float16)


@pytest.fixture
def stores(tmp_path):
    return Store(tmp_path / "a"), Store(tmp_path / "b")


def fill(store, rows, name="e/o", spec=SPEC, at_once=4):
    feature = store.declare(name, spec)
    rows = np.asarray(rows)
    for start in range(0, len(rows), at_once):
        with feature.writer(at_once) as writer:
            some = rows[start : start + at_once]
            writer.append(KEYS[some], VALUES[some])
    return feature


def save_table(store, rows, name="t"):
    ids = [str(row) for row in rows]
    keys = KEYS[np.asarray(rows)]
    store.save(Table(f"/{name}/train.csv", ids, ids, ids, None, image_keys=keys, caption_keys=keys * 0))


def test_compact_makes_one_part_in_the_order_of_the_table(stores, tmp_path):
    store, _ = stores
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
    assert store.feature("e/o").parts[0].path == part, "what is compact is left alone"


def test_a_compacted_part_may_be_larger_than_a_written_one(stores, monkeypatch):
    monkeypatch.setattr(cache_writer, "PART_BYTES", 40)
    store, _ = stores
    fill(store, range(20))
    assert len(store.feature("e/o").parts) == 5
    compact(store)
    assert len(store.feature("e/o").parts) == 1


def test_gc_only_counts_unless_told_to_delete(stores):
    store, _ = stores
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


def test_gc_leaves_parts_alone_that_are_needed_whole(stores):
    store, _ = stores
    before = {part.path for part in fill(store, range(20)).parts}
    save_table(store, range(19))
    drop_unreferenced(store, delete=True)
    assert len(before & {part.path for part in store.feature("e/o").parts}) == 4


def test_merge_brings_rows_failures_and_tables(stores):
    a, b = stores
    fill(a, range(8))
    other = fill(b, range(4, 16))
    bad = content_key(b"bad")
    other.record_failures([Failure(bad.hex(), "truncated", "", "bad.jpg")])
    save_table(b, range(16))
    changes = merge(a, b)
    assert [(change.feature, change.rows) for change in changes] == [("e/o", 8)]
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS[:16]), VALUES[:16])
    assert list(a.feature("e/o").failures()) == [bad]
    assert [table.source for table in a.tables()] == ["/t/train.csv"]
    assert len(b.feature("e/o")) == 12, "the other store is only read"


def test_merging_twice_brings_nothing_more(stores):
    a, b = stores
    fill(b, range(16))
    merge(a, b)
    parts = [part.path for part in a.feature("e/o").parts]
    assert merge(a, b)[0].rows == 0
    assert [part.path for part in a.feature("e/o").parts] == parts


def test_a_merge_that_would_mix_two_specs_changes_nothing(stores):
    a, b = stores
    fill(a, range(4), "z/o")
    fill(b, range(4, 8), "a/o")
    fill(b, range(4, 8), "z/o", SPEC | {"weights": "others"})
    with pytest.raises(SpecMismatchError, match="weights: stored w, asked for others"):
        merge(a, b)
    assert a.features() == ["z/o"]
    assert len(a.feature("z/o")) == 4


def test_a_merge_takes_in_what_a_writer_has_committed_so_far(stores):
    a, b = stores
    feature = b.declare("e/o", SPEC)
    with feature.writer(20) as writer:
        writer.append(KEYS[:6], VALUES[:6])
        assert merge(a, b)[0].rows == 6
        writer.append(KEYS[6:], VALUES[6:])
    assert merge(a, b)[0].rows == 14
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS), VALUES)


def test_a_store_is_not_merged_with_itself_or_with_nothing(stores):
    a, b = stores
    fill(a, range(4))
    with pytest.raises(DataError, match="no other store"):
        merge(a, a)
    with pytest.raises(DataError, match="no other store"):
        merge(a, b)
