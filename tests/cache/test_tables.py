import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import NO_KEY, Store, StoreError, Table, content_key
from cache.keys import pack
from cache.tables import load_table, save_table

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.lists(st.tuples(text, text, text, st.lists(text, max_size=3, unique=True), text), max_size=8)


def table_of(rows, labelled=True):
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
        caption_keys=pack(content_key(one.encode()) if one else NO_KEY for one in captions),
    )


@settings(deadline=None)
@given(rows, st.booleans())
def test_a_table_comes_back_as_it_was(tmp_path_factory, rows, labelled):
    path = tmp_path_factory.mktemp("tables") / "t.h5"
    table = table_of(rows, labelled)
    save_table(table, path)
    found = load_table(path)
    for name in ("source", "ids", "images", "captions", "labels", "id_column", "label_separator", "columns"):
        assert getattr(found, name) == getattr(table, name)
    assert (found.keys("image") == table.keys("image")).all()
    assert (found.keys("caption") == table.keys("caption")).all()


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
