import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import (
    DataError,
    Failure,
    MissingRowsError,
    SpecMismatchError,
    Store,
    StoreError,
    Table,
    UnknownFeatureError,
    content_key,
)
from encode_once.cache import feature as feature_module
from encode_once.cache.format import feature_writer as writer_module
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact, drop_unreferenced, repair, verify
from tests.conftest import examples, files_of

SPEC = {"modality": "image", "architecture": "x", "weights": "w1"}


def keys_of(*names):
    return pack(content_key(str(name).encode()) for name in names)


def fill(feature, names, values, lengths=None):
    with feature.writer(len(names)) as writer:
        writer.append(keys_of(*names), values, lengths)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_rows_are_read_in_the_requested_order(store, rng):
    values = rng.normal(size=(50, 7)).astype(np.float16)
    fill(store.declare("e/o", SPEC), range(50), values)
    feature = Store(store.path).feature("e/o")
    order = rng.permutation(50)
    assert len(feature) == 50
    assert feature.dim == 7
    np.testing.assert_array_equal(feature.read(keys_of(*order)), values[order])


def test_consecutive_rows_are_mapped_and_not_copied(store, rng):
    fill(store.declare("e/o", SPEC), range(50), rng.normal(size=(50, 7)).astype(np.float16))
    assert not store.feature("e/o").read(keys_of(*range(10, 40))).flags.owndata


def test_a_part_is_plain_contiguous_hdf5(store, rng):
    values = rng.normal(size=(5, 3)).astype(np.float16)
    fill(store.declare("e/o", SPEC), range(5), values)
    (part,) = store.path.glob("features/e/o/*.h5")
    with h5py.File(part) as file:
        np.testing.assert_array_equal(file["values"][()], values)
        np.testing.assert_array_equal(file["keys"][()], keys_of(*range(5)))
        assert file["values"].chunks is None
        assert file["values"].id.get_offset() % 4096 == 0
        assert json.loads(file.attrs["spec"]) == SPEC


@examples(30)
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=6), max_size=5),
    ragged=st.booleans(),
    part_rows=st.integers(1, 8),
)
def test_a_store_is_a_dict_from_keys_to_vectors(batches, ragged, part_rows, tmp_path_factory):
    """For any batches, repeated keys and part sizes, the first vector of a key is kept."""
    store = Store(tmp_path_factory.mktemp("store") / "s")
    feature = store.declare("e/o", SPEC)
    expected = {}
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "PART_BYTES", part_rows * 4)
        for batch in batches:
            names = [name for name, _ in batch]
            lengths = np.array([length if ragged else 1 for _, length in batch], np.intp)
            values = rng.normal(size=(lengths.sum(), 2)).astype(np.float16)
            for name, piece in zip(names, np.split(values, np.cumsum(lengths))[:-1], strict=True):
                expected.setdefault(name, piece)
            fill(feature, names, values, lengths if ragged else None)
    again = Store(store.path).feature("e/o")
    assert len(again) == len(expected)
    assert again.has(keys_of(*range(31))).tolist() == [name in expected for name in range(31)]
    if expected:
        vectors = np.concatenate(list(expected.values()))
        if ragged:
            values, offsets = again.read_ragged(keys_of(*expected))
            assert np.diff(offsets).tolist() == [len(piece) for piece in expected.values()]
        else:
            values = again.read(keys_of(*expected))
        np.testing.assert_array_equal(values, vectors)


def test_reading_missing_rows_is_an_error(store):
    fill(store.declare("e/o", SPEC), [1], np.ones((1, 2), np.float16))
    with pytest.raises(MissingRowsError, match="e/o lacks 1 of 2 rows"):
        store.feature("e/o").read(keys_of(1, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_never_stored(store, bad):
    feature = store.declare("e/o", SPEC)
    with pytest.raises(DataError, match="never stored"):
        fill(feature, [1, 2], np.array([[1.0, 2.0], [bad, 0.0]], np.float16))
    assert len(store.feature("e/o")) == 0


def test_batches_of_another_width_are_refused(store):
    with store.declare("e/o", SPEC).writer(2) as writer:
        writer.append(keys_of(1), np.ones((1, 2), np.float16))
        with pytest.raises(DataError, match="shape"):
            writer.append(keys_of(2), np.ones((1, 3), np.float16))
    assert len(store.feature("e/o")) == 1


def test_another_spec_under_the_same_name_is_refused_with_the_difference(store):
    fill(store.declare("e/o", SPEC), [1], np.ones((1, 2), np.float16))
    with pytest.raises(SpecMismatchError, match="weights: stored w1, asked for w2"):
        store.declare("e/o", {**SPEC, "weights": "w2"})
    assert store.declare("e/o", dict(reversed(SPEC.items()))).key == store.feature("e/o").key


def test_a_feature_without_rows_may_still_change_its_spec(store):
    store.declare("e/o", {**SPEC, "weights": "mistyped"})
    assert store.declare("e/o", SPEC).spec == SPEC
    assert store.feature("e/o").spec == SPEC


def test_the_closest_name_is_suggested_for_an_unknown_feature(store):
    store.declare("clip-vit-l/image", SPEC)
    with pytest.raises(UnknownFeatureError, match="did you mean 'clip-vit-l/image'"):
        store.feature("clip-vit-l/imag")


@pytest.mark.parametrize("name", ["plain", "../a/b", "a/../../b", "a//b", "/a/b", "a/b c"])
def test_a_feature_name_cannot_leave_the_store(store, name):
    with pytest.raises(DataError, match="not a feature name"):
        store.declare(name, SPEC)


def test_failures_are_records_until_the_input_succeeds(store):
    feature = store.declare("e/o", SPEC)
    key = content_key(b"1")
    feature.record_failures([Failure(key.hex(), "truncated", "cut\u2028short", "a.jpg")])
    assert store.feature("e/o").failures()[key].reason == "truncated"
    assert not feature.has(keys_of(1)).any()
    fill(feature, [1], np.ones((1, 2), np.float16))
    assert store.feature("e/o").failures() == {}


def test_an_incomplete_line_of_failures_is_skipped(store):
    feature = store.declare("e/o", SPEC)
    journal = feature.folder / "failures.jsonl"
    journal.write_text('{"key": "00', encoding="utf-8")
    feature.record_failures([Failure(content_key(b"2").hex(), "empty", "", "b.jpg")])
    assert list(feature.failures()) == [content_key(b"2")]


def test_rows_written_before_an_error_are_kept(store):
    feature = store.declare("e/o", SPEC)
    with pytest.raises(KeyboardInterrupt), feature.writer(5) as writer:
        writer.append(keys_of(1, 2), np.ones((2, 3), np.float16))
        raise KeyboardInterrupt
    assert len(store.feature("e/o")) == 2


def test_a_folder_with_other_files_is_no_store(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match="contains other files"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(1, "extract again into a new --store"), (99, "update this one"), ('"2"', "not a version number")],
)
def test_a_store_of_another_version_is_refused_with_the_remedy(tmp_path, version, remedy):
    (tmp_path / "store.json").write_text(f'{{"format": "encode-once store", "version": {version}}}')
    with pytest.raises(StoreError, match=remedy):
        Store(tmp_path)
    assert [*tmp_path.iterdir()] == [tmp_path / "store.json"], "nothing was written into it"


@pytest.mark.parametrize("name", ["store.json.77.tmp", "files.sqlite", "files.sqlite-journal"])
def test_files_of_a_writer_that_died_before_creating_the_store_are_ignored(tmp_path, name):
    (tmp_path / name).touch()
    Store(tmp_path).declare("e/o", SPEC)
    assert Store(tmp_path).features() == ["e/o"]


def test_a_reader_lists_the_parts_again_if_they_are_replaced_meanwhile(store, monkeypatch):
    feature = store.declare("e/o", SPEC)
    for row in range(3):
        fill(feature, [row], np.full((1, 2), row, np.float16))
    opened = feature_module.Part

    def compacted_meanwhile(path, key):
        monkeypatch.setattr(feature_module, "Part", opened)
        compact(Store(store.path))
        return opened(path, key)

    monkeypatch.setattr(feature_module, "Part", compacted_meanwhile)
    np.testing.assert_array_equal(store.feature("e/o").read(keys_of(0, 1, 2))[:, 0], [0, 1, 2])


TABLE = Table("/d/train.csv", ["1"], [""], ["x"], None, image_keys=keys_of(1), caption_keys=keys_of(1))


def append(feature):
    with feature.writer(1) as writer:
        writer.append(keys_of(9), np.ones((1, 2), np.float16))


@pytest.fixture
def base(tmp_path):
    """A read-only store of two features."""
    store = Store(tmp_path / "base")
    for name in ("e/o", "e/p"):
        fill(store.declare(name, SPEC), range(3), np.arange(6, dtype=np.float16).reshape(3, 2))
    store.feature("e/o").record_failures([Failure(keys_of(5).tobytes().hex(), "empty", "", "5")])
    store.save(TABLE)
    return Store(store.path, read_only=True)


@pytest.mark.parametrize(
    "write",
    [
        Store.create,
        lambda store: store.save(TABLE),
        lambda store: store.declare("e/new", SPEC),
        lambda store: append(store.declare("e/o", SPEC)),
        lambda store: store.feature("e/o").add_provenance({"torch": "3"}),
        lambda store: store.feature("e/o").record_failures([Failure("00" * 16, "empty", "", "")]),
        lambda store: store.feature("e/o").forget_overcome_failures(),
        compact,
        lambda store: drop_unreferenced(store, delete=True),
        repair,
    ],
)
def test_nothing_writes_to_a_read_only_store(base, write):
    before = files_of(base.path)
    with pytest.raises(StoreError, match="opened for reading only"):
        write(base)
    assert files_of(base.path) == before


def test_a_read_only_store_can_be_read(base):
    before = files_of(base.path)
    store = Store(base.path)
    assert base.features() == store.features()
    np.testing.assert_array_equal(base.feature("e/o").read(keys_of(2, 0)), [[4, 5], [0, 1]])
    assert base.feature("e/o").failures() == store.feature("e/o").failures()
    assert base.declare("e/o", SPEC).has(keys_of(0)).all()
    assert [table.ids for table in base.tables()] == [["1"]]
    assert verify(base) == []
    assert drop_unreferenced(base)[0].rows == 2
    assert files_of(base.path) == before
    assert repr(base) == f"Store({str(base.path)!r}, read_only=True)"


def test_a_store_with_a_base_has_the_rows_of_both_and_writes_to_its_own_folder(base, tmp_path):
    before = files_of(base.path)
    store = Store(tmp_path / "scratch", base=base)
    feature = store.declare("e/o", SPEC)
    assert store.features() == ["e/o", "e/p"]
    assert not store.path.exists()  # nothing has been written
    fill(feature, [1, 7, 8], np.full((3, 2), 9, np.float16))
    feature.record_failures([Failure(keys_of(6).tobytes().hex(), "empty", "", "6")])
    for again in (feature, store.feature("e/o"), Store(tmp_path / "scratch", base=base).feature("e/o")):
        assert len(again) == 5
        np.testing.assert_array_equal(again.read(keys_of(8, 1, 0, 7)), [[9, 9], [2, 3], [0, 1], [9, 9]])
        assert again.failures().keys() == {keys_of(5).tobytes(), keys_of(6).tobytes()}
    alone = Store(tmp_path / "scratch")
    assert alone.features() == ["e/o"]
    assert alone.feature("e/o").has(keys_of(*range(9))).tolist() == [False] * 7 + [True] * 2
    assert verify(alone) == []
    pickled = pickle.loads(pickle.dumps(feature))
    np.testing.assert_array_equal(pickled.read(keys_of(0, 7)), [[0, 1], [9, 9]])
    assert files_of(base.path) == before
    assert repr(store) == f"Store({str(tmp_path / 'scratch')!r}, base={base!r})"


def test_a_store_and_its_base_must_have_the_same_spec_of_a_feature(base, tmp_path):
    store = Store(tmp_path / "scratch", base=base)
    with pytest.raises(SpecMismatchError, match="weights: stored w1, asked for w2"):
        store.declare("e/o", SPEC | {"weights": "w2"})
    fill(Store(tmp_path / "scratch").declare("e/p", SPEC | {"weights": "w2"}), [1], np.ones((1, 2), "f2"))
    with pytest.raises(SpecMismatchError, match=r"scratch/features/e/p has another spec.* delete it"):
        store.feature("e/p")


@pytest.mark.parametrize("change", [compact, repair, lambda store: drop_unreferenced(store, delete=True)])
def test_parts_of_a_store_with_a_base_are_not_replaced(base, tmp_path, change):
    before = files_of(base.path)
    with pytest.raises(StoreError, match="open each store separately"):
        change(Store(tmp_path / "scratch", base=base))
    assert files_of(base.path) == before


@pytest.fixture
def opened(monkeypatch):
    """The paths of the parts that are opened, in order."""
    paths = []
    original = feature_module.Part
    monkeypatch.setattr(feature_module, "Part", lambda path, key: paths.append(path) or original(path, key))
    return paths


def test_a_feature_is_opened_once_and_again_when_its_parts_change(store, opened):
    fill(store.declare("e/o", SPEC), [1, 2], np.ones((2, 2), np.float16))
    opened.clear()
    reader = Store(store.path)
    features = [reader.feature("e/o") for _ in range(3)] + [reader.declare("e/o", SPEC)]
    assert len(opened) == 1
    assert all(feature is features[0] for feature in features)
    fill(Store(store.path).declare("e/o", SPEC), [3], np.ones((1, 2), np.float16))  # another process, say
    assert reader.feature("e/o").has(keys_of(1, 2, 3)).all()
    append(reader.feature("e/o"))
    assert reader.feature("e/o").has(keys_of(1, 2, 3, 9)).all()
    compact(reader)
    assert reader.feature("e/o").has(keys_of(1, 2, 3, 9)).all()
    assert len(reader.feature("e/o").parts) == 1


def test_rows_keep_their_numbers_while_rows_are_added(store, monkeypatch):
    """Also if a part of a dead writer, whose name sorts first, is sealed later."""
    feature = store.declare("e/o", SPEC)
    monkeypatch.setattr(writer_module, "part_name", lambda: "b.h5")
    fill(feature, [1, 2], np.float16([[1, 1], [2, 2]]))
    rows = feature.find(keys_of(1, 2))
    monkeypatch.setattr(writer_module, "part_name", lambda: "a.h5")
    fill(feature, [3], np.float16([[3, 3]]))
    np.testing.assert_array_equal(feature.take(rows), [[1, 1], [2, 2]])
    np.testing.assert_array_equal(feature.read(keys_of(3, 1)), [[3, 3], [1, 1]])


def test_row_numbers_stay_valid_for_a_feature_opened_before_a_compaction(store):
    for name in (1, 2):
        fill(store.declare("e/o", SPEC), [name], np.full((1, 2), name, np.float16))
    store.save(replace(TABLE, image_keys=keys_of(2)))
    feature = store.feature("e/o")
    rows = feature.find(keys_of(1, 2))
    compact(store)
    np.testing.assert_array_equal(feature.take(rows), [[1, 1], [2, 2]])
    np.testing.assert_array_equal(store.feature("e/o").read(keys_of(1, 2)), [[1, 1], [2, 2]])
    assert store.feature("e/o").find(keys_of(1, 2)).tolist() == [1, 0]
