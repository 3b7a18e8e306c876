"""compact, gc and merge beyond what the state machine covers: what is told, refused and left alone."""

import itertools
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import DataError, Failure, SpecMismatchError, Store, Table, content_key
from encode_once.cache.format import feature_writer as cache_writer
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact, drop_unreferenced, verify
from encode_once.cache.merge import merge
from encode_once.cli import main

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
    changes = merge(a, b).changes
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
    assert merge(a, b).changes[0].rows == 0
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
        assert merge(a, b).changes[0].rows == 6
        writer.append(KEYS[6:], VALUES[6:])
    assert merge(a, b).changes[0].rows == 14
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS), VALUES)


def test_a_store_is_not_merged_with_itself_or_with_nothing(stores):
    a, b = stores
    fill(a, range(4))
    with pytest.raises(DataError, match="no other store"):
        merge(a, a)
    with pytest.raises(DataError, match="no other store"):
        merge(a, b)


def test_merge_never_replaces_a_part_of_the_same_name(stores):
    a, b = stores
    (ours,) = fill(a, range(16), at_once=16).parts
    (theirs,) = fill(b, range(16, 20)).parts
    theirs.path.rename(theirs.path.with_name(ours.path.name))
    assert merge(a, b).changes[0].rows == 4
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS), VALUES)
    assert verify(a) == []


def test_merge_adds_only_the_rows_that_are_lacking(stores):
    a, b = stores
    fill(a, range(4))
    fill(b, range(8), at_once=8)
    (copy,) = b.feature("e/o").parts
    shutil.copyfile(copy.path, copy.path.with_name("copy.h5"))
    assert merge(a, b).changes[0].rows == 4
    assert [part.rows for part in a.feature("e/o").parts] == [4, 4]


def damaged(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 255
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def garbage(path):
    path.write_bytes(b"not a file of ours")


def linked(path):
    elsewhere = path.parents[3] / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [damaged, cut, garbage, linked])
def test_merge_leaves_out_spoilt_parts_and_tables_and_names_them(stores, spoil):
    a, b = stores
    fill(a, range(4))
    save_table(a, range(4))
    fill(b, range(4, 12))
    save_table(b, range(4, 8), "good")
    save_table(b, range(8, 12), "bad")
    bad = [b.feature("e/o").parts[1].path, *(b.path / "tables").glob("bad*.h5")]
    for path in bad:
        spoil(path)
    merged = merge(a, b)
    assert len(merged.refused) == 2
    for path, line in zip(bad, merged.refused, strict=True):
        assert line.startswith(str(path))
    assert a.feature("e/o").has(KEYS).tolist() == [True] * 8 + [False] * 12
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS[:8]), VALUES[:8])
    assert [table.source for table in a.tables()] == ["/good/train.csv", "/t/train.csv"]
    assert verify(a) == []


def test_a_merge_that_left_something_out_has_status_1_and_counts_it(stores):
    a, b = stores
    fill(a, range(4))
    fill(b, range(4, 8))
    save_table(b, range(4, 8))
    (table,) = b.table_files()
    table.write_bytes(b"garbage")
    result = CliRunner().invoke(main, ["store", "merge", str(b.path), "--store", str(a.path)])
    assert result.exit_code == 1
    assert f"not added: {table}" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: 1 files were not added")
    assert "e/o: 4 rows added" in result.stderr


@pytest.mark.parametrize("link", ["features/e/o", "features/e", "features/e/o/spec.json", "features"])
def test_merge_follows_no_links_to_features(stores, link, tmp_path):
    a, b = stores
    fill(a, range(4))
    fill(b, range(4, 8))
    (b.path / link).rename(tmp_path / "elsewhere")
    (b.path / link).symlink_to(tmp_path / "elsewhere")
    merged = merge(a, b)
    assert len(merged.refused) == 1
    assert str(b.path / link) in merged.refused[0]
    assert a.feature("e/o").has(KEYS).sum() == 4


def test_merge_does_not_read_failures_through_a_link(stores, tmp_path):
    a, b = stores
    fill(b, range(4)).record_failures([Failure(content_key(b"bad").hex(), "truncated", "", "bad.jpg")])
    journal = b.folder("e/o") / "failures.jsonl"
    journal.rename(tmp_path / "elsewhere")
    journal.symlink_to(tmp_path / "elsewhere")
    assert len(merge(a, b).refused) == 1
    assert a.feature("e/o").failures() == {}


def test_merge_refuses_rows_of_another_shape(stores):
    a, b = stores
    fill(a, range(4))
    with b.declare("e/o", SPEC).writer(4) as writer:
        writer.append(KEYS[4:8], VALUES[4:8, :3])
    (line,) = merge(a, b).refused
    assert "another shape" in line
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS[:4]), VALUES[:4])


def test_a_table_that_both_have_stays_as_ours_is_and_that_is_said_where_they_differ(stores):
    a, b = stores
    for store in stores:
        fill(store, range(4))
        save_table(store, range(4), "same")
    save_table(a, range(4))
    save_table(b, range(8))
    merged = merge(a, b)
    assert (len(merged.notes), merged.refused) == (1, [])
    assert "/t-train-" in merged.notes[0]
    assert sorted(len(table) for table in a.tables()) == [4, 4]


CALLS = [(os, "pwrite"), (os, "fsync"), (os, "fdatasync"), (os, "replace"), (os, "unlink"), (Path, "replace")]


def merge_killed_at(call, a, b):
    """Merge in another process that dies before its n-th call that writes; whether it ended before that."""
    pid = os.fork()
    if pid == 0:
        calls = itertools.count()

        def deadly(original):
            def watched(*args, **options):
                if next(calls) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **options)

            return watched

        for owner, name in CALLS:
            setattr(owner, name, deadly(getattr(owner, name)))
        merge(a, b)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_merge_killed_at_any_write_leaves_a_valid_store_and_goes_on(stores, tmp_path):
    a, b = stores
    fill(a, range(4))
    save_table(a, range(4))
    fill(b, range(2, 12), at_once=5)
    fill(b, range(3), "f/o")
    save_table(b, range(12), "other")
    kills, finished = 0, False
    while not finished:
        target = Store(tmp_path / f"target-{kills}")
        shutil.copytree(a.path, target.path)
        finished = merge_killed_at(kills, target, b)
        assert verify(target) == []
        np.testing.assert_array_equal(target.feature("e/o").read(KEYS[:4]), VALUES[:4])
        assert "/t/train.csv" in [table.source for table in target.tables()]
        assert merge(target, b).refused == []
        assert verify(target) == []
        np.testing.assert_array_equal(target.feature("e/o").read(KEYS[:12]), VALUES[:12])
        np.testing.assert_array_equal(target.feature("f/o").read(KEYS[:3]), VALUES[:3])
        assert len(target.tables()) == 2
        kills += not finished
    assert kills > 30
