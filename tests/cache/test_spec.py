"""Read and write a store with only h5py, JSON and SPEC.md."""

import hashlib
import itertools
import json
import os

import h5py
import numpy as np
import xxhash

from encode_once.cache import Store, Table, content_key
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import verify


def blake(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def stamp_of(path, kind):
    """The stamp of a file, read as SPEC.md says."""
    valid = []
    with path.open("rb") as file:
        for _ in range(2):
            head, _, text = file.read(4096).partition(b"\n")
            if head == b"encode-once stamp " + blake(text).hex().encode():
                valid.append(json.loads(text))
    stamp = max(valid, key=lambda stamp: stamp.get("commit", 0))
    assert (stamp["format"], stamp["version"]) == kind
    return stamp


def xxh3(content):
    return f"{xxhash.xxh3_64_intdigest(content):016x}"


def read_rows(folder, key):
    """Content key → vectors, read as SPEC.md says."""
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


def test_the_specification_is_enough_to_read_a_feature(tmp_path):
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


def test_the_specification_is_enough_to_read_a_table(tmp_path):
    store = Store(tmp_path / "store")
    keys = pack(blake(text.encode()) for text in ("x", "ÿ"))
    labels = [("b", "a"), ()]
    table = Table("/d/0.tar", ["1", "2"], ["", ""], ["x", "ÿ"], labels, image_keys=keys, caption_keys=keys)
    table.split, table.more_sources = "val", ["/d/1.tar"]
    table.more_captions, table.more_caption_keys = [["", "z"]], [pack([bytes(16), blake(b"z")])]
    source = tmp_path / "0.tar"
    source.write_bytes(b"rows")
    table.source = str(source)
    store.save(table)
    (path,) = (store.path / "tables").iterdir()
    stamp = stamp_of(path, ("encode-once table", 4))
    assert stamp["checksum"] == xxh3(path.read_bytes()[8192:])
    header = path.read_bytes()[8192 : 8192 + stamp["header"]["bytes"]]
    assert stamp["header"]["checksum"] == xxh3(header)
    stat = source.stat()
    files = [
        {"path": str(source), "size": 4, "mtime_ns": stat.st_mtime_ns, "key": blake(b"rows").hex()},
    ]
    assert json.loads(header) == {
        "source": str(source),
        "split": "val",
        "rows": 2,
        "labelled": True,
        "sources": files,
    }
    with h5py.File(path) as file:

        def texts(name):
            run, offsets = file[f"{name}/bytes"][()].tobytes(), file[f"{name}/offsets"][()]
            return [run[a:b].decode() for a, b in itertools.pairwise(offsets)]

        assert texts("captions") == ["x", "ÿ"]
        assert (file.attrs["source"], file.attrs["split"], texts("more_sources")) == (
            *(str(source), "val"),
            ["/d/1.tar"],
        )
        assert texts("more_captions/0") == ["", "z"]
        assert [bytes(key) for key in file["more_caption_keys"][0]] == [bytes(16), blake(b"z")]
        names, numbers = texts("labels/names"), file["labels/numbers"][()]
        offsets = file["labels/offsets"][()]
        assert [tuple(names[i] for i in numbers[a:b]) for a, b in itertools.pairwise(offsets)] == labels


def test_all_files_of_a_store_are_in_the_specification(tmp_path):
    store = Store(tmp_path / "store")
    feature = store.declare("a/b", {"modality": "image"})
    with feature.writer(1) as writer:
        writer.append(pack([content_key(b"x")]), np.ones((1, 2), np.float16))
    names = {
        os.path.relpath(os.path.join(at, name), store.path)
        for at, _, files in os.walk(store.path)
        for name in files
    }
    (part,) = (name for name in names if name.endswith(".h5"))
    note = f"inventory/a/b/{os.path.basename(part)}.json"
    small = {"store.json", "features/a/b/spec.json", "features/a/b/0-of-1.lock", "inventory/a/b/spec.json"}
    assert names == {part, note, *small}
    with open(store.path / note) as file:
        assert json.load(file) == {"rows": 1}


def write_part(path, key, keys, values):
    """Write a sealed part with h5py and JSON, as SPEC.md says."""
    sums = np.array([xxhash.xxh3_64_intdigest(row.tobytes()) for row in values], "<u8")
    raw = values.tobytes()
    blocks = [xxhash.xxh3_64_intdigest(raw[at : at + 2**20]) for at in range(0, len(raw), 2**20)]
    arrays = {"keys": keys, "sums": sums, "block_sums": np.array(blocks, "<u8"), "values": values}
    with h5py.File(path, "w", userblock_size=8192, alignment_threshold=1, alignment_interval=4096) as file:
        file.attrs.update({"format": "encode-once part", "version": 2, "ragged": False, "feature_key": key})
        for name, array in arrays.items():
            file[name] = array
    with h5py.File(path) as file:
        places = {name: file[name].id.get_offset() for name in arrays}
    content = bytearray(path.read_bytes())
    rest, at = b"", 8192
    for name in sorted(arrays, key=places.get):
        rest += content[at : places[name]]
        at = places[name] + arrays[name].nbytes
    stamp = {
        "format": "encode-once part",
        "version": 2,
        "feature": "a/b",
        "feature_key": key,
        "sealed": True,
        "commit": 1,
        "rows": len(keys),
        "vectors": len(keys),
        "shape": {"rows": len(keys), "vectors": len(keys), "dim": 4, "dtype": "<f2", "ragged": False},
        "places": places,
        "size": len(content),
        "checksums": {name: xxh3(arrays[name].tobytes()) for name in arrays if name != "values"}
        | {"rest": xxh3(rest + content[at:])},
    }
    text = json.dumps(stamp).encode()
    text += b" " * (4096 - len(b"encode-once stamp ") - 32 - 2 - len(text)) + b"\n"
    content[:8192] = 2 * (b"encode-once stamp " + blake(text).hex().encode() + b"\n" + text)
    path.write_bytes(content)


def test_the_specification_is_enough_to_write_a_feature(tmp_path):
    store = tmp_path / "store"
    folder = store / "features" / "a" / "b"
    folder.mkdir(parents=True)
    (store / "store.json").write_text('{"format": "encode-once store", "version": 2}')
    spec = {"modality": "image", "weights": "ü"}
    key = blake(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hex()
    record = {"feature": "a/b", "key": key, "spec": spec, "provenance": {}, "created": "2026-11-22T00:00:00Z"}
    (folder / "spec.json").write_text(json.dumps(record))
    keys = pack(blake(bytes([row])) for row in range(50))
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    write_part(folder / "20261122T000000-0.h5", key, keys, values)
    np.testing.assert_array_equal(Store(store).feature("a/b").read(keys), values)
    assert verify(Store(store)) == []


def test_the_specification_is_enough_to_read_texts(tmp_path):
    store = Store(tmp_path / "store")
    feature = store.declare("a/text", {"modality": "image"})
    texts = ["ein Hund", "", "ÿ 🐕"]
    written = [np.frombuffer(text.encode(), np.uint8)[:, None] for text in texts]
    with feature.writer(3) as writer:
        keys = pack(blake(image) for image in (b"x", b"y", b"z"))
        writer.append(keys, np.concatenate(written), np.array([*map(len, written)]))
    rows = read_rows(store.path / "features" / "a/text", feature.key)
    assert [rows[blake(image)].tobytes().decode() for image in (b"x", b"y", b"z")] == texts
