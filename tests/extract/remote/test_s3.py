"""Data in buckets of S3: a table and its images, images that a local table names, archives; with predict."""

import os
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from encode_once.cache import Store
from encode_once.extract import ReadOptions, encode
from encode_once.extract.remote import files
from tests.conftest import files_of, write_data

pytestmark = pytest.mark.slow

VIT = "timm:test_vit"
FEATURE = f"{VIT}+random/pooled"
N = 24


def put(url, root):
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    for path, content in files_of(root).items():
        system.pipe_file(f"{url}/{path.relative_to(root)}", content)


@pytest.fixture
def requests(monkeypatch):
    """What is fetched: (URL, start, end)."""
    places, read = [], files.read
    monkeypatch.setattr(files, "read", lambda *place: places.append(place) or read(*place))
    return places


def extract(data, store, **options):
    return encode(data, [VIT], store, weights={VIT: "random"}, device="cpu", progress=False, **options)


def counts(report):
    return [(count.encoded, count.present, count.failed) for count in report.features.values()]


def check_equal(store, root, tmp_path):
    """The vectors are those of the same images on a disk."""
    extract(root, tmp_path / "local")
    local = Store(tmp_path / "local")
    keys = local.table().keys("image")
    np.testing.assert_array_equal(Store(store).feature(FEATURE).read(keys), local.feature(FEATURE).read(keys))


def test_a_table_and_its_images_are_read_once_and_then_not_again(tmp_path, bucket, requests):
    root = write_data(tmp_path / "input", N)
    put(bucket, root)
    assert counts(extract(f"{bucket}/train.csv", tmp_path / "store")) == [(N, 0, 0)]
    images = [url for url, _, _ in requests if url.endswith(".png")]
    assert len(images) == len({*images}) == N, "an image is kept in memory until it is encoded"
    requests.clear()
    for data in (f"{bucket}/train.csv", bucket):
        assert counts(extract(data, tmp_path / "store")) == [(0, N, 0)]
    assert not [url for url, _, _ in requests if url.endswith(".png")], "ETags say that they are unchanged"
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.pipe_file(f"{bucket}/data/1.png", (root / "data" / "0.png").read_bytes())
    requests.clear()
    assert counts(extract(bucket, tmp_path / "store")) == [(0, N, 0)]
    assert [url for url, _, _ in requests if url.endswith(".png")] == [f"{bucket}/data/1.png"]
    assert {table.source for table in Store(tmp_path / "store").tables()} == {f"{bucket}/train.csv"}
    check_equal(tmp_path / "store", root, tmp_path)


def test_a_local_table_names_images_in_a_bucket(tmp_path, bucket):
    root = write_data(tmp_path / "input", N)
    put(bucket, root / "data")
    table = tmp_path / "photos.csv"
    rows = "".join(f"{row},{bucket}/{row}.png,a{row % 2}\n" for row in range(N))
    table.write_text(f"id,image,labels\n{rows}missing,{bucket}/none.png,a0\n")
    report = extract(table, tmp_path / "store", read=ReadOptions(allow_urls=[bucket]))
    assert counts(report) == [(N, 0, 1)]
    assert [(failed.input, failed.reason) for failed in report.failures] == [
        (f"{bucket}/none.png", "missing")
    ]
    check_equal(tmp_path / "store", root, tmp_path)


def test_archives_are_streamed_and_nothing_is_left_on_the_disk(tmp_path, bucket, requests, monkeypatch):
    root, place = write_data(tmp_path / "input", N), tmp_path / "temporary"
    (tmp_path / "shards").mkdir()
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    for number in range(3):
        with tarfile.open(tmp_path / "shards" / f"photos-{number:03}.tar", "w") as archive:
            for row in range(number, N, 3):
                archive.add(root / "data" / f"{row}.png", f"{row}.png")
    put(bucket, tmp_path / "shards")
    url = f"{bucket}/photos-{{000..002}}.tar"
    assert counts(extract(url, tmp_path / "store")) == [(N, 0, 0)]
    assert len(requests) == 3, "one pass over each: the archive is then in memory"
    assert counts(extract(url, tmp_path / "store")) == [(0, N, 0)]
    assert not [*place.iterdir()]
    check_equal(tmp_path / "store", root, tmp_path)


def test_runs_predict_what_is_at_urls(tmp_path, bucket, state_after, run):
    root = state_after(
        f"extract --encoder {VIT} --weights random", f"fit --head linear --features {FEATURE} --run runs/r"
    )
    put(bucket, root)
    options = ["--weights", "random"]
    run("predict", "runs/r", "--data", "input", "--table", "train", "-o", "local.csv", *options)
    run("predict", "runs/r", "--data", bucket, "--table", "train", "-o", "remote.csv", *options)
    assert Path("local.csv").read_bytes() == Path("remote.csv").read_bytes()
    local = run("predict", "runs/r", "input/data/3.png", *options).stdout
    remote = run("predict", "runs/r", f"{bucket}/data/3.png", *options).stdout
    assert remote.replace(f"{bucket}/data", "input/data").split() == local.split()
    assert run("predict", "runs/r", f"{bucket}/data", *options).stdout.count(".png") == 60
    assert "no such file" in run("predict", "runs/r", f"{bucket}/none.png", *options, status=1).stderr


def test_a_bucket_that_is_not_there_or_without_credentials_is_one_line(tmp_path, bucket, run, monkeypatch):
    line = run(
        "extract", "--encoder", VIT, "--weights", "random", "--data", "s3://no-such-bucket-1/x", status=1
    )
    assert len(line.stderr.strip().splitlines()) == 1
    assert "s3://no-such-bucket-1/x" in line.stderr
    assert os.path.exists("store") is False
