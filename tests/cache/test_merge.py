"""merge, beyond what the state machine covers."""

import itertools
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import DataError, Failure, SpecMismatchError, Store, StoreError, content_key
from encode_once.cache.maintenance import verify
from encode_once.cache.merge import merge
from encode_once.cli import main
from tests.cache.rows import KEYS, SPEC, VALUES, fill, flip, save_table


@pytest.fixture
def stores(tmp_path):
    return Store(tmp_path / "a"), Store(tmp_path / "b")


def test_merge_adds_rows_failures_and_tables(stores):
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


def test_merging_twice_adds_nothing(stores):
    a, b = stores
    fill(b, range(16))
    merge(a, b)
    parts = [part.path for part in a.feature("e/o").parts]
    assert merge(a, b).changes[0].rows == 0
    assert [part.path for part in a.feature("e/o").parts] == parts


def test_a_merge_of_different_specs_changes_nothing(stores):
    a, b = stores
    fill(a, range(4), "z/o")
    fill(b, range(4, 8), "a/o")
    fill(b, range(4, 8), "z/o", SPEC | {"weights": "others"})
    with pytest.raises(SpecMismatchError, match="weights: stored w, asked for others"):
        merge(a, b)
    assert a.features() == ["z/o"]
    assert len(a.feature("z/o")) == 4


def test_merge_adds_the_committed_rows_of_an_open_writer(stores):
    a, b = stores
    feature = b.declare("e/o", SPEC)
    with feature.writer(20) as writer:
        writer.append(KEYS[:6], VALUES[:6])
        assert merge(a, b).changes[0].rows == 6
        writer.append(KEYS[6:], VALUES[6:])
    assert merge(a, b).changes[0].rows == 14
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS), VALUES)


def test_a_store_is_not_merged_with_itself_or_an_empty_one(stores):
    a, b = stores
    fill(a, range(4))
    with pytest.raises(DataError, match="not another store"):
        merge(a, a)
    with pytest.raises(DataError, match="not another store"):
        merge(a, b)


def test_merge_never_replaces_a_part_of_the_same_name(stores):
    a, b = stores
    (part,) = fill(a, range(16), part_rows=16).parts
    (other,) = fill(b, range(16, 20)).parts
    other.path.rename(other.path.with_name(part.path.name))
    assert merge(a, b).changes[0].rows == 4
    np.testing.assert_array_equal(a.feature("e/o").read(KEYS), VALUES)
    assert verify(a) == []


def test_merge_adds_only_missing_rows(stores):
    a, b = stores
    fill(a, range(4))
    fill(b, range(8), part_rows=8)
    (copy,) = b.feature("e/o").parts
    shutil.copyfile(copy.path, copy.path.with_name("copy.h5"))
    assert merge(a, b).changes[0].rows == 4
    assert [part.rows for part in a.feature("e/o").parts] == [4, 4]


def damage(path):
    flip(path, -20, 255)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    path.write_bytes(b"another file")


def link(path):
    elsewhere = path.with_suffix(".elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [damage, truncate, overwrite, link])
def test_merge_leaves_out_damaged_and_linked_files_and_lists_them(stores, spoil):
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


def test_a_merge_that_leaves_files_out_has_status_1(stores):
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


def test_a_table_of_both_stores_is_kept_and_a_difference_is_reported(stores):
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
    """Merge in a process that is killed before its write number `call`; whether it finished before."""
    pid = os.fork()
    if pid == 0:
        calls = itertools.count()

        def kill_at_call(original):
            def wrapped(*args, **options):
                if next(calls) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **options)

            return wrapped

        for owner, name in CALLS:
            setattr(owner, name, kill_at_call(getattr(owner, name)))
        merge(a, b)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.slow
def test_a_merge_killed_at_any_write_leaves_a_valid_store_and_can_be_repeated(stores, tmp_path, stride):
    a, b = stores
    fill(a, range(4))
    save_table(a, range(4))
    fill(b, range(2, 12), part_rows=5)
    fill(b, range(3), "f/o")
    save_table(b, range(12), "other")
    call, finished = 0, False
    while not finished:
        target = Store(tmp_path / f"target-{call}")
        shutil.copytree(a.path, target.path)
        finished = merge_killed_at(call, target, b)
        assert verify(target) == []
        np.testing.assert_array_equal(target.feature("e/o").read(KEYS[:4]), VALUES[:4])
        assert "/t/train.csv" in [table.source for table in target.tables()]
        assert merge(target, b).refused == []
        assert verify(target) == []
        np.testing.assert_array_equal(target.feature("e/o").read(KEYS[:12]), VALUES[:12])
        np.testing.assert_array_equal(target.feature("f/o").read(KEYS[:3]), VALUES[:3])
        assert len(target.tables()) == 2
        call += 0 if finished else stride
    assert call > 30


def test_tables_alone_are_not_merged_into_a_read_only_store(stores):
    a, b = stores
    for store in stores:
        save_table(store, range(4))
    with pytest.raises(StoreError, match="opened for reading only"):
        merge(Store(a.path, read_only=True), b)
