import os

import numpy as np
import pytest

from encode_once.cache import (
    NO_KEY,
    DataError,
    Failure,
    MissingRowsError,
    Store,
    Table,
    UnknownFeatureError,
    UsageError,
    content_key,
)
from encode_once.cache.keys import pack
from encode_once.classify.data.features import StoredFeature, choose, load
from encode_once.classify.data.labels import choose_table, class_names, label_matrix
from encode_once.classify.data.rows import image_and_caption_keys
from encode_once.classify.runs.predict import choose_split


def test_features_stand_side_by_side_in_the_tables_order(filled):
    store = filled(20)
    (table,) = store.tables()
    chosen = choose(store, ["e/text", "e/image"])
    matrix = load(chosen, table)
    assert matrix.shapes == {"e/text": (1, 8), "e/image": (1, 8)}
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
    assert [feature.name for feature in choose(store, ["e/tokens"])] == ["e/tokens"]
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
    assert load([StoredFeature(feature)], table).warnings == [
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
    source.write_text("edited")
    os.utime(source, (1.6e9, 1.6e9))
    with pytest.raises(DataError, match="changed since"):
        choose_table(store, None)


def captioned(tmp_path, captions):
    """A store with a vector for each caption but those that begin with "bad", and a table of these rows."""
    store = Store(tmp_path / "store")
    feature = store.declare("e/text", {"modality": "caption"})
    distinct = [text for text in dict.fromkeys(t for row in captions for t in row) if text]
    vectors = {text: np.random.default_rng(n).normal(size=4).astype("f2") for n, text in enumerate(distinct)}
    good = [text for text in distinct if not text.startswith("bad")]
    with feature.writer(len(good)) as writer:
        writer.append(pack(content_key(t.encode()) for t in good), np.stack([vectors[t] for t in good]))
    bad = [Failure(content_key(t.encode()).hex(), "no", "", "") for t in distinct if t not in good]
    feature.record_failures(bad)
    return feature, table_of_captions(captions), {text: vectors[text] for text in good}


def table_of_captions(captions):
    columns = [list(column) for column in zip(*captions, strict=True)]
    keys = [pack(content_key(t.encode()) if t else NO_KEY for t in column) for column in columns]
    names = [str(n) for n in range(len(captions))]
    return Table(
        source="/d/train.csv",
        ids=names,
        images=[""] * len(names),
        captions=columns[0],
        labels=None,
        image_keys=pack([NO_KEY] * len(names)),
        caption_keys=keys[0],
        more_captions=columns[1:],
        more_caption_keys=keys[1:],
    )


def test_a_sample_of_several_captions_has_the_mean_of_their_vectors(tmp_path):
    captions = [("a", "b", "c"), ("b", "", ""), ("a", "bad 1", ""), ("bad 2", "c", "a"), ("bad 2", "", "")]
    feature, table, vectors = captioned(tmp_path, captions)
    matrix = load([StoredFeature(feature)], table)
    X = matrix[np.array([4, 3, 2, 1, 0, 0])][::-1]
    assert X.dtype == np.float32
    expected = [
        np.mean([vectors[text].astype(float) for text in row if text in vectors], axis=0)
        for row in (captions[0], captions[0], *captions[1:4])
    ]
    np.testing.assert_allclose(X[:5], expected, atol=1e-6)
    np.testing.assert_array_equal(X[2], vectors["b"])  # one caption: its vector, to the bit
    assert np.isnan(X[5]).all()
    assert (len(matrix), matrix.shape) == (5, (5, 4))
    assert "1 of 5 rows have no vector" in matrix.warnings[0]


def test_a_further_caption_that_was_never_extracted_is_an_error(tmp_path):
    feature, _, _ = captioned(tmp_path, [("a", "b")])
    table = table_of_captions([("a", "b"), ("a", "new"), ("new", "newer")])
    with pytest.raises(MissingRowsError, match="e/text lacks 2 of the 3 rows"):
        load([StoredFeature(feature)], table)


def test_the_key_of_image_and_captions_covers_all_of_them_and_nothing_else():
    one = image_and_caption_keys(table_of_captions([("a",), ("",)]))
    padded = image_and_caption_keys(table_of_captions([("a", ""), ("", ""), ("a", "b"), ("b", "a")]))
    image, caption = bytes(16), content_key(b"a")
    assert bytes(one[0]) == content_key(image + caption)  # as it was before rows had several
    assert bytes(padded[2]) == content_key(image + caption + content_key(b"b"))
    np.testing.assert_array_equal(one, padded[:2])
    assert len(np.unique(padded, axis=0)) == 4


def test_of_several_splits_the_one_called_train_is_learned_from(filled, tmp_path):
    store = filled(5)
    (table,) = store.tables()
    val = tmp_path / "data" / "val.csv"
    val.touch()
    table.source, table.split = str(val), "val"
    store.save(table)
    assert choose_table(store, None).split == "train"
    assert choose_table(store, tmp_path / "data").split == "train"
    assert choose_table(store, val).split == "val"


@pytest.mark.parametrize(
    ("splits", "wanted", "found"),
    [
        (["train", "test"], "auto", "test"),
        (["train", "val"], "auto", "train"),
        (["val2017", "train2017"], "auto", "train2017"),
        (["dogs", "cats"], "auto", "dogs"),
        (["train", "val"], "val", "val"),
        (["train2017", "val2017"], "val", "val2017"),
        (["test-a", "test-b", "train"], "auto", "train"),
    ],
)
def test_which_split_is_predicted(splits, wanted, found):
    tables = [Table("/d/x", [], [], [], None, split=split) for split in splits]
    assert choose_split(tables, wanted, "test", "train").split == found


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(UsageError, match="unknown split of /d/x 'test': choose from train"):
        choose_split([Table("/d/x", [], [], [], None)], "test")
