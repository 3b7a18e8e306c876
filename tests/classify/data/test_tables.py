import os

import pytest

from encode_once.cache import NO_KEY, DataError, Store, Table
from encode_once.cache.captions import text_keys
from encode_once.cache.packed_columns import PackedColumn
from encode_once.cache.table import load_table, save_table
from encode_once.classify.data.tables import choose_table, stacked


def test_the_table_is_the_only_labelled_one_or_that_of_the_data(filled, tmp_path):
    store = filled(5)
    assert choose_table(store, None).source.endswith("data/train.csv")
    filled(5, source="more/train.csv", seed=1)
    with pytest.raises(DataError, match="2 tables with labels"):
        choose_table(store, None)
    assert choose_table(store, tmp_path / "more").source.endswith("more/train.csv")
    with pytest.raises(DataError, match="no table with labels"):
        choose_table(store, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="run extract"):
        choose_table(Store(tmp_path / "new"), None)


def test_a_table_edited_after_extract_is_an_error(filled, tmp_path):
    store = filled(5)
    source = tmp_path / "data" / "train.csv"
    source.write_text("edited")
    os.utime(source, (1.6e9, 1.6e9))
    with pytest.raises(DataError, match="changed since"):
        choose_table(store, None)


def test_of_several_splits_train_is_chosen(filled, tmp_path):
    store = filled(5)
    (table,) = store.tables()
    val = tmp_path / "data" / "val.csv"
    val.touch()
    table.source, table.split = str(val), "val"
    store.save(table)
    assert choose_table(store, None).split == "train"
    assert choose_table(store, tmp_path / "data").split == "train"
    assert choose_table(store, val).split == "val"


def saved(path, split, ids, more=(), unknown=()):
    """A table of the store with these ids, which are its captions and columns, too."""
    columns = [[f"{column} {row}" for row in range(len(ids))] for column in more]
    table = Table(
        "/data/t.csv", ids, ids, ids, [(name,) for name in ids], split=split, columns={"note": ids},
        image_keys=text_keys(ids), caption_keys=text_keys(ids), more_captions=columns,
        more_caption_keys=[text_keys(column) for column in columns], unknown=[*unknown],
    )  # fmt: skip
    save_table(table, path)
    return load_table(path)


@pytest.mark.parametrize("repeated", [False, True])
def test_the_rows_of_splits_follow_each_other_in_packed_columns(tmp_path, repeated):
    ids, others = ["a", "caf\udce9"], ["a" if repeated else "c", "b", ""]
    train = saved(tmp_path / "train.h5", "train", ids)
    val = saved(tmp_path / "val.h5", "val", others, more=["x", "y"], unknown=[("a",), (), ("b",)])
    both = stacked([train, val])
    names = [*(f"train/{name}" for name in ids), *(f"val/{name}" for name in others)]
    assert both.ids == (names if repeated else ids + others)
    assert both.images == both.captions == both.columns["note"] == ids + others
    assert both.labels == [(name,) for name in ids + others]
    assert both.unknown == [(), (), ("a",), (), ("b",)]
    assert both.columns["tables"] == ["train"] * 2 + ["val"] * 3
    assert both.more_captions == [["", "", "x 0", "x 1", "x 2"], ["", "", "y 0", "y 1", "y 2"]]
    assert both.image_keys.tolist() == both.caption_keys.tolist() == text_keys(ids + others).tolist()
    assert [keys.tobytes() for keys in both.more_caption_keys] == [
        2 * NO_KEY + keys.tobytes() for keys in val.more_caption_keys
    ]
    columns = (both.ids, both.labels, both.unknown, *both.columns.values(), *both.more_captions)
    assert all(isinstance(column, PackedColumn) for column in columns)
    assert both.row_keys.tolist() == [*train.keys("row").tolist(), *val.keys("row").tolist()]
