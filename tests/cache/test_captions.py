"""Texts in the store, and whose captions a table is read with."""

import numpy as np
import pytest

from encode_once.cache import NO_KEY, Store, Table, UnknownFeatureError, UsageError, content_key
from encode_once.cache.captions import all_captioned_tables, captioner_feature, read_texts, with_captions
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact, drop_unreferenced, verify
from encode_once.cache.merge import merge

WRITTEN = {"0": "a dog", "1": "ein Hund läuft 🐕", "2": ""}  # image → caption; "3" has not been seen


def image_keys(names):
    return pack(content_key(name.encode()) for name in names)


def caption_keys(texts):
    return pack(content_key(text.encode("utf-8")) if text else NO_KEY for text in texts)


def write_texts(feature, written):
    rows = [np.frombuffer(text.encode(), np.uint8)[:, None] for text in written.values()]
    with feature.writer(len(rows)) as writer:
        writer.append(image_keys(written), np.concatenate(rows), np.array([*map(len, rows)]))


@pytest.fixture
def store(tmp_path):
    """A store with a table of four images, and what a captioner wrote of three."""
    store = Store(tmp_path / "store")
    own = ["A dog.", "", "A cat", "A bus."]
    table = Table("/d/train.csv", list("0123"), list("0123"), own, None)
    table.image_keys, table.caption_keys = image_keys("0123"), caption_keys(own)
    store.save(table)
    write_texts(store.declare("writer/text", {"modality": "image"}), WRITTEN)
    return store


def test_texts_are_read_as_they_were_written(store):
    feature = store.feature("writer/text")
    assert (feature.holds_texts, feature.ragged, feature.dim, len(feature)) == (True, True, 1, 3)
    assert feature.dtype == np.uint8
    assert read_texts(feature, image_keys("2103")) == ["", WRITTEN["1"], WRITTEN["0"], ""]
    assert verify(store) == []


def test_texts_survive_compacting_and_merging(store, tmp_path):
    write_texts(store.feature("writer/text"), {"3": "a red bus", "4": ""})
    compact(store)
    other = Store(tmp_path / "other")
    merge(other, store)
    for one in (store, other):
        assert read_texts(one.feature("writer/text"), image_keys("31420")) == [
            "a red bus", WRITTEN["1"], "", "", "a dog",
        ]  # fmt: skip
        assert verify(one) == []


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ("table", ["A dog.", "", "A cat", "A bus."]),
        ("writer", ["a dog", WRITTEN["1"], "", ""]),
        ("table+writer", ["A dog. a dog", WRITTEN["1"], "A cat", "A bus."]),
    ],
)
def test_a_table_is_read_with_its_own_generated_or_joined_captions(store, captions, expected):
    (table,) = store.tables()
    found = with_captions(table, captions, captioner_feature(captions, store))
    assert found.captions == expected
    np.testing.assert_array_equal(found.keys("caption"), caption_keys(expected))
    np.testing.assert_array_equal(found.keys("image"), table.keys("image"))


def test_texts_are_looked_up_by_their_captioner(store):
    with pytest.raises(UnknownFeatureError, match="did you mean 'writer/text'"):
        captioner_feature("writr", store)
    with store.declare("clip/text", {"modality": "caption"}).writer(1) as writer:
        writer.append(image_keys("0"), np.ones((1, 2), np.float16))
    with pytest.raises(UsageError, match="clip writes no captions"):
        captioner_feature("table+clip", store)


def test_gc_keeps_the_vectors_of_captions_written_of_images_in_a_table(store):
    kept = ["A dog.", "a dog", WRITTEN["1"], "A dog. a dog", "A bus."]
    vectors = store.declare("clip/text", {"modality": "caption"})
    keys = caption_keys([*kept, "of no image", "A cat. a dog"])
    with vectors.writer(len(keys)) as writer:
        writer.append(keys, np.ones((len(keys), 2), np.float16))
    write_texts(store.feature("writer/text"), {"gone": "of no image"})
    dropped = {change.feature: change.rows for change in drop_unreferenced(store, delete=True)}
    assert dropped == {"clip/text": 2, "writer/text": 1}
    assert store.feature("clip/text").has(keys).tolist() == [True] * 5 + [False] * 2
    assert read_texts(store.feature("writer/text"), image_keys("01")) == ["a dog", WRITTEN["1"]]


def test_compact_puts_generated_captions_in_the_tables_order(store):
    vectors = store.declare("clip/text", {"modality": "caption"})
    (table, generated, _joined) = all_captioned_tables(store)
    wanted = caption_keys(["a dog", WRITTEN["1"]])
    with vectors.writer(4) as writer:
        for text in ("A bus.", WRITTEN["1"], "a dog", "A dog."):
            writer.append(caption_keys([text]), np.ones((1, 2), np.float16))
    compact(store)
    rows = store.feature("clip/text").find(generated.keys("caption")[:2])
    np.testing.assert_array_equal(generated.keys("caption")[:2], wanted)
    assert np.diff(rows).tolist() == [1]
    assert store.feature("clip/text").find(table.keys("caption")[:1]) < rows[0]
