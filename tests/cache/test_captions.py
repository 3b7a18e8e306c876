"""Texts in the store, and tables with generated captions."""

import numpy as np
import pytest

from encode_once.cache import NO_KEY, Store, Table, UnknownFeatureError, UsageError, content_key
from encode_once.cache.captions import all_captioned_tables, captioner_feature, read_texts, with_captions
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact, drop_unreferenced, verify
from encode_once.cache.merge import merge

GENERATED = {"0": "a dog", "1": "ein Hund läuft 🐕", "2": ""}  # image → caption; "3" is not captioned yet


def image_keys(names):
    return pack(content_key(name.encode()) for name in names)


def caption_keys(texts):
    return pack(content_key(text.encode("utf-8")) if text else NO_KEY for text in texts)


def write_texts(feature, texts):
    rows = [np.frombuffer(text.encode(), np.uint8)[:, None] for text in texts.values()]
    with feature.writer(len(rows)) as writer:
        writer.append(image_keys(texts), np.concatenate(rows), np.array([*map(len, rows)]))


@pytest.fixture
def store(tmp_path):
    """A store with a table of four images, and generated captions of three."""
    store = Store(tmp_path / "store")
    own = ["A dog.", "", "A cat", "A bus."]
    table = Table("/d/train.csv", list("0123"), list("0123"), own, None)
    table.image_keys, table.caption_keys = image_keys("0123"), caption_keys(own)
    store.save(table)
    write_texts(store.declare("writer/text", {"modality": "image"}), GENERATED)
    return store


def test_texts_are_read_as_they_were_written(store):
    feature = store.feature("writer/text")
    assert (feature.holds_texts, feature.ragged, feature.dim, len(feature)) == (True, True, 1, 3)
    assert feature.dtype == np.uint8
    assert read_texts(feature, image_keys("2103")) == ["", GENERATED["1"], GENERATED["0"], ""]
    assert verify(store) == []


def test_texts_survive_compacting_and_merging(store, tmp_path):
    write_texts(store.feature("writer/text"), {"3": "a red bus", "4": ""})
    compact(store)
    other = Store(tmp_path / "other")
    merge(other, store)
    expected = ["a red bus", GENERATED["1"], "", "", "a dog"]
    for each in (store, other):
        assert read_texts(each.feature("writer/text"), image_keys("31420")) == expected
        assert verify(each) == []


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ("table", ["A dog.", "", "A cat", "A bus."]),
        ("writer", ["a dog", GENERATED["1"], "", ""]),
        ("table+writer", ["A dog. a dog", GENERATED["1"], "A cat", "A bus."]),
    ],
)
def test_a_tables_captions_are_replaced_by_generated_or_joined_ones(store, captions, expected):
    (table,) = store.tables()
    result = with_captions(table, captions, captioner_feature(captions, store))
    assert result.captions == expected
    np.testing.assert_array_equal(result.keys("caption"), caption_keys(expected))
    np.testing.assert_array_equal(result.keys("image"), table.keys("image"))


def test_texts_are_looked_up_by_their_captioner(store):
    with pytest.raises(UnknownFeatureError, match="did you mean 'writer/text'"):
        captioner_feature("writr", store)
    with store.declare("clip/text", {"modality": "caption"}).writer(1) as writer:
        writer.append(image_keys("0"), np.ones((1, 2), np.float16))
    with pytest.raises(UsageError, match="clip generates no captions"):
        captioner_feature("table+clip", store)


def test_gc_keeps_the_vectors_of_captions_generated_for_a_tables_images(store):
    kept = ["A dog.", "a dog", GENERATED["1"], "A dog. a dog", "A bus."]
    vectors = store.declare("clip/text", {"modality": "caption"})
    keys = caption_keys([*kept, "of no image", "A cat. a dog"])
    with vectors.writer(len(keys)) as writer:
        writer.append(keys, np.ones((len(keys), 2), np.float16))
    write_texts(store.feature("writer/text"), {"gone": "of no image"})
    dropped = {change.feature: change.rows for change in drop_unreferenced(store, delete=True)}
    assert dropped == {"clip/text": 2, "writer/text": 1}
    assert store.feature("clip/text").has(keys).tolist() == [True] * 5 + [False] * 2
    assert read_texts(store.feature("writer/text"), image_keys("01")) == ["a dog", GENERATED["1"]]


def test_compact_puts_generated_captions_in_the_tables_order(store):
    vectors = store.declare("clip/text", {"modality": "caption"})
    (table, generated, _joined) = all_captioned_tables(store)
    with vectors.writer(4) as writer:
        for text in ("A bus.", GENERATED["1"], "a dog", "A dog."):
            writer.append(caption_keys([text]), np.ones((1, 2), np.float16))
    compact(store)
    keys = caption_keys(["a dog", GENERATED["1"]])
    np.testing.assert_array_equal(generated.keys("caption")[:2], keys)
    rows = store.feature("clip/text").find(keys)
    assert np.diff(rows).tolist() == [1]
    assert store.feature("clip/text").find(table.keys("caption")[:1]) < rows[0]
