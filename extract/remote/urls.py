"""Which texts are URLs of data, and which of them the user allows.

Whoever wrote a table chooses the URLs in it. To fetch any of them would let a stranger's file make
this machine send requests, also to servers that only this machine can reach.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from encode_once.cache.errors import UsageError, brief
from encode_once.cache.remote.location import PROTOCOLS, protocol_of

WEB = {"http", "https"}  # single files only: web servers have no listings
READ = PROTOCOLS | WEB
CONTROL = re.compile(r"[\0-\x1f\x7f]")


def is_remote(text: str) -> bool:
    """Whether a text is a URL of a protocol that is read."""
    return "://" in text and protocol_of(text) in READ


def check_readable(text: str) -> bool:
    """Whether an option of the user names a URL, rather than a path.

    Raises:
        UsageError: it is a URL of another protocol.
    """
    if protocol_of(text) and not is_remote(text):
        raise UsageError(f"{text}: {protocol_of(text)}:// is not read; use s3://, gs://, https:// or a path")
    return is_remote(text)


def joined(folder: str, name: str) -> str:
    """The URL of a file below that of a folder."""
    return f"{folder.rstrip('/')}/{name}" if name else folder.rstrip("/")


def parent(url: str) -> str:
    """The URL of the folder of a file; that of a bucket or a server itself."""
    start, separator, rest = url.partition("://")
    path = re.split("[?#]", rest, maxsplit=1)[0] if start.lower() in WEB else rest
    return start + separator + (path.rpartition("/")[0] or path)


@dataclass(frozen=True)
class UrlPrefix:
    """The URLs that are equal to one, or below it.

    Protocol, server and port have to be the same; `http://a.com` has no URL at `http://a.com.evil.com`.
    """

    server: tuple[str, str]  # protocol and what names the server or bucket, in lower case
    path: str  # without a slash at the end

    @classmethod
    def parse(cls, text: str) -> "UrlPrefix":
        """Parse what the user wrote.

        Raises:
            UsageError: it is no URL that is read, or names no server or bucket.
        """
        if check_readable(text) and (parts := _parts(text)) and parts[0][1]:
            return cls(parts[0], parts[1].rstrip("/"))
        raise UsageError(
            f"{brief(text)} is no URL of files: write s3://BUCKET/FOLDER or https://SERVER/FOLDER"
        )

    def has(self, url: str) -> bool:
        """Whether a URL is one of these."""
        parts = _parts(url)
        if parts is None or parts[0] != self.server:
            return False
        return parts[1].rstrip("/") == self.path or parts[1].startswith(f"{self.path}/")


def _parts(url: str) -> tuple[tuple[str, str], str] | None:
    """Protocol and server, and the path; None for a URL that may mean another place than it says."""
    try:
        parts = urlsplit(url) if protocol_of(url) in WEB else None
    except ValueError:
        return None
    if parts is None:  # in object stores, `?` and `#` are characters of names
        start, _, rest = url.partition("://")
        server, slash, path = rest.partition("/")
        path = slash + path
    else:
        start, server, path = parts.scheme, parts.netloc, parts.path
    decoded = unquote(path).replace("\\", "/")
    if "@" in server or ".." in decoded.split("/") or CONTROL.search(decoded + url):
        return None
    return (start.lower(), server.lower()), path
