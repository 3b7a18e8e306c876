"""What is read at URLs: sizes and versions, retries, and errors by type, with servers that misbehave."""

import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from encode_once.cache import RemoteError, Store, Table
from encode_once.cache.file_index import FileIndex
from encode_once.extract import ComputeOptions, ReadOptions, encode
from encode_once.extract.errors import InputError
from encode_once.extract.images import hashing
from encode_once.extract.remote import attempts, files, session
from encode_once.extract.remote.files import stat_of_info
from encode_once.extract.remote.session import allowing
from encode_once.extract.remote.urls import UrlPrefix
from tests.conftest import picture
from tests.extract.images.test_decode import saved

OLD = "Wed, 01 Jan 2020 00:00:00 GMT"
VIT = "timm:test_vit"


class Site:
    """A web server in this process: path → (status, headers, body), and what was asked for."""

    def __init__(self):
        site = self
        self.pages, self.requests = {}, []
        self.piece, self.wait = 1 << 30, 0  # bytes that are sent at a time, and seconds between them

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                site.requests.append((self.command, self.path))
                answers = site.pages.get(self.path, [(404, {}, b"")])
                status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                if status is None:
                    threading.Event().wait(3)
                    return
                if "Range" in self.headers and status == 200 and headers.pop("parts", True):
                    start, end = self.headers["Range"].removeprefix("bytes=").split("-")
                    status, body = 206, body[int(start) : int(end) + 1]
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command == "GET":
                    for start in range(0, len(body), site.piece):
                        self.wfile.write(body[start : start + site.piece])
                        threading.Event().wait(site.wait)

            do_GET = do_HEAD = answer  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path, body=b"", status=200, **headers):
        self.pages.setdefault(path, []).append((status, headers, body))
        return f"{self.url}{path}"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSE", 0.01)
    monkeypatch.setenv("ENCODE_ONCE_REMOTE_TIMEOUT", "0.2")
    site = Site()
    with allowing([UrlPrefix.parse(site.url)]):
        yield site
    site.server.shutdown()
    site.server.server_close()


def failure(url):
    with pytest.raises(InputError) as error:
        hashing.read_file(url)
    return error.value.reason, str(error.value)


def test_size_and_version_are_two_numbers():
    moment = datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC)
    time_ns = 1_577_836_801 * 10**9
    assert stat_of_info({"size": 3, "LastModified": moment}) == (3, time_ns)
    assert stat_of_info({"size": 3, "mtime": time_ns / 1e9}) == (3, time_ns)
    size, version = stat_of_info({"size": 3, "ETag": '"a"', "LastModified": moment})
    assert (size, version < 0) == (3, True), "it is no time, and as old as any"
    assert stat_of_info({"size": 3, "ETag": '"a"'}) == (size, version)
    assert stat_of_info({"size": 3, "ETag": '"b"'}) != (size, version)
    assert stat_of_info({"size": 3})[1] == files.UNKNOWN_TIME


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(site, tmp_path):
    url, index = site.put("/0.png", b"first", ETag='"1"'), FileIndex(tmp_path / "files.sqlite")
    new = site.put(
        "/1.png", b"new", **{"Last-Modified": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")}
    )
    table = Table("t", ["0", "1"], [url, new], ["", ""], None)
    for change, read in ((None, {url, new}), (None, {new}), (b"other", {url, new})):
        if change:
            site.pages["/0.png"] = [(200, {"ETag": '"2"'}, change)]
        site.requests.clear()
        with allowing([]):
            session.current().stats.clear()
            session.current().contents.clear()
            assert hashing.add_keys(table, index, 2) == {}
        assert {f"{site.url}{path}" for method, path in site.requests if method == "GET"} == read
        assert hashing.content_key(change or b"first") == table.image_keys[0].tobytes()


def test_errors_have_types_and_passing_ones_are_tried_again(site):
    site.put("/busy", b"", 503)
    site.put("/busy", b"", 429)
    assert hashing.read_file(site.put("/busy", b"at last")) == b"at last"
    assert failure(f"{site.url}/none") == ("missing", "no such file at the URL")
    assert failure(site.put("/secret", b"", 403))[0] == "denied"
    assert failure(site.put("/broken", b"", 500))[0] == "unreachable"
    assert failure(site.put("/hangs", b"", None)) == ("timeout", "no answer in time")
    assert failure(site.put("/short", b"abc", **{"Content-Length": 9}))[0] == "unreachable"
    assert len([path for _, path in site.requests if path == "/broken"]) == attempts.ATTEMPTS
    assert len([path for _, path in site.requests if path == "/secret"]) == 1
    with allowing([UrlPrefix.parse("http://127.0.0.1:1")]):
        assert failure("http://127.0.0.1:1/0.png")[0] == "unreachable"


def test_a_server_that_sends_a_byte_at_a_time_does_not_hold_a_thread(site, monkeypatch):
    monkeypatch.setattr(attempts, "ATTEMPTS", 1)
    url = site.put("/0.png", bytes(100))
    site.piece, site.wait = 1, 0.05  # five seconds in all
    started = time.monotonic()
    assert failure(url) == ("timeout", "no answer in time")
    assert time.monotonic() - started < 2


def test_what_ends_first_of_two_threads_leaves_the_other_its_urls():
    first, second = (allowing([UrlPrefix.parse(f"s3://{bucket}")]) for bucket in ("a", "b"))
    first.__enter__()
    second.__enter__()
    session.current().stats["s3://b/0.png"] = 1, 1
    first.__exit__(None, None, None)
    assert [session.is_allowed(f"s3://{bucket}/0.png") for bucket in ("a", "b")] == [False, True]
    assert files.stat("s3://b/0.png") == (1, 1)
    second.__exit__(None, None, None)
    assert not session.is_allowed("s3://b/0.png")
    assert session.current() is None


def test_redirects_lead_only_to_what_is_allowed(site):
    site.put("/0.png", b"here")
    assert hashing.read_file(site.put("/moved", status=302, Location="/0.png")) == b"here"
    other = Site()
    other.put("/secret", b"of another server")
    reason, message = failure(site.put("/trap", status=302, Location=f"{other.url}/secret"))
    assert (reason, "redirects to" in message, other.requests) == ("unreadable", True, [])
    assert failure(site.put("/file", status=302, Location="file:///etc/passwd"))[0] == "unreadable"
    other.server.server_close()


def test_files_of_a_server_that_says_nothing_of_them_are_read(site, monkeypatch):
    monkeypatch.setenv("ENCODE_ONCE_MAX_IMAGE_MB", "1")
    site.pages["/0.png"] = [(405, {}, b""), (200, {}, b"content")]
    assert hashing.read_file(f"{site.url}/0.png") == b"content"
    site.pages["/1.png"] = [(405, {}, b""), (200, {}, bytes(1 << 21))]
    assert "more than the limit of 1" in failure(f"{site.url}/1.png")[1]


def test_a_store_that_is_down_ends_the_command_in_one_line(site, monkeypatch):
    monkeypatch.setattr(attempts, "ATTEMPTS", 1)
    urls = [site.put(f"/{row}.png", b"", 500) for row in range(100)]
    with pytest.raises(RemoteError, match="as were 19 files before: check the network") as error:
        files.stats(urls)
    assert "\n" not in str(error.value)
    assert len(site.requests) < 20 + files.READERS + 1


def refused(code, status=400):
    """What s3fs raises for an answer with one of S3's error codes."""
    answer = OSError(code)
    answer.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = PermissionError("refused") if code != "400" else OSError("bad request")
    error.__cause__ = answer
    return error


@pytest.fixture
def memory(monkeypatch):
    """An object store in memory; after `memory.refuses["ls"] = error`, its `ls` raises that, and so on."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "refuses", {}, raising=False)
    for name in ("cat_file", "info", "ls"):
        method = getattr(type(memory), name)

        def answer(self, *args, name=name, method=method, **options):
            if error := self.refuses.get(name):
                raise error
            return method(self, *args, **options)

        monkeypatch.setattr(type(memory), name, answer)
    with allowing([UrlPrefix.parse("memory://bucket")]):
        yield memory
    memory.store.clear()


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "InvalidAccessKeyId"])
def test_credentials_that_are_of_no_use_end_the_command(memory, code):
    memory.pipe_file("/bucket/0.png", b"content")
    memory.refuses["cat_file"] = refused(code)
    with pytest.raises(RemoteError, match="refused"):
        hashing.read_file("memory://bucket/0.png")


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("403", 403), ("400", 400)])
def test_denied_access_says_nothing_of_the_input(memory, code, status):
    memory.pipe_file("/bucket/0.png", b"content")
    memory.refuses["cat_file"] = refused(code, status)
    assert failure("memory://bucket/0.png")[0] == "denied"
    assert "denied" in attempts.PASSING


def test_files_are_read_by_credentials_that_list_no_folders(memory):
    urls = [f"memory://bucket/{row}.png" for row in range(files.FEW + 1)]
    for row in range(len(urls)):
        memory.pipe_file(f"/bucket/{row}.png", bytes(row))
    memory.refuses["ls"] = refused("AccessDenied", 403)
    stats, errors = files.stats(urls)
    assert ([stats[url][0] for url in urls], errors) == ([*range(len(urls))], {})
    with pytest.raises(RemoteError, match="cannot be listed"):
        files.listing("memory://bucket")


def test_a_protocol_may_be_in_capitals_and_a_url_that_is_not_opened_fails_alone(memory, monkeypatch):
    memory.pipe_file("/bucket/0.png", b"content")
    assert hashing.read_file("MEMORY://bucket/0.png") == b"content"
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: 1 / 0)
    assert failure("memory://bucket/1.png")[0] == "unreadable"


@pytest.mark.slow
def test_an_input_that_could_not_be_reached_is_tried_by_the_next_extract(site, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "KEPT", 0)  # each image is read twice
    good = saved(picture(0), "PNG")
    url = site.put("/0.png", good)
    site.pages["/0.png"] = [(200, {}, good)] * 2 + [(500, {}, b"")]
    other = site.put("/1.png", saved(picture(1), "PNG"))
    site.pages["/2.png"] = [(200, {}, good + b"2")] * 2 + [(403, {}, b"")]
    images = [url, other, f"{site.url}/2.png"]
    table, store = Table("t", ["0", "1", "2"], images, [""] * 3, None), Store(tmp_path / "store")
    options = {
        "weights": {VIT: "random"},
        "device": "cpu",
        "progress": False,
        "compute": ComputeOptions(workers=1),
    }
    report = encode(
        table, [VIT], store, keep_tables=False, read=ReadOptions(allow_urls=[site.url]), **options
    )
    assert [failed.reason for failed in report.failures] == ["unreachable", "denied"]
    site.pages["/0.png"], site.pages["/2.png"] = [(200, {}, good)], [(200, {}, good + b"2")]
    report = encode(
        table, [VIT], store, keep_tables=False, read=ReadOptions(allow_urls=[site.url]), **options
    )
    assert [counts.encoded for counts in report.features.values()] == [2]
    assert store.feature(f"{VIT}+random/pooled").has(table.image_keys).all()


def test_folders_are_listed_rather_than_each_file_asked_for(monkeypatch):
    memory = fsspec.filesystem("memory")
    for row in range(120):
        memory.pipe_file(f"/bucket/a/{row}.png", bytes(row))
    urls = [f"memory://bucket/a/{row}.png" for row in range(121)]
    infos, info = [], type(memory).info
    monkeypatch.setattr(
        type(memory), "info", lambda self, path, **o: infos.append(path) or info(self, path, **o)
    )
    with allowing([UrlPrefix.parse("memory://bucket")]):
        stats, errors = files.stats(urls)
    assert [stats[url][0] for url in urls[:120]] == [*range(120)]
    assert [(url, error.reason) for url, error in errors.items()] == [(urls[120], "missing")]
    assert infos == ["/bucket/a/120.png"]
    memory.store.clear()
