"""What is read at URLs: sizes and versions, retries, and errors by type, with servers that misbehave."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from encode_once.cache import RemoteError, Store, Table
from encode_once.cache.file_index import FileIndex
from encode_once.extract import encode
from encode_once.extract.errors import InputError
from encode_once.extract.images import hashing
from encode_once.extract.remote import files
from encode_once.extract.remote.files import allowing, stat_of_info
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
                    self.wfile.write(body)

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
    monkeypatch.setattr(files, "PAUSE", 0.01)
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
            files._sessions[0].stats.clear()
            files._sessions[0].contents.clear()
            assert hashing.add_keys(table, index, 2) == {}
        assert {f"{site.url}{path}" for method, path in site.requests if method == "GET"} == read
        assert hashing.content_key(change or b"first") == table.image_keys[0].tobytes()


def test_errors_have_types_and_passing_ones_are_tried_again(site):
    site.put("/busy", b"", 503)
    site.put("/busy", b"", 429)
    assert hashing.read_file(site.put("/busy", b"at last")) == b"at last"
    assert failure(f"{site.url}/none") == ("missing", "no such file at the URL")
    assert failure(site.put("/secret", b"", 403))[0] == "unreadable"
    assert failure(site.put("/broken", b"", 500))[0] == "unreachable"
    assert failure(site.put("/hangs", b"", None)) == ("timeout", "no answer in time")
    assert failure(site.put("/short", b"abc", **{"Content-Length": 9}))[0] == "unreachable"
    assert len([path for _, path in site.requests if path == "/broken"]) == files.ATTEMPTS
    assert len([path for _, path in site.requests if path == "/secret"]) == 1
    with allowing([UrlPrefix.parse("http://127.0.0.1:1")]):
        assert failure("http://127.0.0.1:1/0.png")[0] == "unreachable"


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
    monkeypatch.setattr(files, "ATTEMPTS", 1)
    urls = [site.put(f"/{row}.png", b"", 500) for row in range(100)]
    with pytest.raises(RemoteError, match="as were 19 files before: check the network") as error:
        files.stats(urls)
    assert "\n" not in str(error.value)
    assert len(site.requests) < 20 + files.READERS + 1


def test_an_input_that_could_not_be_reached_is_tried_by_the_next_extract(site, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "KEPT", 0)  # each image is read twice
    good = saved(picture(0), "PNG")
    url = site.put("/0.png", good)
    site.pages["/0.png"] = [(200, {}, good)] * 2 + [(500, {}, b"")]
    other = site.put("/1.png", saved(picture(1), "PNG"))
    table, store = Table("t", ["0", "1"], [url, other], ["", ""], None), Store(tmp_path / "store")
    options = {"weights": {VIT: "random"}, "device": "cpu", "progress": False, "workers": 1}
    report = encode(table, [VIT], store, keep_tables=False, allow_urls=[site.url], **options)
    assert [failed.reason for failed in report.failures] == ["unreachable"]
    site.pages["/0.png"] = [(200, {}, good)]
    report = encode(table, [VIT], store, keep_tables=False, allow_urls=[site.url], **options)
    assert [counts.encoded for counts in report.features.values()] == [1]
    assert store.feature(f"{VIT}+random/pooled").has(table.image_keys).all()


def test_folders_are_listed_rather_than_each_file_asked_for(monkeypatch):
    memory = fsspec.filesystem("memory")
    for row in range(30):
        memory.pipe_file(f"/bucket/a/{row}.png", bytes(row))
    urls = [f"memory://bucket/a/{row}.png" for row in range(31)]
    infos, info = [], type(memory).info
    monkeypatch.setattr(
        type(memory), "info", lambda self, path, **o: infos.append(path) or info(self, path, **o)
    )
    with allowing([UrlPrefix.parse("memory://bucket")]):
        stats, errors = files.stats(urls)
    assert [stats[url][0] for url in urls[:30]] == [*range(30)]
    assert [(url, error.reason) for url, error in errors.items()] == [(urls[30], "missing")]
    assert infos == ["/bucket/a/30.png"]
    memory.store.clear()
