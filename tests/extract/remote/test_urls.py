"""Which URLs a user allows by naming one."""

import pytest

from encode_once.cache import UsageError
from encode_once.extract.remote.urls import UrlPrefix, is_remote, parent


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("s3://b/photos", ["s3://b/photos", "s3://b/photos/a b/0.jpg?#"], ["s3://b/photos2/0.jpg", "s3://c/photos/0"]),
        ("s3://b", ["s3://b/0.jpg", "S3://b/x/y"], ["gs://b/0.jpg", "s3://b2/0.jpg"]),
        ("https://e.org/a/", ["https://e.org/a/0.jpg?size=1", "HTTPS://E.org/a"], ["http://e.org/a/0.jpg"]),
        ("http://e.org", ["http://e.org/0.jpg", "http://e.org"], ["http://e.org.evil.com/0", "http://e.org:81/0"]),
        ("http://e.org:80", ["http://e.org:80/0"], ["http://e.org/0", "http://e.org:80@evil.com/0"]),
    ],
)  # fmt: skip
def test_a_url_allows_what_is_below_it_on_the_same_server(prefix, inside, outside):
    allowed = UrlPrefix.parse(prefix)
    assert [url for url in inside if not allowed.has(url)] == []
    assert [url for url in outside if allowed.has(url)] == []


@pytest.mark.parametrize(
    "rest",
    ["../x", "a/../../x", "%2e%2e/x", "a/%2E%2e/%2e./x", "..%2fx", "..\\x", "..%5cx", "a\nb", "a%0a"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["http://e.org/a", "s3://b/a"])
def test_nothing_that_may_lead_elsewhere_is_below_it(prefix, rest):
    assert not UrlPrefix.parse(prefix).has(f"{prefix}/{rest}")


@pytest.mark.parametrize(
    "text",
    ["photos", "file:///photos", "https://", "s3://", "https://user@e.org", "https:e.org", "s3://b/../c"],
)
def test_what_names_no_server_allows_nothing(text):
    with pytest.raises(UsageError, match="is no URL of files"):
        UrlPrefix.parse(text)


@pytest.mark.parametrize("text", ["ftp://e.org", "github://a/b", "simplecache::s3://b", "x://y"])
def test_other_protocols_are_not_read(text):
    assert not is_remote(text)


def test_the_folder_of_a_file():
    assert parent("s3://b/a/0.jpg") == "s3://b/a"
    assert parent("s3://b/0.jpg") == parent("s3://b") == "s3://b"
    assert parent("https://e.org/a/x.csv?token=a/b") == "https://e.org/a"
