import numpy as np
import pytest

from encode_once.cache import (
    NO_KEY,
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
from encode_once.classify.data.rows import image_and_caption_keys
from encode_once.classify.runs.predict import choose_split


def test_features_are_side_by_side_in_the_order_of_the_table(filled):
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


def test_by_default_all_features_with_one_vector_a_row_are_chosen(filled):
    store = filled(5)
    tokens = store.declare("e/tokens", {"modality": "caption"})
    with tokens.writer(1) as writer:
        writer.append(pack([content_key(b"x")]), np.ones((2, 3), np.float16), np.array([2]))
    store.declare("e/empty", {"modality": "image"})
    assert [feature.name for feature in choose(store, [])] == ["e/image", "e/text"]
    assert [feature.name for feature in choose(store, ["e/tokens"])] == ["e/tokens"]
    with pytest.raises(UnknownFeatureError, match="did you mean 'e/text'"):
        choose(store, ["e/txt"])


def test_an_encoders_name_means_its_pooled_output_or_its_outputs_of_one_vector_a_row(filled):
    store = filled(5)
    for name in ("cnn/logits", "cnn/pooled"):
        store.declare(name, {"modality": "image"})
    tokens = store.declare("e/tokens", {"modality": "caption"})
    with tokens.writer(1) as writer:
        writer.append(pack([content_key(b"x")]), np.ones((2, 3), np.float16), np.array([2]))
    assert [feature.name for feature in choose(store, ["cnn"])] == ["cnn/pooled"]
    assert [feature.name for feature in choose(store, ["e", "cnn"])] == ["e/image", "e/text", "cnn/pooled"]
    with pytest.raises(UnknownFeatureError):
        choose(store, ["cn"])


def test_rows_that_were_not_extracted_are_an_error_and_failed_rows_a_warning(filled):
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


def test_features_of_random_weights_cause_a_warning(filled):
    store = filled(5)
    (table,) = store.tables()
    feature = store.declare("r/image", {"modality": "image", "weights": "RANDOM(seed=0)"})
    with feature.writer(5) as writer:
        writer.append(table.keys("image"), np.ones((5, 2), np.float16))
    assert load([StoredFeature(feature)], table).warnings == [
        "r/image has RANDOM weights: its vectors mean nothing"
    ]


def captioned(tmp_path, captions):
    """A feature, a table of these captions, and their vectors; captions that begin with "bad" have failed."""
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


def test_the_vectors_of_several_captions_are_averaged(tmp_path):
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
    np.testing.assert_array_equal(X[2], vectors["b"])  # exactly the vector of its only caption
    assert np.isnan(X[5]).all()
    assert (len(matrix), matrix.shape) == (5, (5, 4))
    assert "1 of 5 rows have no vector" in matrix.warnings[0]


def test_a_second_caption_that_was_not_extracted_is_an_error(tmp_path):
    feature, _, _ = captioned(tmp_path, [("a", "b")])
    table = table_of_captions([("a", "b"), ("a", "new"), ("new", "newer")])
    with pytest.raises(MissingRowsError, match="e/text lacks 2 of the 3 rows"):
        load([StoredFeature(feature)], table)


@pytest.mark.parametrize(
    ("splits", "requested", "expected"),
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
def test_which_split_is_predicted(splits, requested, expected):
    tables = [Table("/d/x", [], [], [], None, split=split) for split in splits]
    assert choose_split(tables, requested, "test", "train").split == expected


def test_a_missing_split_is_an_error_with_the_existing_ones():
    with pytest.raises(UsageError, match="unknown split of /d/x 'test': choose from train"):
        choose_split([Table("/d/x", [], [], [], None)], "test")


def test_the_key_of_image_and_captions_covers_all_of_them_and_nothing_else():
    single = image_and_caption_keys(table_of_captions([("a",), ("",)]))
    padded = image_and_caption_keys(table_of_captions([("a", ""), ("", ""), ("a", "b"), ("b", "a")]))
    image, caption = bytes(16), content_key(b"a")
    assert bytes(single[0]) == content_key(
        image + caption
    )  # as in stores that were written before tables had several captions
    assert bytes(padded[2]) == content_key(image + caption + content_key(b"b"))
    np.testing.assert_array_equal(single, padded[:2])
    assert len(np.unique(padded, axis=0)) == 4
