import os

import pytest

from encode_once.cache import DataError, Store
from encode_once.classify.data.tables import choose_table


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
