import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import NO_KEY, DamagedError, Store, StoreError, Table, content_key
from encode_once.cache import table as tables
from encode_once.cache.format import hdf5
from encode_once.cache.format.header import stamp_whole
from encode_once.cache.keys import pack
from encode_once.cache.table import KIND, TableHeader, load_table, save_table

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.lists(st.tuples(text, text, text, st.lists(text, max_size=3, unique=True), text), max_size=8)
COLUMNS = (
    *("source", "ids", "images", "captions", "labels", "id_column", "label_separator", "columns"),
    *("split", "more_sources", "more_captions", "unknown"),
)


def table_of(rows, labelled=True, more=0):
    ids, images, captions, labels, extra = (
        (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 5
    )
    return Table(
        source="/data/train.csv",
        ids=ids,
        images=images,
        captions=captions,
        labels=[tuple(row) for row in labels] if labelled else None,
        label_separator=";",
        columns={"Split/\x00": extra, "": ids},
        image_keys=pack(content_key(image.encode()) for image in images),
        caption_keys=keys_of(captions),
        split="val 2017",
        more_sources=["/data/2.csv"] * more,
        more_captions=[extra] * more,
        more_caption_keys=[keys_of(extra)] * more,
    )


def keys_of(captions):
    return pack(content_key(text.encode()) if text else NO_KEY for text in captions)


@given(rows, st.booleans(), st.integers(0, 2), st.sampled_from([0, 1 << 26]))
def test_a_saved_table_is_loaded_unchanged(tmp_path_factory, rows, labelled, more, mapped_bytes):
    path = tmp_path_factory.mktemp("tables") / "t.h5"
    table = table_of(rows, labelled, more)
    save_table(table, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "MAPPED_BYTES", mapped_bytes)
        loaded = load_table(path)
    for name in COLUMNS:
        assert getattr(loaded, name) == getattr(table, name)
    assert (loaded.keys("image") == table.keys("image")).all()
    assert loaded.all_keys("caption").shape == (1 + more, len(rows), 16)
    assert (loaded.all_keys("caption") == table.all_keys("caption")).all()


@pytest.mark.parametrize("mapped_bytes", [0, 1 << 26])
def test_the_arrays_of_a_saved_table_cannot_be_changed_whatever_its_size(tmp_path, monkeypatch, mapped_bytes):
    save_table(table_of([("a", "i.jpg", "x", ["l"], "e")], more=1), tmp_path / "t.h5")
    monkeypatch.setattr(hdf5, "MAPPED_BYTES", mapped_bytes)
    loaded = load_table(tmp_path / "t.h5")
    for keys in (loaded.image_keys, loaded.caption_keys, *loaded.more_caption_keys):
        with pytest.raises(ValueError, match="read-only"):
            keys[0] = 0


def test_small_tables_in_memory_keep_no_file_open_and_outlive_their_files(tmp_path):
    save_table(table_of([("a", "i.jpg", "x", ["l"], "e")]), tmp_path / "t.h5")
    before = len(os.listdir("/proc/self/fd"))
    loaded = [load_table(tmp_path / "t.h5") for _ in range(9)]
    assert len(os.listdir("/proc/self/fd")) == before
    os.truncate(tmp_path / "t.h5", 0)  # a mapped page of it would end the process
    assert {(*table.ids, *table.labels) for table in loaded} == {("a", ("l",))}


def test_a_table_of_version_2_is_read_with_one_caption_a_row(tmp_path):
    table = table_of([("a", "i.jpg", "x", ["l"], "e")])
    path = tmp_path / "t.h5"
    save_table(table, path)
    with h5py.File(path, "r+") as file:  # as version 2 wrote it
        for name in ("more_sources", "more_caption_keys"):
            del file[name]
        del file.attrs["split"]
        file.attrs["version"] = 2
    stamp_whole(path, ("encode-once table", 2))
    loaded = load_table(path)
    assert (loaded.ids, loaded.captions, loaded.more_captions, loaded.split) == (["a"], ["x"], [], "train")
    assert (loaded.all_keys("caption") == table.all_keys("caption")).all()


def test_a_table_of_a_later_version_is_refused(tmp_path):
    save_table(table_of([]), tmp_path / "t.h5")
    stamp_whole(tmp_path / "t.h5", ("encode-once table", KIND[1] + 1))
    with pytest.raises(StoreError, match="update this one"):
        load_table(tmp_path / "t.h5")


@pytest.fixture
def sources(tmp_path):
    """Two files, and a store with a table that was read from both."""
    files = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for file in files:
        file.write_text("old")
    table = table_of([])
    table.source, table.more_sources = str(files[0]), [str(files[1])]
    store = Store(tmp_path / "store")
    store.save(table)
    return files, store, table


@pytest.mark.parametrize("content", ["new", "longer"])
@pytest.mark.parametrize("seconds", [-(10**6), 1, 10**6], ids=["older", "newer", "future"])
@pytest.mark.parametrize("changed", [0, 1])
def test_a_table_is_outdated_if_the_content_of_a_source_has_changed(sources, content, seconds, changed):
    """For any time that `cp -p`, `rsync -t` or `unzip` may set."""
    files, store, table = sources
    assert not store.is_outdated(table)
    moment = files[changed].stat().st_mtime_ns + seconds * 10**9
    files[changed].write_text(content)
    os.utime(files[changed], ns=(moment, moment))
    assert store.is_outdated(table)
    store.save(table)  # as extract does
    assert not store.is_outdated(table)


@pytest.mark.parametrize("seconds", [-(10**6), 10**6])
def test_a_table_is_not_outdated_if_only_the_time_of_a_source_has_changed(sources, seconds):
    files, store, table = sources
    moment = files[0].stat().st_mtime_ns + seconds * 10**9
    files[0].write_text("new")
    files[0].write_text("old")
    os.utime(files[0], ns=(moment, moment))
    assert not store.is_outdated(table)
    files[1].unlink()
    assert not store.is_outdated(table)


def test_a_table_of_version_3_is_outdated_when_a_file_is_newer(sources):
    files, store, table = sources
    (path,) = store.table_files()
    stamp_whole(path, ("encode-once table", 3))
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 3
    stamp_whole(path, ("encode-once table", 3))
    assert store.headers() == [TableHeader(table.source, "val 2017", 0, True)]
    assert not store.is_outdated(table)
    os.utime(files[1], (10**10, 10**10))
    assert store.is_outdated(table)


@pytest.mark.parametrize("change", ["caption", "new caption", "new image"])
def test_a_table_is_outdated_if_a_text_or_a_file_name_of_its_folder_has_changed(tmp_path, change):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("0.jpg", "0.txt", "1.jpg"):
        (folder / name).write_text(name)
    table = table_of([])
    table.source = str(folder)
    store = Store(tmp_path / "store")
    store.save(table)
    os.utime(folder, (1, 1))
    assert not store.is_outdated(table)
    names = {"caption": "0.txt", "new caption": "1.txt", "new image": "2.jpg"}
    (folder / names[change]).write_text("another caption")
    os.utime(folder, (1, 1))
    assert store.is_outdated(table)


@given(rows, st.booleans(), st.integers(0, 300))
def test_headers_are_read_without_the_tables(tmp_path_factory, rows, labelled, more):
    store = Store(tmp_path_factory.mktemp("tables") / "store")
    table = table_of(rows, labelled, 1)
    table.more_sources = [f"/data/é{number}.csv" for number in range(more)]
    store.save(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5py, "File", lambda *_, **__: pytest.fail("a table was read"))
        (header,) = store.headers()
    assert header == TableHeader("/data/train.csv", "val 2017", len(rows), labelled, [])
    assert store.load(header).ids == store.table(header.name).ids == table.ids


def test_only_the_requested_table_is_read(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    for number in range(3):
        table = table_of([("a", "", "x", [], "")])
        table.source = f"/data/{number}.csv"
        store.save(table)
    read = []
    original = tables.load_table
    monkeypatch.setattr(
        "encode_once.cache.store.load_table", lambda path: read.append(path.stem) or original(path)
    )
    assert store.table(table.name).source == "/data/2.csv"
    assert read == [table.name]


def test_a_damaged_header_is_detected(sources):
    _, store, _ = sources
    (path,) = store.table_files()
    content = path.read_bytes()
    for at in (8192, 8200, 8192 + content[8192:].index(b"}]}")):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        for read in (store.headers, store.tables):
            with pytest.raises(DamagedError):
                read()


def test_a_saved_table_replaces_the_one_of_the_same_source(tmp_path):
    store = Store(tmp_path / "store")
    store.save(table_of([("a", "", "x", [], "")]))
    store.save(table_of([("b", "", "x", [], "")]))
    assert [table.ids for table in store.tables()] == [["b"]]


def test_unknown_labels_are_saved_taken_and_compared_and_older_programs_refuse_them(tmp_path, monkeypatch):
    table = table_of([(str(row), "", "a", ["dog"][: row % 2], "") for row in range(4)])
    save_table(table, tmp_path / "all.h5")
    marked = replace(
        table, unknown=[("cat",), (), ("dog", "cat"), ()], unknown_marks=["NA", "?"], uncertain="negative"
    )
    save_table(marked, tmp_path / "marked.h5")
    loaded = load_table(tmp_path / "marked.h5")
    assert loaded.unknown == marked.unknown
    assert (loaded.unknown_marks, loaded.uncertain) == (["NA", "?"], "negative")
    assert loaded.has_rows_of(marked)
    assert not loaded.has_rows_of(table)
    assert loaded.take(np.array([2, 1])).unknown == [("dog", "cat"), ()]
    assert table.take(np.array([2, 1])).unknown == []
    assert "?dog, ?cat" in loaded._repr_html_()
    monkeypatch.setattr(tables, "KIND", (tables.KIND[0], 4))  # as a program that knows no unknown labels
    assert load_table(tmp_path / "all.h5").has_rows_of(table)
    for read in (load_table, tables.read_header):
        with pytest.raises(StoreError, match="A newer encode-once wrote it"):
            read(tmp_path / "marked.h5")
