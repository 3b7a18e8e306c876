"""Damaged, foreign and crafted files cause an error or no harm, never a wrong row, never a crash."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from encode_once.cache import DamagedError, EncodeOnceError, Failure, Store, StoreError, Table, content_key
from encode_once.cache.file_index import FileIndex
from encode_once.cache.format import feature_writer
from encode_once.cache.format import part as part_module
from encode_once.cache.format.header import SLOT_BYTES, STAMP_BYTES, read_stamp
from encode_once.cache.format.part import KIND, all_finite
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import repair, verify
from tests.cache.rows import craft, flip

SPEC = {"modality": "image", "weights": "w"}
ROWS = 40
KEYS = pack(content_key(bytes([row])) for row in range(ROWS))
DENSE = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float16)
LENGTHS = np.arange(ROWS) % 4
SEQUENCES = np.random.default_rng(1).normal(size=(LENGTHS.sum(), 3)).astype(np.float16)
STATS = {f"/images/{row}.jpg": (row, 10**18 + row) for row in range(ROWS)}
TABLE = Table(
    "/d/train.csv", [*map(str, range(ROWS))], [*STATS], ["x"] * ROWS, [("a",), ("b", "c")] * (ROWS // 2)
)
TABLE.image_keys = TABLE.caption_keys = KEYS


def fill(store):
    """A store with every kind of file."""
    with store.declare("e/dense", SPEC).writer(ROWS) as writer:
        writer.append(KEYS[:25], DENSE[:25])
        writer.append(KEYS[25:], DENSE[25:])
    ragged = store.declare("e/ragged", SPEC)
    with ragged.writer(ROWS) as writer:
        writer.append(KEYS, SEQUENCES, LENGTHS)
    ragged.record_failures([Failure(content_key(b"bad").hex(), "truncated", "cut", "bad.jpg")])
    store.files.remember(
        (path, stat, key.tobytes()) for (path, stat), key in zip(STATS.items(), KEYS, strict=True)
    )
    store.save(TABLE)


def check_no_wrong_row(path):
    """Read a store and check everything that can be read; whether that is everything."""
    whole = True

    def attempt(use):
        nonlocal whole
        try:
            return use()
        except EncodeOnceError as error:
            assert "\n" not in str(error)
            whole = False

    def dense():
        feature = Store(path).feature("e/dense")
        stored = feature.has(KEYS)
        if not len(feature):
            return False  # its width is unknown
        np.testing.assert_array_equal(feature.read(KEYS[stored]), DENSE[stored])  # consecutive: mapped
        np.testing.assert_array_equal(feature.read(KEYS[stored][::-1]), DENSE[stored][::-1])
        return stored.all()

    def ragged():
        feature = Store(path).feature("e/ragged")
        stored = feature.has(KEYS)
        values, offsets = feature.read_ragged(KEYS[stored])
        pieces = np.split(SEQUENCES, np.cumsum(LENGTHS)[:-1])
        np.testing.assert_array_equal(np.diff(offsets), LENGTHS[stored])
        expected = [piece for piece, has in zip(pieces, stored, strict=True) if has]
        np.testing.assert_array_equal(values, np.concatenate(expected) if expected else values[:0])
        assert feature.failures().keys() <= {content_key(b"bad")} or len(feature.failures()) == 1
        return stored.all()

    def files():
        keys = Store(path).files.find(STATS)
        assert keys.items() <= dict(zip(STATS, map(bytes, KEYS), strict=True)).items()
        return len(keys) == ROWS

    def tables():
        for table in Store(path).tables():
            np.testing.assert_array_equal(table.image_keys, KEYS)
            assert (table.ids, table.images, table.labels) == (TABLE.ids, TABLE.images, TABLE.labels)
        return True

    results = [attempt(use) for use in (dense, ragged, files, tables)]
    return whole and all(results)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("whole") / "store")
    fill(store)
    assert check_no_wrong_row(store.path)
    assert verify(store) == []
    return store.path


@pytest.fixture
def copy(whole, tmp_path):
    """The path of a store with every kind of file."""
    return shutil.copytree(whole, tmp_path / "store")


def every_file(path):
    return sorted(file for file in Path(path).rglob("*") if file.is_file() and file.stat().st_size)


def positions(size, rng):
    """All bytes of a small file; of a larger one, the first and a random sample."""
    return [*range(size)] if size < 600 else sorted({*rng.integers(0, size, 500).tolist(), *range(120)})


@pytest.mark.slow
def test_a_flipped_byte_gives_no_wrong_row(copy, stride):
    rng = np.random.default_rng(0)
    detected = tried = 0
    for file in every_file(copy):
        original = file.read_bytes()
        for at in positions(len(original), rng)[::stride]:
            flip(file, at, int(rng.integers(1, 256)))
            detected += not check_no_wrong_row(copy)
            tried += 1
            file.write_bytes(original)
    assert tried > 2000 / stride
    assert detected > 500 / stride


def test_verify_sees_every_flipped_byte_of_parts_and_tables(copy, stride):
    rng = np.random.default_rng(1)
    for file in [*copy.rglob("*.h5")]:
        original = file.read_bytes()
        for at in rng.integers(STAMP_BYTES, len(original), 60).tolist()[::stride]:
            flip(file, at, int(rng.integers(1, 256)))
            assert verify(Store(copy)) != [], f"{file} at {at}"
            file.write_bytes(original)


@pytest.mark.slow
def test_a_flipped_byte_of_what_a_dead_writer_left_gives_no_wrong_row(tmp_path):
    """The next writer seals its rows, or reports damage; then `repair` keeps the intact ones."""
    store = Store(tmp_path / "store")
    dense, ragged = store.declare("e/dense", SPEC), store.declare("e/ragged", SPEC)
    with dense.writer(ROWS + 1) as dense_writer, ragged.writer(ROWS + 1) as ragged_writer:
        dense_writer.append(KEYS, DENSE)
        ragged_writer.append(KEYS, SEQUENCES, LENGTHS)
        shutil.copytree(store.path, tmp_path / "left", ignore=shutil.ignore_patterns("*.lock", "*.owner"))
    rng = np.random.default_rng(2)
    for file in [*tmp_path.glob("left/**/*.partial")]:
        size = file.stat().st_size
        for at in [*rng.integers(0, STAMP_BYTES, 20), *rng.integers(STAMP_BYTES, size, 60)]:
            copy = tmp_path / "copy"
            shutil.copytree(tmp_path / "left", copy)
            flip(copy / file.relative_to(tmp_path / "left"), int(at), int(rng.integers(1, 256)))
            for name in ("e/dense", "e/ragged"):
                try:
                    with Store(copy).feature(name).writer(0):
                        pass
                except DamagedError:
                    repair(Store(copy))
            check_no_wrong_row(copy)
            assert verify(Store(copy)) == []
            shutil.rmtree(copy)


@pytest.mark.parametrize("keep", [0, 10, SLOT_BYTES, STAMP_BYTES, 0.5, -1])
def test_a_truncated_file_is_detected_or_harmless(whole, tmp_path, keep):
    for number, file in enumerate(every_file(whole)):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        cut = copy / file.relative_to(whole)
        size = cut.stat().st_size
        os.truncate(cut, min(size, int(size * keep) if keep == 0.5 else keep if keep >= 0 else size - 1))
        check_no_wrong_row(copy)
        if cut.suffix == ".h5" and cut.stat().st_size < size:
            assert verify(Store(copy)) != []


def parts(path, feature="e/dense"):
    return sorted(Path(path).glob(f"features/{feature}/*.h5"))


SHAPE = {"rows": ROWS, "vectors": ROWS, "dim": 6, "dtype": "<f2", "ragged": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": ROWS + 1},
        {"rows": -1},
        {"rows": "many"},
        {"vectors": 2**62},
        {"shape": SHAPE | {"dtype": "O"}},  # objects: memory read as pointers would crash the interpreter
        {"shape": SHAPE | {"dtype": "<f8"}},
        {"shape": SHAPE | {"rows": 2**61}},
        {"shape": SHAPE | {"rows": -1}},
        {"shape": SHAPE | {"dim": 2**47}},
        {"shape": SHAPE | {"dim": True}},
        {"shape": SHAPE | {"ragged": True}},
        {"shape": SHAPE | {"more": 1}},
        {"shape": None},
        {"places": {}},
        {"places": {"keys": 2**63, "sums": 0, "values": 0, "block_sums": 0}},
        {"places": {"keys": -5, "sums": 0, "values": 0, "block_sums": 0}},
        {"checksums": {}},
        {"checksums": None},
        {"sealed": False},
        {"size": 1},
    ],
    ids=str,
)
def test_a_crafted_stamp_is_refused(copy, changes):
    craft(parts(copy)[0], **changes)
    with pytest.raises(DamagedError):
        Store(copy).feature("e/dense")
    assert verify(Store(copy)) != []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "a recipe"}, "not an encode-once part"),
        ({"version": 1}, "older"),
        ({"version": 3}, "newer encode-once"),
        ({"feature_key": "0" * 32, "feature": "e/other"}, "another feature"),
    ],
)
def test_a_part_of_another_kind_is_refused(copy, changes, message):
    craft(parts(copy)[0], **changes)
    with pytest.raises(StoreError, match=message):
        Store(copy).feature("e/dense")


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x89HDF\r\n\x1a\n" + bytes(5000), "hdf5"])
def test_a_foreign_file_never_reaches_the_hdf5_library(copy, content, monkeypatch):
    for file in (parts(copy)[0], next(copy.glob("tables/*.h5"))):
        if content == "hdf5":
            with h5py.File(file, "w") as hdf5:
                hdf5["values"] = np.zeros((3, 6))
        else:
            file.write_bytes(content)
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("HDF5 opened an unverified file"))
    with pytest.raises(DamagedError, match="not written by this program"):
        Store(copy).feature("e/dense")
    with pytest.raises(DamagedError, match="not written by this program"):
        Store(copy).tables()


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_value_that_is_not_finite_is_found(value, dtype):
    values = np.random.default_rng(0).normal(size=(3000, 300)).astype(dtype)
    values[0, :2] = np.finfo(dtype).max, np.finfo(dtype).min
    assert all_finite(values)
    assert all_finite(values[:0])
    values[2987, 17] = value
    assert not all_finite(values)
    assert not all_finite(values[:, 17:])


def test_nan_with_the_right_checksums_is_refused_when_it_is_read(tmp_path, monkeypatch):
    """As a program of somebody else may write it."""
    store = Store(tmp_path / "store")
    bad = DENSE.copy()
    bad[7, 3] = np.nan
    for module in (part_module, feature_writer):
        monkeypatch.setattr(module, "all_finite", lambda values: True)
    with store.declare("e/dense", SPEC).writer(ROWS) as writer:
        writer.append(KEYS, bad)
    with store.declare("e/ragged", SPEC).writer(ROWS) as writer:
        writer.append(KEYS, bad, np.ones(ROWS, np.intp))
    monkeypatch.undo()
    for read in (
        lambda: Store(store.path).feature("e/dense").read(KEYS),
        lambda: Store(store.path).feature("e/dense").read(KEYS[::-1]),
        lambda: Store(store.path).feature("e/ragged").read_ragged(KEYS),
    ):
        with pytest.raises(DamagedError, match="rows"):
            read()
    assert len([line for line in verify(store) if "NaN" in line]) == 2
    repair(store)
    assert verify(store) == []
    assert Store(store.path).feature("e/ragged").has(KEYS).sum() == ROWS - 1


def test_repair_drops_only_the_damaged_row(copy):
    for name in ("e/dense", "e/ragged"):
        (part,) = parts(copy, name)
        places = read_stamp(part, KIND)["places"]
        flip(part, places["values"] + 17 * 6 * 2)
    lines = repair(Store(copy))
    assert [line.partition(": ")[2] for line in lines] == ["39 sound rows kept"] * 2
    assert verify(Store(copy)) == []
    check_no_wrong_row(copy)
    assert np.flatnonzero(~Store(copy).feature("e/dense").has(KEYS)).tolist() == [17]
    assert len(Store(copy).feature("e/ragged")) == ROWS - 1
    assert len([*copy.rglob("*.damaged")]) == 2


def test_repair_renames_files_without_intact_rows(copy):
    parts(copy)[0].write_bytes(b"nothing")
    (table,) = copy.glob("tables/*.h5")
    table.write_bytes(b"nothing")
    assert len(repair(Store(copy))) == 2
    assert verify(Store(copy)) == []
    assert len(Store(copy).feature("e/dense")) == 0
    assert Store(copy).tables() == []


def test_a_damaged_file_index_is_reported(tmp_path):
    index = FileIndex(tmp_path / "files.sqlite")
    index.remember([("/a", (1, 2), content_key(b"a"))])
    assert index.problems() == []
    (tmp_path / "files.sqlite").write_bytes(b"no database" * 1000)
    assert len(index.problems()) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "encode-once store"}', "\udc80"])
def test_a_broken_store_json_is_reported(tmp_path, content):
    (tmp_path / "store.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"store\.json cannot be read"):
        Store(tmp_path)


def test_an_altered_spec_is_reported(copy):
    spec = copy / "features/e/dense/spec.json"
    record = json.loads(spec.read_text())
    record["spec"]["weights"] = "others"
    spec.write_text(json.dumps(record))
    with pytest.raises(DamagedError, match="altered"):
        Store(copy).feature("e/dense")
