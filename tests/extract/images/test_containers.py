"""Images are read from their containers: the same bytes as in files, and cached keys are reused."""

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyarrow import parquet

from encode_once.cache import Table, content_key
from encode_once.cache.file_index import FileIndex
from encode_once.extract.errors import InputError
from encode_once.extract.images import containers, hashing
from encode_once.extract.images.hashing import read_file

IMAGES = [bytes([n]) * (n + 1) for n in range(50)]


def tar(path):
    with tarfile.open(path, "w") as archive:
        for n, content in enumerate(IMAGES):
            member = tarfile.TarInfo(f"dir/{n}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with tarfile.open(path) as archive:
        return [containers.in_tar(str(path), m.name, m.offset_data, m.size) for m in archive.getmembers()]


def struct_of(images):
    return pa.array([{"bytes": content, "path": "x"} for content in images])


def parquet_file(path):
    parquet.write_table(pa.table({"image": IMAGES, "n": range(50)}), path, row_group_size=7)
    return [containers.cell(str(path), "image", n) for n in range(50)]


def arrow_file(path, writer=pa.ipc.new_stream):
    batches = [pa.record_batch({"image": struct_of(IMAGES[at : at + 9])}) for at in range(0, 50, 9)]
    with pa.OSFile(str(path), "wb") as file, writer(file, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return [containers.cell(str(path), "image", n) for n in range(50)]


def random_access_arrow_file(path):
    return arrow_file(path, pa.ipc.new_file)


CONTAINERS = {
    "shard.tar": tar,
    "x.parquet": parquet_file,
    "stream.arrow": arrow_file,
    "file.arrow": random_access_arrow_file,
}


@pytest.fixture(params=CONTAINERS)
def container(request, tmp_path):
    """A container of the images, and their sources."""
    path = tmp_path / "a::b" / request.param
    path.parent.mkdir()
    return path, CONTAINERS[request.param](path)


def test_threads_read_members_in_any_order(container):
    _, sources = container
    backwards = [n for n in reversed(range(50)) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda n: read_file(sources[n]), backwards))
    assert contents == [IMAGES[n] for n in backwards]


def table_of(sources):
    return Table("/d/t", [str(n) for n in range(50)], sources, [""] * 50, None)


def test_members_of_an_unchanged_container_are_not_read_again(container, tmp_path, monkeypatch):
    path, sources = container
    long_ago = 10**18
    os.utime(path, ns=(long_ago, long_ago))
    index, table = FileIndex(tmp_path / "files.sqlite"), table_of(sources)
    assert hashing.add_keys(table, index, 3) == {}
    keys = [content_key(content) for content in IMAGES]
    assert list(map(bytes, table.image_keys)) == keys
    monkeypatch.setattr(containers, "read", lambda _: pytest.fail("a member was read again"))
    again = table_of(sources)
    assert hashing.add_keys(again, index, 3) == {}
    assert list(map(bytes, again.image_keys)) == keys
    monkeypatch.undo()
    os.utime(path, ns=(long_ago, long_ago + 10**9))
    read = []
    original = containers.read
    monkeypatch.setattr(containers, "read", lambda source: read.append(source) or original(source))
    hashing.add_keys(table_of(sources), index, 3)
    assert sorted(read) == sorted(sources)


def test_a_missing_or_replaced_container_is_an_error(container):
    path, sources = container
    assert read_file(sources[3]) == IMAGES[3]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError):
        read_file(sources[-1])
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_file(sources[3])


def test_a_container_that_lost_rows_is_an_error(tmp_path):
    sources = parquet_file(tmp_path / "x.parquet")
    parquet.write_table(pa.table({"image": IMAGES[:2]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no longer has a row 49"):
        read_file(sources[49])


def test_a_row_without_an_image_is_an_error(tmp_path):
    parquet.write_table(pa.table({"image": [None, b"x"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="row 0 of the container has no image"):
        read_file(containers.cell(str(tmp_path / "x.parquet"), "image", 0))


def test_a_plain_file_may_have_any_name(tmp_path):
    path = tmp_path / "x::y.tar"
    path.write_bytes(b"content")
    assert read_file(str(path)) == b"content"


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "0.jpg")
    (tmp_path / "1.jpg").symlink_to("/dev/zero")
    for name in ("0.jpg", "1.jpg"):
        with pytest.raises(InputError, match="not a regular file"):
            read_file(str(tmp_path / name))
