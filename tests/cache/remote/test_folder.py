"""A folder at a URL: the requests that a store makes, and errors of one line."""

import pickle
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from encode_once.cache import RemoteError, UsageError
from encode_once.cache.remote import folder as remote_folder
from encode_once.cache.remote.folder import RemoteFolder
from encode_once.cache.remote.location import is_url, local_path


@pytest.fixture(params=["memory", pytest.param("bucket", marks=pytest.mark.slow)])
def folder(request):
    return RemoteFolder(f"{request.getfixturevalue(request.param)}/a/store/")


def test_files_are_written_listed_read_and_deleted(folder, tmp_path):
    fsspec.filesystem(folder.url.partition(":")[0]).pipe_file(
        f"{folder.url}-other/file", b"of another folder"
    )
    assert folder.list() == {}
    folder.write("tables/one.h5", b"0123456789")
    (tmp_path / "file").write_bytes(b"abc")
    assert folder.upload("store.json", tmp_path / "file")
    assert {name: file.size for name, file in folder.list().items()} == {"tables/one.h5": 10, "store.json": 3}
    assert list(folder.list("tables")) == ["tables/one.h5"]
    assert folder.list("features") == {}
    assert folder.read("tables/one.h5", 2, 5) == b"234"
    assert b"".join(folder.download("tables/one.h5", 1, 10)) == b"123456789"
    assert folder.read_all(["store.json", "gone"]) == {"store.json": b"abc"}
    folder.delete("store.json")
    folder.delete("store.json")
    assert list(pickle.loads(pickle.dumps(folder)).list()) == ["tables/one.h5"]
    with pytest.raises(FileNotFoundError):
        folder.read("store.json")


def test_the_version_of_a_file_changes_with_its_content(folder):
    versions = set()
    for content in (b"one", b"two", b"three"):
        folder.write("file", content)
        versions.add(folder.list()["file"].version)
    assert len(versions) == 3


def test_of_many_who_create_a_file_one_does(folder, tmp_path):
    def create(number):
        content = tmp_path / str(number)
        content.write_bytes(b"%d" % number)
        return folder.create("file", b"%d" % number) if number % 2 else folder.upload("file", content)

    with ThreadPoolExecutor(16 if folder.url.startswith("s3") else 1) as pool:
        created = list(pool.map(create, range(16)))
    assert created.count(True) == 1
    assert folder.read("file") == b"%d" % created.index(True)


@pytest.mark.slow
def test_what_is_missing_is_said_in_one_line(bucket, monkeypatch):
    with pytest.raises(RemoteError, match=r"^s3://no-bucket/x: there is no such bucket: create it first$"):
        RemoteFolder("s3://no-bucket/x").list()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"cannot be reached \(Could not connect.*AWS_ENDPOINT_URL, then"):
        RemoteFolder(bucket).list()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"no credentials .*: set AWS_ACCESS_KEY_ID"):
        RemoteFolder(bucket).list()
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def missing(protocol, **options):
        raise ImportError(protocol)

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(RemoteError, match=r"s3://b needs the package s3fs: pip install 'encode-once\[s3\]'"):
        RemoteFolder("s3://b").list()


def test_urls_are_told_from_paths():
    paths = ["store", "/a/b", "a:b", "onnx:model", "C:/store", "file:///a/b", Path("x")]
    assert not any(map(is_url, paths))
    assert is_url("s3://bucket/prefix")
    assert is_url("gs://bucket")
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("a%20b") == Path("a%20b")
    with pytest.raises(UsageError, match=r"http://x: http:// is not read; use s3://"):
        is_url("http://x")
    assert is_url("S3://bucket")
    for path in (Path("s3://bucket/x"), "s3:/bucket/x"):
        with pytest.raises(UsageError, match=r"s3:/bucket/x: a URL has two slashes"):
            is_url(path)


def test_a_protocol_may_be_in_capitals(memory):
    folder = RemoteFolder(memory.upper())
    folder.write("x", b"1")
    assert (folder.url, folder.read("x")) == (memory.upper().replace("MEMORY", "memory"), b"1")


def test_two_who_create_at_once_are_asked_to_try_again(memory, monkeypatch, tmp_path):
    def conflicts(self, path, *args, **options):
        if not answers:
            return create(self, path, *args, **options)
        cause = OSError()
        cause.response = {"Error": {"Code": answers.pop()}}
        raise OSError("conflict") from cause

    monkeypatch.setattr(remote_folder, "PAUSE", 0)
    create = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", conflicts)
    folder = RemoteFolder(memory)
    answers = ["ConditionalRequestConflict"] * 2
    assert folder.create("x", b"1")
    answers = ["ConditionalRequestConflict", "PreconditionFailed"][::-1]
    assert not folder.create("x", b"2")
    answers = ["ConditionalRequestConflict"] * 3
    with pytest.raises(RemoteError, match="the server failed"):
        folder.create("x", b"2")
    answers = ["AccessDenied", "AccessDenied"]
    with pytest.raises(RemoteError):
        folder.create("x", b"2")
    assert len(answers) == 1


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_in_time(s3_server, monkeypatch, tmp_path):
    content = tmp_path / "part"
    content.write_bytes(bytes(10**7))
    with socket.socket() as hangs:
        hangs.bind(("127.0.0.1", 0))
        hangs.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{hangs.getsockname()[1]}")
        monkeypatch.setenv("ENCODE_ONCE_REMOTE_TIMEOUT", "0.5")
        fsspec.filesystem("s3").clear_instance_cache()
        folder = RemoteFolder("s3://bucket")
        for request in (
            folder.list,
            lambda: folder.read("x"),
            lambda: folder.write("x", b"x"),
            lambda: folder.create("x", b"x"),
            lambda: folder.upload("x", content),
        ):
            started = time.monotonic()
            with pytest.raises(RemoteError, match="cannot be reached"):
                request()
            assert time.monotonic() - started < 30
    fsspec.filesystem("s3").clear_instance_cache()
