import numpy as np
import pytest

from cache import DataError, Failure, MissingRowsError, Store, UnknownFeatureError, content_key
from cache.keys import pack
from classify.features import Reference, choose, choose_table, class_names, label_matrix, load


def test_features_stand_side_by_side_in_the_tables_order(filled):
    store = filled(20)
    (table,) = store.tables()
    chosen = choose(store, ["e/text", "e/image"])
    matrix = load(chosen, table)
    assert matrix.dims == {"e/text": 8, "e/image": 8}
    assert (len(matrix), matrix.shape) == (20, (20, 16))
    X = matrix[:]
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[:, :8], store.feature("e/text").read(table.keys("caption")))
    np.testing.assert_array_equal(X[:, 8:], store.feature("e/image").read(table.keys("image")))
    assert matrix.warnings == []


def test_by_default_every_feature_with_a_vector_a_row_is_taken(filled):
    store = filled(5)
    tokens = store.declare("e/tokens", {"modality": "caption"})
    with tokens.writer(1) as writer:
        writer.append(pack([content_key(b"x")]), np.ones((2, 3), np.float16), np.array([2]))
    store.declare("e/empty", {"modality": "image"})
    assert [feature.name for feature in choose(store, [])] == ["e/image", "e/text"]
    with pytest.raises(DataError, match="e/tokens holds a sequence"):
        choose(store, ["e/tokens"])
    with pytest.raises(UnknownFeatureError, match="did you mean 'e/text'"):
        choose(store, ["e/txt"])


def test_rows_never_extracted_are_an_error_and_failed_ones_a_warning(filled):
    store = filled(10, missing={3, 4})
    (table,) = store.tables()
    chosen = choose(store, ["e/image"])
    with pytest.raises(MissingRowsError, match="e/image lacks 2 of the 10 rows"):
        load(chosen, table)
    failures = [Failure(table.keys("image")[row].tobytes().hex(), "truncated", "", "") for row in (3, 4)]
    chosen[0].feature.record_failures(failures)
    matrix = load(chosen, table)
    assert np.isnan(matrix[np.array([3, 4])]).all()
    assert not np.isnan(np.delete(matrix[:], [3, 4], axis=0)).any()
    assert "2 of 10 rows have no vector" in matrix.warnings[0]


def test_random_weights_are_said_again_when_they_are_used(filled):
    store = filled(5)
    (table,) = store.tables()
    feature = store.declare("r/image", {"modality": "image", "weights": "RANDOM(seed=0)"})
    with feature.writer(5) as writer:
        writer.append(table.keys("image"), np.ones((5, 2), np.float16))
    assert load([Reference(feature)], table).warnings == [
        "r/image has RANDOM weights: its vectors mean nothing"
    ]


def test_classes_come_in_natural_order():
    assert class_names([("10", "9"), ("b2", "b10", "a")]) == ["9", "10", "a", "b2", "b10"]


def test_labels_that_are_no_class_are_left_out():
    Y = label_matrix([("a", "x"), (), ("b", "a")], ["a", "b"])
    assert Y.tolist() == [[True, False], [False, False], [True, True]]


def test_the_table_is_the_only_labelled_one_or_the_one_named(filled, tmp_path):
    store = filled(5)
    assert choose_table(store, None).source.endswith("data/train.csv")
    filled(5, source="more/train.csv", seed=1)
    with pytest.raises(DataError, match="2 tables with labels"):
        choose_table(store, None)
    assert choose_table(store, tmp_path / "more").source.endswith("more/train.csv")
    with pytest.raises(DataError, match="no table with labels"):
        choose_table(store, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="run extract first"):
        choose_table(Store(tmp_path / "new"), None)


def test_a_table_edited_since_is_refused(filled, tmp_path):
    store = filled(5)
    source = tmp_path / "data" / "train.csv"
    later = (source.stat().st_mtime_ns // 10**9 + 60) * 10**9
    __import__("os").utime(source, ns=(later, later))
    with pytest.raises(DataError, match="changed since"):
        choose_table(store, None)
