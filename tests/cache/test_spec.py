"""A store read with h5py, JSON and SPEC.md alone."""

import hashlib
import itertools
import json
import os

import h5py
import numpy as np

from cache import Store, Table, content_key
from cache.keys import pack


def blake(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def read_rows(folder, key):
    """Content key → vectors, as the page says."""
    spec = json.loads((folder / "spec.json").read_text())
    canonical = json.dumps(spec["spec"], sort_keys=True, separators=(",", ":")).encode()
    assert spec["key"] == blake(canonical).hex() == key
    rows = {}
    for part in folder.glob("*.h5"):
        with h5py.File(part) as file:
            assert (file.attrs["format"], file.attrs["version"]) == ("encode-once part", 1)
            assert file.attrs["feature_key"] == key
            count = file["rows"][0]
            assert count == len(file["keys"])
            for row in range(count):
                first, end = file["offsets"][row : row + 2] if file.attrs["ragged"] else (row, row + 1)
                rows[file["keys"][row].tobytes()] = file["values"][first:end]
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
    assert names <= {"store.json", "features/a/b/spec.json", "features/a/b/writer.lock"}
