import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from encode_once.cache import DataError, Store, Table, UsageError, content_key, describe
from encode_once.cache import export as export_module
from encode_once.cache.export import export, select
from encode_once.cache.feature import Feature
from encode_once.cache.format import part as parts_module
from encode_once.cache.keys import pack
from encode_once.cache.packed_columns import PackedColumn
from encode_once.cache.table import LabelSet

ROWS = 30
KEYS = pack(content_key(bytes([row])) for row in range(ROWS))
DENSE = np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float16)
LENGTHS = np.arange(ROWS) % 4
TOKENS = np.random.default_rng(1).normal(size=(LENGTHS.sum(), 3)).astype(np.float16)
ORDER = np.random.default_rng(2).permutation(ROWS - 2)  # the table lacks two rows of the feature


def sequences():
    return [piece.tolist() for piece in np.split(TOKENS, np.cumsum(LENGTHS)[:-1])]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "COPY_BYTES", 64)  # several chunks
    store = Store(tmp_path / "store")
    for name, values, lengths in (("e/dense", DENSE, None), ("e/ragged", TOKENS, LENGTHS)):
        with store.declare(name, {"modality": "caption", "weights": "w"}, {"torch": "9"}).writer(
            ROWS
        ) as writer:
            writer.append(KEYS, values, lengths)
    keys = np.concatenate([KEYS[ORDER], pack([content_key(b"failed")])])
    ids = [f"row {row}" for row in ORDER] + ["failed"]
    store.save(Table("/d/train.csv", ids, ids, ids, None, image_keys=keys * 0, caption_keys=keys))
    return store


def test_npy(store, tmp_path):
    selection = select(store.feature("e/dense"), store.table())
    export(selection, "npy", tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), DENSE[ORDER])
    assert (tmp_path / "x.npy.ids.txt").read_text().splitlines() == [f"row {row}" for row in ORDER]


def test_npy_of_sequences(store, tmp_path):
    export(select(store.feature("e/ragged"), store.table()), "npy", tmp_path / "x.npy")
    values, offsets = np.load(tmp_path / "x.npy"), np.load(tmp_path / "x.npy.offsets.npy")
    exported = [values[a:b].tolist() for a, b in pairwise(offsets)]
    assert exported == [sequences()[row] for row in ORDER]


def test_safetensors(store, tmp_path):
    for name in ("e/dense", "e/ragged"):
        export(select(store.feature(name), store.table()), "safetensors", tmp_path / "x")
        with safe_open(tmp_path / "x", "np") as file:
            assert file.metadata()["feature"] == name
            assert json.loads(file.metadata()["ids"]) == [f"row {row}" for row in ORDER]
            np.testing.assert_array_equal(file.get_tensor("keys"), KEYS[ORDER])
            values = file.get_tensor("values")
            if name == "e/dense":
                np.testing.assert_array_equal(values, DENSE[ORDER])
            else:
                pieces = np.split(values, file.get_tensor("offsets")[1:-1])
                assert [piece.tolist() for piece in pieces] == [sequences()[row] for row in ORDER]


def test_parquet(store, tmp_path):
    for name, expected in (("e/dense", DENSE.tolist()), ("e/ragged", sequences())):
        export(select(store.feature(name), store.table()), "parquet", tmp_path / "x")
        read = pq.read_table(tmp_path / "x").to_pydict()
        assert read["id"] == [f"row {row}" for row in ORDER]
        assert read["key"] == [KEYS[row].tobytes().hex() for row in ORDER]
        vectors = [np.array(vector, np.float16).tolist() for vector in read["vector"]]
        assert vectors == [expected[row] for row in ORDER]


@pytest.mark.parametrize("kind", ["npy", "parquet", "safetensors"])
@pytest.mark.parametrize("name", ["e/dense", "e/ragged"])
def test_a_few_rows_are_in_memory_at_a_time(store, tmp_path, monkeypatch, kind, name):
    asked, block = [], Feature.block
    monkeypatch.setattr(
        Feature, "block", lambda feature, rows: (asked.append(len(rows)), block(feature, rows))[1]
    )
    selection = select(store.feature(name), store.table())
    export(selection, kind, tmp_path / "x")
    assert max(asked) < 10
    assert isinstance(selection.ids, PackedColumn)
    assert isinstance(select(store.feature(name), None).ids, PackedColumn)


def test_more_names_than_safetensors_can_hold_are_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "MOST_HEADER", 100)
    with pytest.raises(DataError, match=r"room for 100 bytes of names.*--to npy or parquet"):
        export(select(store.feature("e/dense"), None), "safetensors", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("name", "expected"), [("e/dense", DENSE.tolist()), ("e/ragged", sequences())])
def test_lance(store, tmp_path, name, expected):
    lance = pytest.importorskip("lance")
    path = tmp_path / "x.lance"
    selection = select(store.feature(name), store.table())
    export(selection, "lance", path)
    path.rename(tmp_path / "moved.lance")  # it holds no paths
    dataset = lance.dataset(str(tmp_path / "moved.lance"))
    assert dataset.schema.metadata == {b"feature": name.encode()}
    read = dataset.to_table().to_pydict()
    assert read["id"] == [f"row {row}" for row in ORDER]
    assert read["key"] == [KEYS[row].tobytes().hex() for row in ORDER]
    vectors = [np.array(vector, np.float16).tolist() for vector in read["vector"]]
    assert vectors == [expected[row] for row in ORDER]
    path.mkdir()
    with pytest.raises(DataError, match=r"x\.lance exists: remove it"):
        export(selection, "lance", path)
    assert [*path.iterdir()] == []


def test_a_folder_is_written_as_a_whole_or_not_at_all(store, tmp_path, monkeypatch):
    pytest.importorskip("lance")
    selection = select(store.feature("e/dense"), store.table())
    blocks, block = [], Feature.block

    def failing(feature, rows):
        blocks.append(rows)
        if len(blocks) == 3:
            raise OSError("the disk is full")
        return block(feature, rows)

    monkeypatch.setattr(Feature, "block", failing)
    with pytest.raises(OSError, match="the disk is full"):
        export(selection, "lance", tmp_path / "x.lance")
    assert len(blocks) == 3  # a few rows at a time
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_rows_without_a_vector_are_counted(store):
    assert select(store.feature("e/dense"), store.table()).without == 1
    assert select(store.feature("e/dense"), None).without == 0


def test_without_a_table_rows_are_named_by_their_content_key(store, tmp_path):
    selection = select(store.feature("e/dense"), None)
    export(selection, "npy", tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), DENSE)
    assert selection.ids == [key.tobytes().hex() for key in KEYS]


def test_errors_of_export_and_of_its_table(store, tmp_path):
    selection = select(store.feature("e/dense"), store.table())
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        export(selection, "parqet", tmp_path / "x")
    with pytest.raises(DataError, match="no rows"):
        select(store.declare("e/empty", {"modality": "image"}), None)
    with pytest.raises(UsageError, match="unknown table"):
        store.table("other")
    store.save(Table("/e/train.csv", [], [], [], None, image_keys=KEYS[:0], caption_keys=KEYS[:0]))
    with pytest.raises(UsageError, match="2 tables: choose one of"):
        store.table()


def test_every_feature_and_table_is_described(store):
    dense, ragged = describe.features(store)
    assert (dense["feature"], dense["rows"], dense["dim"], dense["ragged"]) == ("e/dense", ROWS, 5, False)
    assert (ragged["rows"], ragged["ragged"], ragged["provenance"]) == (ROWS, True, {"torch": "9"})
    assert dense["key"] == store.feature("e/dense").key
    assert dense["bytes"] == sum(part.stat().st_size for part in store.path.glob("features/e/dense/*.h5"))
    (table,) = describe.contents(store)["tables"]
    assert (table["source"], table["rows"], table["labelled"]) == ("/d/train.csv", ROWS - 1, False)


def test_label_sets_are_listed(store):
    text = describe.listing(describe.contents(store))
    assert "label sets" not in text
    table = store.table()
    sets = {name: LabelSet(name, [], ";", [()] * len(table)) for name in ("mood", "place")}
    store.save(replace(table, label_sets=sets))
    content = describe.contents(store)
    assert content["tables"][0]["label_sets"] == ["mood", "place"]
    assert "mood, place" in describe.listing(content)


def test_a_damaged_feature_does_not_hide_the_others(store):
    (part,) = store.path.glob("features/e/dense/*.h5")
    part.write_bytes(b"nothing")
    content = describe.contents(store)
    dense, ragged = content["features"]
    assert "damaged" in dense["problem"]
    assert ragged["problem"] is None
    text = describe.listing(content)
    assert "e/ragged" in text
    assert "damaged" in text
