import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from encode_once.cache import DataError, Failure, MissingDataError, StoreError, UsageError
from encode_once.cache.table import LabelSet
from encode_once.classify import load
from tests.classify.conftest import CLASSES


@pytest.fixture
def store(filled):
    """A store whose fourth image could not be encoded."""
    store = filled(50, missing=(3,))
    key = store.table().keys("image")[3].tobytes().hex()
    store.feature("e/image").record_failures([Failure(key, "truncated", "", "")])
    return load(store.path)


def test_a_data_set_has_the_vectors_and_labels_of_a_table(store):
    table, data = store.table(), store.dataset("train")
    keys, present = table.keys("image"), np.arange(50) != 3
    X = np.asarray(data.X)
    assert (X.shape, X.dtype, len(data)) == ((50, 16), np.float32, 50)
    np.testing.assert_array_equal(X[present, :8], store.feature("e/image").read(keys[present]))
    np.testing.assert_array_equal(X[:, 8:], store.feature("e/text").read(keys))
    assert np.isnan(X[3, :8]).all()
    assert "e/image: 1 of 50 rows have no vector, but NaN" in data.warnings
    assert (data.features, data.ids) == (["e/image", "e/text"], table.ids)
    assert sorted(data.classes) == sorted(CLASSES)
    labels = [{data.classes[c] for c in np.flatnonzero(row)} for row in data.Y]
    assert labels == list(map(set, table.labels))


def test_a_frame_holds_the_numbers_of_the_arrays(store):
    data = store.dataset()
    frame = data.frame()
    assert frame.index.tolist() == data.ids
    assert frame.index.name == store.table().id_column
    pd.testing.assert_frame_equal(frame["e/text"], store.frame("e/text"), check_column_type=False)
    np.testing.assert_array_equal(frame[data.features].to_numpy(), np.asarray(data.X))
    np.testing.assert_array_equal(frame["labels"].to_numpy(), data.Y)
    assert frame["labels"].columns.tolist() == data.classes
    assert {*frame["labels"].dtypes} == {np.dtype(bool)}
    assert {*frame["e/image"].dtypes} == {np.dtype(np.float32)}


def test_features_classes_and_tables_are_chosen(store):
    data = store.dataset(store.table().name, "e/text", classes=["dog", "unicorn"])
    assert (data.X.shape, data.features) == ((50, 8), ["e/text"])
    has_dog = ["dog" in labels for labels in store.table().labels]
    np.testing.assert_array_equal(data.Y, np.stack([has_dog, np.zeros(50)], axis=1))
    others = sum(bool(set(labels) - {"dog"}) for labels in store.table().labels)
    assert f"{others} of 50 rows have labels that are not among the classes" in data.warnings[-1]
    table = store.table()
    table.source, table.split, table.labels = table.source.replace("train", "test"), "test", None
    store.save(table, [])
    test = store.dataset("test", classes=data.classes)
    assert test.Y.tolist() == [[False, False]] * 50
    assert not any("among the classes" in line for line in test.warnings)
    assert store.dataset("test").Y.shape == (50, 0)
    assert "labels" not in store.dataset("test").frame()
    assert store.dataset().table.split == "train"
    assert store.dataset("train", classes="dog").classes == ["dog"]


def test_labels_are_those_of_a_label_set(store):
    table = store.table()
    moods = [("calm",) if row % 3 else ("wild", "calm") for row in range(50)]
    store.save(replace(table, label_sets={"mood": LabelSet("mood=Mood", ["Mood"], ";", moods)}), [])
    for name in ("train", None):
        data = store.dataset(name, labels="mood")
        assert data.classes == ["calm", "wild"]
        assert data.Y.tolist() == [[True, row % 3 == 0] for row in range(50)]
    assert sorted(store.dataset().classes) == sorted(CLASSES)


def test_scikit_learn_takes_a_data_set_as_it_is(store):
    data = store.dataset(features=["e/text"])
    X, X_eval, Y, Y_eval = train_test_split(data.X, data.Y, random_state=0)
    expected = train_test_split(np.asarray(data.X), data.Y, random_state=0)
    for own, other in zip((X, X_eval, Y, Y_eval), expected, strict=True):
        np.testing.assert_array_equal(own, other)


def test_what_cannot_be_read_is_one_clear_line(store, tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere is not a store: run extract first"):
        load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"unknown table of .* 'trian': did you mean 'train'"):
        store.dataset("trian")
    with pytest.raises(UsageError, match="tfidf:100 is learned from the train rows of a run"):
        store.dataset("train", ["e/text", "tfidf:100"])
    with pytest.raises(UsageError, match="classes named more than once: dog"):
        store.dataset("train", classes=["dog", "cat", "dog"])
    with pytest.raises(UsageError, match="has no label set 'mood'"):
        store.dataset("train", labels="mood")
    with pytest.raises(StoreError, match="reading only"):
        load(store.path, read_only=True).save(store.table())
    (tmp_path / "data" / "train.csv").write_text("other")
    for name in ("train", None):
        with pytest.raises(DataError, match="changed since extract read it: run extract again"):
            store.dataset(name)


def test_the_store_of_a_data_set_stays_what_it_is(store):
    copy = pickle.loads(pickle.dumps(store))
    assert type(copy) is type(store)
    assert repr(copy) == f"DatasetStore({str(store.path)!r})"
    assert store.dataset().store is store
