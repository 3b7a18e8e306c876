import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from encode_once.cache import StoreError, content_key
from encode_once.cache.file_index import SETTLED_NS, StatIndex, stat_of


@pytest.fixture
def index(tmp_path):
    return StatIndex(tmp_path / "files.sqlite")


def old_file(path, content=b"x", age_ns=10 * SETTLED_NS):
    path.write_bytes(content)
    moment = time.time_ns() - age_ns
    os.utime(path, ns=(moment, moment))
    return str(path)


def test_an_unchanged_file_is_known(index, tmp_path):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.known({path: stat_of(path)}) == {path: content_key(b"x")}
    assert index.known({str(tmp_path / "b"): stat_of(path)}) == {}


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_not(index, tmp_path, change):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    old_file(tmp_path / "a", b"xy" if change == "size" else b"y", age_ns=5 * SETTLED_NS)
    assert index.known({path: stat_of(path)}) == {}


def test_a_file_that_may_still_be_written_is_not_remembered(index, tmp_path):
    path = old_file(tmp_path / "a", age_ns=0)
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.known({path: stat_of(path)}) == {}


def test_a_broken_index_is_made_anew(index, tmp_path):
    (tmp_path / "files.sqlite").write_bytes(b"no database" * 100)
    path = old_file(tmp_path / "a")
    assert index.known({path: stat_of(path)}) == {}
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.known({path: stat_of(path)}) == {path: content_key(b"x")}


def test_a_damaged_row_is_passed_over(index, tmp_path):
    path = old_file(tmp_path / "a")
    index.remember([(path, stat_of(path), content_key(b"x"))])
    with closing(sqlite3.connect(tmp_path / "files.sqlite")) as connection, connection:
        connection.execute("UPDATE keys_of_files SET key = ?", [content_key(b"y")])
    assert index.known({path: stat_of(path)}) == {}


def test_an_index_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "files.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"files\.sqlite"):
        StatIndex(tmp_path / "files.sqlite").known({})


def test_any_path_a_file_system_knows_can_be_remembered(index, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    old_file(Path(path))
    index.remember([(path, stat_of(path), content_key(b"x"))])
    assert index.known({path: stat_of(path)}) == {path: content_key(b"x")}
