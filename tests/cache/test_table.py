import os

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encode_once.cache import NO_KEY, Store, StoreError, Table, content_key
from encode_once.cache.format.header import stamp_whole
from encode_once.cache.keys import pack
from encode_once.cache.table import load_table, save_table

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.lists(st.tuples(text, text, text, st.lists(text, max_size=3, unique=True), text), max_size=8)
COLUMNS = (
    *("source", "ids", "images", "captions", "labels", "id_column", "label_separator", "columns"),
    *("split", "more_sources", "more_captions"),
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
    return pack(content_key(one.encode()) if one else NO_KEY for one in captions)


@settings(deadline=None)
@given(rows, st.booleans(), st.integers(0, 2))
def test_a_table_comes_back_as_it_was(tmp_path_factory, rows, labelled, more):
    path = tmp_path_factory.mktemp("tables") / "t.h5"
    table = table_of(rows, labelled, more)
    save_table(table, path)
    found = load_table(path)
    for name in COLUMNS:
        assert getattr(found, name) == getattr(table, name)
    assert (found.keys("image") == table.keys("image")).all()
    assert found.all_keys("caption").shape == (1 + more, len(rows), 16)
    assert (found.all_keys("caption") == table.all_keys("caption")).all()


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
    found = load_table(path)
    assert (found.ids, found.captions, found.more_captions, found.split) == (["a"], ["x"], [], "train")
    assert (found.all_keys("caption") == table.all_keys("caption")).all()


def test_a_table_of_a_version_to_come_is_refused(tmp_path):
    save_table(table_of([]), tmp_path / "t.h5")
    stamp_whole(tmp_path / "t.h5", ("encode-once table", 4))
    with pytest.raises(StoreError, match="update this one"):
        load_table(tmp_path / "t.h5")


def test_a_table_is_outdated_when_any_of_its_files_is_newer(tmp_path):
    files = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for file in files:
        file.touch()
    table = table_of([])
    table.source, table.more_sources = str(files[0]), [str(files[1])]
    store = Store(tmp_path / "store")
    store.save(table)
    assert not store.is_outdated(table)
    os.utime(files[1], (10**10, 10**10))
    assert store.is_outdated(table)


def test_a_store_keeps_the_last_state_of_each_table(tmp_path):
    store = Store(tmp_path / "store")
    store.save(table_of([("a", "", "x", [], "")]))
    store.save(table_of([("b", "", "x", [], "")]))
    assert [table.ids for table in store.tables()] == [["b"]]


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w"):
        pass
    with pytest.raises(StoreError, match="not written by this program"):
        load_table(tmp_path / "t.h5")
