import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from encode_once.cache import StoreError, content_key
from encode_once.cache import file_index as module
from encode_once.cache.file_index import SETTLED_NS, FileIndex, stat_of


@pytest.fixture
def index(tmp_path):
    return FileIndex(tmp_path / "files.sqlite")


def old_file(path, content=b"x", age_ns=10 * SETTLED_NS):
    path.write_bytes(content)
    moment = time.time_ns() - age_ns
    os.utime(path, ns=(moment, moment))
    return str(path)


def test_the_key_of_an_unchanged_file_is_returned(index, tmp_path):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.find({path: stat_of(path)}) == {path: content_key(b"x")}
    assert index.find({str(tmp_path / "b"): stat_of(path)}) == {}


@pytest.mark.parametrize("change", ["size", "time"])
def test_the_key_of_a_changed_file_is_not_returned(index, tmp_path, change):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    old_file(tmp_path / "a", b"xy" if change == "size" else b"y", age_ns=5 * SETTLED_NS)
    assert index.find({path: stat_of(path)}) == {}


def test_a_recently_modified_file_is_not_added(index, tmp_path):
    path = old_file(tmp_path / "a", age_ns=0)
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.find({path: stat_of(path)}) == {}


def test_a_file_that_only_a_clock_that_is_ahead_calls_old_is_not_added(index, tmp_path, monkeypatch):
    path = old_file(tmp_path / "a", age_ns=0)
    now_ns = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: now_ns() + 600 * 10**9)
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.find({path: stat_of(path)}) == {}


def test_a_damaged_database_is_recreated(index, tmp_path):
    (tmp_path / "files.sqlite").write_bytes(b"no database" * 100)
    path = old_file(tmp_path / "a")
    assert index.find({path: stat_of(path)}) == {}
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.find({path: stat_of(path)}) == {path: content_key(b"x")}


def test_a_damaged_row_is_skipped(index, tmp_path):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    with closing(sqlite3.connect(tmp_path / "files.sqlite")) as connection, connection:
        connection.execute("UPDATE keys_of_files SET key = ?", [content_key(b"y")])
    assert index.find({path: stat_of(path)}) == {}


def test_a_database_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "files.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"files\.sqlite"):
        FileIndex(tmp_path / "files.sqlite").find({"/a": (1, 2)})
    with pytest.raises(StoreError, match=r"files\.sqlite"):
        FileIndex(tmp_path / "files.sqlite").remember([("/a", (1, 2), content_key(b"x"))])


def test_any_path_of_a_file_system_can_be_added(index, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    old_file(Path(path))
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.find({path: stat_of(path)}) == {path: content_key(b"x")}


STATS = {f"/d/{row}.jpg": (row, row) for row in range(1200)}
KEYS = {path: content_key(path.encode()) for path in STATS}


@pytest.mark.parametrize("row_bytes", [0, 10**9], ids=["by path", "all of it"])
@pytest.mark.parametrize("count", [1, 499, 500, 501, 1200])
def test_few_paths_and_many_are_found_alike(index, monkeypatch, row_bytes, count):
    monkeypatch.setattr(module, "ROW_BYTES", row_bytes)
    index.remember((path, stat, KEYS[path]) for path, stat in STATS.items())
    paths = [*STATS][::-1][:count]
    changed = {paths[0]: (0, 1), "/d/never.jpg": (1, 1)}
    keys = index.find({path: STATS[path] for path in paths} | changed)
    assert keys == {path: KEYS[path] for path in paths[1:]}


def test_a_few_paths_of_many_are_looked_up_by_path(index, monkeypatch):
    index.remember((path, stat, KEYS[path]) for path, stat in STATS.items())
    checked = []
    original = module._checksum
    monkeypatch.setattr(module, "_checksum", lambda *row: checked.append(row) or original(*row))
    assert index.find({"/d/7.jpg": (7, 7)}) == {"/d/7.jpg": KEYS["/d/7.jpg"]}
    assert len(checked) == 1


def test_a_read_only_index_is_neither_created_nor_changed(index, tmp_path):
    reader = FileIndex(tmp_path / "files.sqlite", read_only=True)
    reader.remember([("/a", (1, 2), KEYS["/d/1.jpg"])])
    assert reader.find({"/a": (1, 2)}) == {}
    assert list(tmp_path.iterdir()) == []
    index.remember([("/a", (1, 2), KEYS["/d/1.jpg"])])
    before = (tmp_path / "files.sqlite").read_bytes()
    reader.remember([("/a", (1, 2), KEYS["/d/2.jpg"])])
    assert reader.find({"/a": (1, 2)}) == {"/a": KEYS["/d/1.jpg"]}
    assert (tmp_path / "files.sqlite").read_bytes() == before
    (tmp_path / "files.sqlite").write_bytes(b"no database" * 100)
    assert reader.find({"/a": (1, 2)}) == {}
    assert (tmp_path / "files.sqlite").read_bytes() == b"no database" * 100


def test_what_an_index_has_itself_counts_before_its_base(index, tmp_path):
    index.remember([("/a", (1, 2), KEYS["/d/1.jpg"]), ("/b", (1, 2), KEYS["/d/2.jpg"])])
    above = FileIndex(tmp_path / "above.sqlite", base=index)
    assert above.find({"/a": (1, 2), "/b": (1, 2)}) == {"/a": KEYS["/d/1.jpg"], "/b": KEYS["/d/2.jpg"]}
    above.remember([("/a", (1, 2), KEYS["/d/3.jpg"])])
    assert above.find({"/a": (1, 2), "/b": (1, 2)}) == {"/a": KEYS["/d/3.jpg"], "/b": KEYS["/d/2.jpg"]}
    assert index.find({"/a": (1, 2)}) == {"/a": KEYS["/d/1.jpg"]}


def test_of_a_file_in_both_indices_the_later_row_is_kept(index, tmp_path):
    other = FileIndex(tmp_path / "other.sqlite")
    index.remember([("/same", (1, 1), content_key(b"a")), ("/new", (1, 5), content_key(b"b"))])
    index.remember([("/old", (1, 5), content_key(b"c"))])
    other.remember([("/same", (1, 1), content_key(b"x")), ("/new", (2, 4), content_key(b"y"))])
    other.remember([("/old", (2, 6), content_key(b"z")), ("/other", (1, 1), content_key(b"w"))])
    assert index.merge(other) == 2
    assert dict(index.entries()) == {
        "/same": content_key(b"a"),
        "/new": content_key(b"b"),
        "/old": content_key(b"z"),
        "/other": content_key(b"w"),
    }
    assert index.find({"/old": (2, 6), "/other": (1, 1)}) == {
        "/old": content_key(b"z"),
        "/other": content_key(b"w"),
    }
    assert index.merge(other) == 0
    assert index.merge(FileIndex(tmp_path / "missing.sqlite")) == 0


def test_of_a_file_at_a_url_in_both_indices_the_own_row_is_kept(index, tmp_path):
    other = FileIndex(tmp_path / "other.sqlite")  # the numbers are hashes, which have no order
    index.remember([("s3://b/1", (1, -7), content_key(b"a")), ("s3://b/2", (1, -3), content_key(b"b"))])
    other.remember([("s3://b/1", (1, -5), content_key(b"c")), ("s3://b/2", (1, -5), content_key(b"d"))])
    assert index.merge(other) == 0
    assert dict(index.entries()) == {"s3://b/1": content_key(b"a"), "s3://b/2": content_key(b"b")}


def test_rows_of_a_damaged_index_are_not_merged(index, tmp_path):
    index.remember([("/a", (1, 1), content_key(b"a"))])
    path = tmp_path / "other.sqlite"
    other = FileIndex(path)
    other.remember([(f"/{row}", (1, row), content_key(b"x")) for row in range(5000)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :: 7] = bytes(len(content[len(content) // 2 :: 7]))
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"other\.sqlite"):
        index.merge(other)
    path.unlink()
    other.remember([("/good", (1, 1), content_key(b"x")), ("/bad", (1, 1), content_key(b"y"))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE keys_of_files SET size = 9 WHERE path = ?", [b"/bad"])
    assert index.merge(other) == 1
    assert dict(index.entries()).keys() == {"/a", "/good"}
