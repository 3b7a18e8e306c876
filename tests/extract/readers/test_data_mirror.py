"""Data at URLs is read as the same data on a disk, and no image is stored on the disk."""

import io
import os
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest

from encode_once.cache import DataError, MissingDataError, UsageError, content_key
from encode_once.cache.file_index import FileIndex
from encode_once.extract import readers
from encode_once.extract.errors import InputError
from encode_once.extract.images import hashing
from encode_once.extract.images.thumbnail import thumbnail
from encode_once.extract.readers import data_mirror as module
from encode_once.extract.remote import contents, files, session
from encode_once.extract.remote.session import allowing
from tests.extract.readers.test_containers import SAMPLES, expected, rows
from tests.extract.readers.writers import WRITERS, Sample, captioned_images, csv_folder

URL = "memory://bucket"
SPLITS = {"train": SAMPLES["train"], "test": SAMPLES["val"]}


@pytest.fixture
def bucket():
    """An object store in memory, and a function that puts a local folder or file into it."""
    memory = fsspec.filesystem("memory")

    def put(root, name="x"):
        for path in [root] if root.is_file() else root.rglob("*"):
            if path.is_file():
                memory.pipe_file(f"/bucket/{name}/{path.relative_to(root) if root.is_dir() else path.name}",
                                 path.read_bytes())  # fmt: skip
        return f"{URL}/{name}"

    yield put
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def copies(monkeypatch):
    """The files of the temporary folders, each at the end of its use: size on the disk and content."""
    left = {}
    cleanup = module.TemporaryDirectory.cleanup

    def kept(folder):
        left.update((path.name, path.read_bytes()) for path in Path(folder.name).rglob("*") if path.is_file())
        cleanup(folder)

    monkeypatch.setattr(module.TemporaryDirectory, "cleanup", kept)
    return left


def with_keys(url, place, **options):
    """The tables with the keys of their images, and the warnings."""
    with allowing(readers.allowed_urls(url, options.get("images"))):
        tables, warnings = readers.read(url, readers.ReadOptions(**options))
        for table in tables.values():
            assert hashing.add_keys(table, FileIndex(place / "files.sqlite"), 4) == {}
    return tables, warnings


NOT_AT_URLS = "hugging_face", "parquet_paths"  # arrow files, and paths on this disk


@pytest.mark.parametrize("name", ["csv_folder", *(name for name in WRITERS if name not in NOT_AT_URLS)])
def test_every_container_gives_the_same_rows_and_keys_as_on_a_disk(tmp_path, bucket, copies, name):
    if name == "csv_folder":
        root = csv_folder(tmp_path / name, SPLITS)
    else:
        root = WRITERS[name](tmp_path / name, SAMPLES)
    local, local_warnings = readers.read(root)
    url = bucket(root, name) if root.is_dir() else f"{bucket(root, name)}/{root.name}"
    tables, warnings = with_keys(url, tmp_path)
    assert list(tables) == list(local)
    for (split, table), samples in zip(tables.items(), SAMPLES.values(), strict=True):
        assert rows(table) == expected(samples)
        place = os.path.relpath(local[split].source, root)
        assert table.source == (url if place == "." else f"{url}/{place}")
        assert all(image.startswith(f"{URL}/") for image in table.images)
    assert [line.replace(url, str(root)) for line in warnings] == local_warnings
    stored = b"".join(copies.values())
    if name != "parquet_bytes":  # whose metadata have short cells; see the test of larger ones
        assert not [sample.name for sample in SAMPLES["train"][:3] if sample.content in stored]


def test_columns_of_bytes_are_not_copied(tmp_path, bucket, copies):
    rng = np.random.default_rng(0)
    samples = [Sample(f"{row}.jpg", rng.bytes(5000), [f"caption {row}"], ["dog"]) for row in range(7)]
    root = WRITERS["parquet_bytes"](tmp_path / "x", {"train": samples})
    tables, _ = with_keys(f"{bucket(root)}/train.parquet", tmp_path)
    captions, keys = zip(*((row[2], row[3]) for row in rows(tables["train"])), strict=True)
    assert [*zip(captions, keys, strict=True)] == [row[2:] for row in expected(samples)]
    assert tables["train"].images[0] == f"{URL}/x/train.parquet::image[0]"
    assert not [sample.name for sample in samples if sample.content[:100] in copies["train.parquet"]]


def test_a_folder_of_images_is_read_in_its_order(tmp_path, bucket):
    samples = [Sample(sample.name, sample.content, sample.captions) for sample in SAMPLES["train"]]
    tables, _ = with_keys(bucket(captioned_images(tmp_path / "photos", samples)), tmp_path)
    assert tables["train"].ids == ["0.jpg", "1.png", "2.jpg", "4.jpeg", "5.jpg", "10.jpg", "a3.webp"]


def test_a_table_is_read_alone_and_lists_only_the_folders_that_it_names(tmp_path, bucket, monkeypatch):
    url = bucket(csv_folder(tmp_path / "x", SPLITS))
    bucket(captioned_images(tmp_path / "others", SAMPLES["train"]), "others")
    listed, listing = [], files.listing
    monkeypatch.setattr(files, "listing", lambda place, **o: listed.append(place) or listing(place, **o))
    tables, _ = with_keys(f"{url}/train.csv", tmp_path)
    assert rows(tables["train"]) == expected(SAMPLES["train"])
    assert {*listed} <= {url, f"{url}/data", f"{url}/images"}


def test_images_of_a_local_table_are_in_a_folder_at_a_url(tmp_path, bucket):
    root = csv_folder(tmp_path / "x", SPLITS)
    url = bucket(root / "data", "photos")
    (root / "data").rename(tmp_path / "elsewhere")
    tables, _ = with_keys(str(root), tmp_path, images=url)
    assert rows(tables["train"]) == expected(SAMPLES["train"])
    tables, _ = with_keys(str(root), tmp_path, images=[f"train={url}", f"test={url}"])
    assert rows(tables["test"]) == expected(SAMPLES["val"])
    assert tables["test"].images[0] == f"{url}/6.jpg"


def test_archives_of_a_range_of_numbers_are_read(tmp_path, bucket):
    place = captioned_images(tmp_path / "photos", SAMPLES["train"])
    for number in range(8, 12):
        with tarfile.open(tmp_path / f"shard-{number:03}.tar", "w") as archive:
            archive.add(place / "0.jpg", f"{number}.jpg")
        bucket(tmp_path / f"shard-{number:03}.tar", "shards")
    tables, _ = with_keys(f"{URL}/shards/shard-{{008..010}}.tar", tmp_path)
    assert tables["shard"].ids == ["8.jpg", "9.jpg", "10.jpg"]
    with pytest.raises(MissingDataError, match=r"shard-\{009\.\.020\}\.tar: no such file"):
        readers.read(f"{URL}/shards/shard-{{009..020}}.tar")
    with pytest.raises(DataError, match=r"\{10\.\.9\} are not"):
        readers.read(f"{URL}/shards/shard-{{10..9}}.tar")


@pytest.mark.parametrize("cut", [700, 1600, 2100, -1500, -600])
def test_a_truncated_archive_is_refused_or_warned_of_as_on_a_disk(tmp_path, bucket, cut):
    place = captioned_images(tmp_path / "photos", SAMPLES["train"])
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("0.jpg", "1.png", "1.txt"):
            archive.add(place / name, name)
    content = path.read_bytes()
    path.write_bytes(content[: cut if cut > 0 else 2048 + 512 * 3 + 1024 + cut])

    def outcome(data):
        try:
            tables, warnings = readers.read(data)
        except DataError as error:
            return "refused", re.sub(r"\(.*\)", "", str(error))
        return tables["x"].ids, warnings

    url = f"{bucket(path)}/x.tar"
    assert str(outcome(url)).replace(url, str(path)) == str(outcome(path))


def test_an_archive_is_fetched_once_to_read_and_hash_it(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(contents, "BLOCK", 4096)
    monkeypatch.setattr(session, "KEPT", 4 * 4096)
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for row in range(40):
            member = tarfile.TarInfo(f"{row}.jpg")
            member.size = 3000
            archive.addfile(member, io.BytesIO(bytes([row]) * 3000))
    url, fetched, read = f"{bucket(path)}/x.tar", [], files.read
    monkeypatch.setattr(files, "read", lambda *place: fetched.append(place) or read(*place))
    with allowing(readers.allowed_urls(url, None)):
        table = readers.read(url)[0]["x"]
        hashing.add_keys(table, FileIndex(tmp_path / "files.sqlite"), 1)
        assert len(fetched) == len({*fetched}) <= -(-path.stat().st_size // 4096)
        fetched.clear()
        for row, image in enumerate(table.images):  # as the encoding does
            assert hashing.read_file(image) == bytes([row]) * 3000
        assert len(fetched) <= -(-path.stat().st_size // 4096)


def test_class_folders_at_a_url_know_equal_names_by_size_and_version(bucket, tmp_path, monkeypatch):
    for name, content in {
        "dog/0.jpg": b"both",
        "cat/0.jpg": b"both",
        "cat/1.jpg": b"cat",
        "dog/1.jpg": b"dog!",
    }.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    stat = files.stat_of_info
    monkeypatch.setattr(files, "stat_of_info", lambda info: (stat(info)[0], -stat(info)[0]))  # a hash
    tables, _ = readers.read(bucket(tmp_path / "x"))
    assert sorted(tables["train"].labels) == [("cat",), ("cat", "dog"), ("dog",)]


def test_names_that_no_file_can_have_are_left_out_and_counted(tmp_path, bucket):
    url = bucket(captioned_images(tmp_path / "photos", SAMPLES["train"]))
    memory = fsspec.filesystem("memory")
    for name in ("../../escaped.csv", "a//b.csv", "0.jpg/under.csv", "x" * 300 + ".csv"):
        memory.store[f"/bucket/x/{name}"] = memory.store["/bucket/x/0.jpg"]
    reading = readers.understand(url)
    assert reading.tables["train"].ids[0] == "0.jpg"
    (line,) = [line for line in reading.unused if "no file can have" in line]
    assert "names that no file can have: 4" in line


def test_missing_data_and_unknown_protocols_are_one_line(bucket, tmp_path):
    for url in (f"{URL}/none", f"{URL}/none/train.csv"):
        with pytest.raises(MissingDataError, match=re.escape(url)):
            readers.read(url)
    with pytest.raises(UsageError, match="ftp:// is not read"):
        readers.read("ftp://host/train.csv")
    bucket(csv_folder(tmp_path / "x", SPLITS))
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    with pytest.raises(DataError, match=rf"^{URL}/x/bad\.csv"):
        readers.read(f"{bucket(tmp_path / 'bad.csv')}/bad.csv")


def test_only_urls_that_the_user_names_are_fetched(tmp_path, bucket):
    url = bucket(csv_folder(tmp_path / "x", SPLITS))
    images = [
        f"{url}/data/0.jpg",
        "memory://other/0.jpg",
        f"{url}/../../other/0.jpg",
        "http://169.254.169.254/a.jpg",
    ]
    table = tmp_path / "photos.csv"
    table.write_text("image,caption\n" + "".join(f"{image},a\n" for image in images))
    for options, number in (({}, 0), ({"allow_urls": [url]}, 1), ({"images": f"{url}/data"}, 1)):
        reading = readers.understand(table, readers.ReadOptions(**options))
        assert sum(map(bool, reading.tables["photos"].images)) == number
        assert f"{len(images) - number} rows name URLs" in " ".join(reading.warnings)
    at_url = bucket(table, "x/tables")
    assert sum(map(bool, readers.read(f"{at_url}/photos.csv")[0]["photos"].images)) == 0, "in another folder"
    assert sum(map(bool, readers.read(f"{bucket(table)}/photos.csv")[0]["photos"].images)) == 1
    for others in ([], readers.allowed_urls(f"{URL}/elsewhere", None)):
        with allowing(others), pytest.raises(InputError, match="not allowed"):
            hashing.read_file(images[0])
    assert thumbnail(images[0], content_key(SAMPLES["train"][0].content)) is None, "in a page"


@pytest.mark.parametrize("name", ["x.tar", "x.parquet"])
def test_an_archive_of_unknown_length_is_refused_in_one_line(monkeypatch, name):
    monkeypatch.setattr(module.files.web, "info", lambda url, allows: {})
    with pytest.raises(DataError, match=rf"^http://e.org/{name}: the server does not say how long"):
        readers.read(f"http://e.org/{name}")


def test_a_column_that_is_nowhere_in_a_parquet_file_is_not_copied():
    kind = SimpleNamespace(physical_type="INT64")
    columns = [
        SimpleNamespace(dictionary_page_offset=None, data_page_offset=offset, total_compressed_size=9)
        for offset in (0, 4)
    ]
    group = SimpleNamespace(num_columns=2, column=columns.__getitem__)
    metadata = SimpleNamespace(schema=SimpleNamespace(column=lambda _: kind))
    assert [*module._text_columns(metadata, group)] == [(4, 13)]


def test_local_files_may_be_named_by_file_urls(tmp_path):
    root = csv_folder(tmp_path / "x y", SPLITS)
    tables, _ = readers.read(f"file://{root}".replace(" ", "%20"))
    assert tables["train"].images == readers.read(root)[0]["train"].images
