"""Shards of one table: each reads its own images only, and together they make the whole store."""

import os

import numpy as np
import pytest
from webdataset import TarWriter

from encode_once.cache import Shard, Store
from encode_once.cache.keys import present
from encode_once.cache.maintenance import verify
from encode_once.cache.merge import merge
from encode_once.extract import ReadOptions, encode, shards
from encode_once.extract.images import containers, hashing
from tests.conftest import picture, vectors_file, write_data
from tests.extract.images.test_decode import saved

VIT, GLOVE = "timm:test_vit", "glove-100"
FEATURES = f"{VIT}+random/pooled", f"{GLOVE}/mean"
SHARDS = [Shard(number, 3) for number in range(3)]


@pytest.fixture
def extract(tmp_path):
    weights = {VIT: "random", GLOVE: str(vectors_file(tmp_path / "vectors.txt"))}

    def extract(data, store, shard=None, names=(VIT, GLOVE), images=None):
        options = {"device": "cpu", "progress": False, "read": ReadOptions(images=images)}
        return encode(data, names, store, weights=weights, shard=shard, **options)

    return extract


@pytest.fixture
def reads(monkeypatch):
    """The images that are read for their keys."""
    paths, original = [], hashing.read_file
    monkeypatch.setattr(hashing, "read_file", lambda path: paths.append(path) or original(path))
    return paths


def check_equal(store, whole):
    """Both stores have the same table and vectors, and nothing is wrong with the first."""
    assert not [problem for report in verify(store) for problem in report.problems]
    table, expected = store.table(), whole.table()
    assert table.has_rows_of(expected)
    for name, modality in zip(FEATURES, ("image", "caption"), strict=True):
        keys = table.keys(modality)
        np.testing.assert_array_equal(store.feature(name).read(keys), whole.feature(name).read(keys))


def test_shards_of_one_store_read_each_image_once_and_are_the_whole(folder, tmp_path, extract, reads):
    root, store = folder(30), Store(tmp_path / "store")
    for image in (root / "data").iterdir():  # the keys of files that are just written are not remembered
        os.utime(image, (0, 0))
    by_shard = []
    for shard in SHARDS:
        reads.clear()
        extract(root, store, shard)
        by_shard.append({*reads})
    assert all(by_shard)
    assert sum(map(len, by_shard)) == len(set.union(*by_shard)) == 30
    whole = Store(tmp_path / "whole")
    extract(root, whole)
    check_equal(store, whole)
    reads.clear()
    assert all(counts.encoded == 0 for counts in extract(root, store).features.values())
    assert not reads


def test_stores_of_shards_are_merged_to_the_whole(folder, tmp_path, extract, reads):
    root, stores = folder(30), [Store(tmp_path / f"node-{shard}") for shard in SHARDS]
    for image in (root / "data").iterdir():  # the keys of files that are just written are not remembered
        os.utime(image, (0, 0))
    for shard, store in zip(SHARDS, stores, strict=True):
        extract(root, store, shard)
        assert 0 < present(store.table().keys("image")).sum() < 30
    notes = [note for store in stores[1:] for note in merge(stores[0], store).notes]
    whole = Store(tmp_path / "whole")
    extract(root, whole)
    check_equal(stores[0], whole)
    assert len(notes) == 2
    assert all("more images" in note for note in notes)
    assert not [note for store in stores[1:] for note in merge(stores[0], store).notes if "more" in note]
    reads.clear()
    assert all(counts.encoded == 0 for counts in extract(root, stores[0]).features.values())
    assert not reads, "the merged index has the keys of all images"


@pytest.mark.parametrize("layout", ["table", "folders of classes", "images elsewhere"])
def test_machines_that_have_the_data_at_different_places_have_the_same_shards(
    tmp_path, extract, reads, layout
):
    names = []
    for place in ("one/photos", "two/pictures"):
        root = write_data(tmp_path / place, 30)
        images = None
        if layout == "images elsewhere":
            images = (root / "data").rename(root.parent / "images")
        elif layout == "folders of classes":
            (root / "train.csv").unlink()
            (root / "data").rename(root / "dog")
            (root / "cat").mkdir()
            (root / "dog" / "0.png").rename(root / "cat" / "0.png")
        reads.clear()
        extract(root, tmp_path / place / "store", SHARDS[1], [VIT], images)
        names.append({path.removeprefix(str(root.parent)).removeprefix(f"/{root.name}") for path in reads})
    assert names[0] == names[1]
    assert 0 < len(names[0]) < 30


def test_a_shard_may_have_no_image(folder, tmp_path, extract):
    root, store = folder(1), Store(tmp_path / "store")
    encoded = [extract(root, store, shard).features[FEATURES[0]].encoded for shard in SHARDS]
    assert sorted(encoded) == [0, 0, 1]


def test_rows_that_were_changed_meanwhile_take_no_keys_of_the_earlier_table(folder, tmp_path, extract):
    root, store = folder(30), Store(tmp_path / "store")
    extract(root, store, SHARDS[0])
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    extract(root, store, SHARDS[1])
    alone = Store(tmp_path / "alone")
    extract(root, alone, SHARDS[1])
    assert store.table().has_rows_of(alone.table())


@pytest.mark.parametrize("few", [True, False])
def test_of_many_containers_each_is_read_by_one_shard(tmp_path, extract, reads, monkeypatch, few):
    monkeypatch.setattr(shards, "PER_SHARD", 5 if few else 4)
    (tmp_path / "data").mkdir()
    for number in range(12):
        with TarWriter(str(tmp_path / "data" / f"train-{number:06}.tar")) as writer:
            for row in range(3):
                png = saved(picture(3 * number + row), "PNG")
                writer.write({"__key__": f"{number}-{row}", "png": png, "json": {"labels": ["x"]}})
    read_by = []
    for shard in SHARDS:
        reads.clear()
        extract(tmp_path / "data", tmp_path / "store", shard, [VIT])
        read_by.append({containers.container_of(path) for path in reads})
    assert (sum(map(len, read_by)) == len(set.union(*read_by)) == 12) != few
