"""Features are dropped and tables forgotten, whole or, after a kill, in part, but never damaged."""

import os
from itertools import count
from pathlib import Path

import pytest

from encode_once.cache import Store, StoreBusyError, StoreError, UnknownFeatureError, UsageError
from encode_once.cache.maintenance import drop_feature, forget_table, verify
from tests.cache.rows import KEYS, VALUES, fill, save_table
from tests.conftest import files_of


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for name in ("e/a", "e/b"):
        fill(store, range(12), name, {"modality": "image", "output": name})
    save_table(store, range(12))
    return store


def test_a_dropped_feature_is_gone_and_all_else_is_as_it_was(store):
    others = {path: content for path, content in files_of(store.path).items() if "/a/" not in str(path)}
    size = store.feature("e/a").nbytes
    assert vars(drop_feature(store, "e/a")) == {"name": "e/a", "rows": 12, "nbytes": size}
    left = {path: content for path, content in files_of(store.path).items() if path.suffix != ".lock"}
    assert left == {path: content for path, content in others.items() if path.suffix != ".lock"}
    assert Store(store.path).features() == ["e/b"]
    assert verify(Store(store.path)) == []
    with pytest.raises(UnknownFeatureError):
        drop_feature(store, "e/a")


def test_its_name_can_be_used_again_with_another_spec(store):
    drop_feature(store, "e/a")
    feature = fill(store, range(5), "e/a", {"modality": "image", "output": "other"})
    assert (feature.read(KEYS[:5]) == VALUES[:5]).all()
    assert verify(Store(store.path)) == []


def test_after_a_kill_at_any_file_the_store_is_sound_and_the_drop_can_be_repeated(store, monkeypatch):
    content, unlink, left = files_of(store.path), Path.unlink, 0

    def dying(path, missing_ok=False):
        nonlocal left
        if path.suffix != ".owner":  # of a lock, which a dead process does not hold
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    for kills in count():
        left = kills
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying)
            try:
                drop_feature(Store(store.path), "e/a")
                break
            except KeyboardInterrupt:
                pass
        again = Store(store.path)
        assert verify(again) == []
        if "e/a" in again.features():
            assert again.feature("e/a").has(KEYS[:12]).sum() == len(again.feature("e/a"))
            drop_feature(again, "e/a")
        assert not [*again.feature_folder("e/a").glob("*.h5*")]
        assert again.features() == ["e/b"]
        for path, file in content.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file)
    assert kills > 6  # notes, parts, spec


def test_a_feature_that_is_being_written_or_a_store_that_is_only_read_is_refused(store, tmp_path):
    with (
        store.feature("e/a").writer(1),
        pytest.raises(StoreBusyError, match="another process is writing e/a"),
    ):
        drop_feature(Store(store.path), "e/a")
    for refusing in (Store(store.path, read_only=True), Store(tmp_path / "scratch", base=store)):
        before = files_of(tmp_path)
        with pytest.raises(StoreError):
            drop_feature(refusing, "e/a")
        with pytest.raises(StoreError):
            forget_table(refusing, store.headers()[0].name)
        assert files_of(tmp_path) == before


def test_a_damaged_feature_can_be_dropped(store):
    part = store.feature("e/a").parts[0].path
    part.write_bytes(b"")
    assert drop_feature(Store(store.path), "e/a").nbytes > 0
    assert Store(store.path).features() == ["e/b"]


def test_a_table_is_forgotten_by_name_or_by_its_source(store, tmp_path):
    source = tmp_path / "data" / "train.csv"
    source.parent.mkdir()
    source.touch()
    table = store.tables()[0]
    table.source = str(source)
    store.save(table)
    before = {path: content for path, content in files_of(store.path).items() if path.suffix != ".h5"}
    assert forget_table(store, os.path.relpath(source)).rows == 12
    store.save(table)
    source.unlink()
    assert forget_table(store, os.path.relpath(source)).rows == 12
    (header,) = store.headers()
    with pytest.raises(UsageError, match="did you mean"):
        forget_table(store, header.name[:-1])
    assert forget_table(store, header.name).rows == 12
    assert store.headers() == []
    assert {p: c for p, c in files_of(store.path).items() if p.suffix != ".h5"} == before
    assert len(store.feature("e/a")) == 12


def test_a_damaged_table_can_be_forgotten(store):
    (path,) = store.table_files()
    path.write_bytes(b"")
    assert forget_table(store, path.stem).rows == 0
    assert store.table_files() == []


def test_what_is_deleted_is_reported_at_once_and_nothing_is_where_a_name_is_wrong(store, run):
    (header,) = store.headers()
    before = files_of(store.path)
    for words in (("drop", "e/a", "e/c"), ("forget", header.name, "x")):
        assert "deleted" not in run("store", *words, "--store", store.path, status=2).stderr
        assert files_of(store.path) == before
    with store.feature("e/b").writer(1):
        printed = run("store", "drop", "e/a", "e/a", "e/b", "--store", store.path, status=1).stderr
    assert printed.count("e/a: deleted, with 12 rows") == 1
    assert Store(store.path).features() == ["e/b"]
