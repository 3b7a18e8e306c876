import numpy as np
import pandas as pd
import pytest

from encode_once.cache import DataError, Store, Table, UsageError, content_key
from encode_once.cache.keys import pack
from encode_once.classify.data.features import StoredFeature, load


@pytest.fixture
def store(tmp_path):
    """Five rows: the third has no second caption, the fourth none, and the fifth has not been encoded."""
    texts = [["a", "b", "c", "", "e"], ["f", "g", "", "", "h"]]
    keys = [pack(content_key(text.encode()) if text else bytes(16) for text in column) for column in texts]
    table = Table(
        str(tmp_path / "train.csv"),
        [*"vwxyz"],
        [""] * 5,
        texts[0],
        None,
        id_column="name",
        image_keys=np.zeros((5, 16), np.uint8),
        caption_keys=keys[0],
        more_captions=[texts[1]],
        more_caption_keys=[keys[1]],
    )
    store = Store(tmp_path / "store")
    rng = np.random.default_rng(0)
    encoded = np.concatenate([keys[0][:3], keys[1][:2]])
    with store.declare("words/mean", {"modality": "caption"}).writer(5) as writer:
        writer.append(encoded, rng.normal(size=(5, 4)).astype(np.float16))
    with store.declare("words/tokens", {"modality": "caption"}).writer(5) as writer:
        writer.append(encoded, rng.normal(size=(9, 4)).astype(np.float16), np.array([1, 2, 3, 1, 2]))
    store.save(table)
    return store


def test_a_frame_has_the_mean_vector_of_each_rows_captions_by_id(store):
    frame, stored = store.frame("words/mean"), store.feature("words/mean").to_numpy().astype(np.float32)
    assert frame.index.tolist() == [*"vwxyz"]
    assert frame.index.name == "name"
    assert frame.to_numpy().dtype == np.float32
    means = [(stored[0] + stored[3]) / 2, (stored[1] + stored[4]) / 2, stored[2]]
    assert frame.to_numpy()[:3] == pytest.approx(np.stack(means))
    assert frame.loc[[*"yz"]].isna().all(axis=None)


def test_a_frame_has_the_vectors_that_fit_learns_from(store):
    table = store.table()
    table.captions = [*table.captions[:4], ""]  # `fit` refuses rows that were never encoded
    table.more_captions = [[*table.more_captions[0][:4], ""]]
    table.caption_keys = np.where(np.arange(5)[:, None] == 4, 0, table.caption_keys)
    table.more_caption_keys = [np.where(np.arange(5)[:, None] == 4, 0, table.more_caption_keys[0])]
    matrix = load([StoredFeature(store.feature("words/mean"))], table)
    assert np.array_equal(store.frame("words/mean", table).to_numpy(), matrix[:], equal_nan=True)


def test_a_table_is_chosen_by_name_or_given(store):
    name = store.headers()[0].name
    for table in (name, "train", store.table()):
        pd.testing.assert_frame_equal(store.frame("words/mean", table), store.frame("words/mean"))
    with pytest.raises(UsageError, match="unknown table"):
        store.frame("words/mean", "other")


def test_a_feature_is_an_array_of_all_its_rows(store):
    feature = store.feature("words/mean")
    assert np.array_equal(np.asarray(feature), feature.read(feature.keys))
    assert np.asarray(feature).dtype == np.float16
    assert np.asarray(feature, np.float64).dtype == np.float64
    assert np.array(feature).flags.writeable
    assert pd.DataFrame(np.asarray(feature)).shape == (5, 4)


def test_sequences_are_no_table(store):
    with pytest.raises(DataError, match="words/tokens has a sequence per row"):
        store.frame("words/tokens")
    with pytest.raises(DataError, match="words/tokens has a sequence per row"):
        np.asarray(store.feature("words/tokens"))
