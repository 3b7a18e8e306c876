"""A store read with h5py, JSON and SPEC.md alone."""

import hashlib
import itertools
import json
import os

import h5py
import numpy as np
import xxhash

from cache import Store, Table, content_key
from cache.keys import pack


def blake(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def stamp_of(path, kind):
    """What a file says of itself, as the page says."""
    counting = []
    with path.open("rb") as file:
        for _ in range(2):
            head, _, text = file.read(4096).partition(b"\n")
            if head == b"encode-once stamp " + blake(text).hex().encode():
                counting.append(json.loads(text))
    stamp = max(counting, key=lambda stamp: stamp.get("commit", 0))
    assert (stamp["format"], stamp["version"]) == kind
    return stamp


def xxh3(content):
    return f"{xxhash.xxh3_64_intdigest(content):016x}"


def read_rows(folder, key):
    """Content key → vectors, as the page says."""
    spec = json.loads((folder / "spec.json").read_text())
    canonical = json.dumps(spec["spec"], sort_keys=True, separators=(",", ":")).encode()
    assert spec["key"] == blake(canonical).hex() == key
    rows = {}
    for part in folder.glob("*.h5"):
        stamp = stamp_of(part, ("encode-once part", 2))
        assert stamp["sealed"]
        assert stamp["feature_key"] == key
        assert stamp["size"] == part.stat().st_size
        with h5py.File(part) as file:
            assert (file.attrs["format"], file.attrs["version"]) == ("encode-once part", 2)
            for name in set(file) - {"values"}:
                assert xxh3(file[name][()].tobytes()) == stamp["checksums"][name]
            values = file["values"][()]
            raw = values.tobytes()
            blocks = [raw[at : at + 2**20] for at in range(0, len(raw), 2**20)]
            assert [xxh3(block) for block in blocks] == [f"{s:016x}" for s in file["block_sums"]]
            count = stamp["rows"]
            assert count == len(file["keys"])
            for row in range(count):
                first, end = file["offsets"][row : row + 2] if file.attrs["ragged"] else (row, row + 1)
                assert xxh3(values[first:end].tobytes()) == f"{file['sums'][row]:016x}"
                rows[file["keys"][row].tobytes()] = values[first:end]
    return rows


def test_the_page_is_enough_to_read_a_feature(tmp_path):
    store = Store(tmp_path / "store")
    rng = np.random.default_rng(0)
    for name, lengths in (("a/dense", None), ("b/c/ragged", np.array([2, 1, 3]))):
        feature = store.declare(name, {"modality": "caption", "weights": "é"})
        values = rng.normal(size=(3 if lengths is None else 6, 4)).astype(np.float16)
        with feature.writer(3) as writer:
            writer.append(pack(content_key(text) for text in (b"x", b"y", b"z")), values, lengths)
        rows = read_rows(store.path / "features" / name, feature.key)
        ends = np.cumsum([1, 1, 1] if lengths is None else lengths)
        for text, piece in zip((b"x", b"y", b"z"), np.split(values, ends), strict=False):
            np.testing.assert_array_equal(rows[blake(text)], piece)


def test_the_page_is_enough_to_read_a_table(tmp_path):
    store = Store(tmp_path / "store")
    keys = pack(blake(text.encode()) for text in ("x", "ÿ"))
    labels = [("b", "a"), ()]
    store.save(
        Table("/d/train.csv", ["1", "2"], ["", ""], ["x", "ÿ"], labels, image_keys=keys, caption_keys=keys)
    )
    (path,) = (store.path / "tables").iterdir()
    assert stamp_of(path, ("encode-once table", 2))["checksum"] == xxh3(path.read_bytes()[8192:])
    with h5py.File(path) as file:

        def texts(name):
            run, offsets = file[f"{name}/bytes"][()].tobytes(), file[f"{name}/offsets"][()]
            return [run[a:b].decode() for a, b in itertools.pairwise(offsets)]

        assert texts("captions") == ["x", "ÿ"]
        names, numbers = texts("labels/names"), file["labels/numbers"][()]
        offsets = file["labels/offsets"][()]
        found = [tuple(names[i] for i in numbers[a:b]) for a, b in itertools.pairwise(offsets)]
        assert found == labels


def test_a_store_holds_nothing_the_page_does_not_name(tmp_path):
    store = Store(tmp_path / "store")
    feature = store.declare("a/b", {"modality": "image"})
    with feature.writer(1) as writer:
        writer.append(pack([content_key(b"x")]), np.ones((1, 2), np.float16))
    names = {
        os.path.relpath(os.path.join(at, name), store.path)
        for at, _, files in os.walk(store.path)
        for name in files
    }
    names = {name for name in names if not name.endswith(".h5")}
    assert names <= {"store.json", "features/a/b/spec.json", "features/a/b/0-of-1.lock"}
