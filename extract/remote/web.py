"""Single files on web servers, without packages beyond Python's own."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import quote

from encode_once.cache.remote.folder import timeout

NO_HEAD = 405, 501  # statuses of servers that do not answer HEAD
PARTIAL = 206
PIECE = 1 << 16  # bytes
SLOWEST = 1e4  # bytes per second, on average, after the time limit of a request
UNESCAPED = "%/:=&?~#+!$,;'@()*[]"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to URLs that are allowed as well."""

    def __init__(self, allows: Callable[[str], bool]) -> None:
        self._allows = allows

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not self._allows(newurl):
            raise PermissionError(f"it redirects to {newurl[:80]}, which --allow-urls does not name")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, allows: Callable[[str], bool], method: str, headers: Mapping[str, str]) -> Any:
    request = urllib.request.Request(quote(url, safe=UNESCAPED), method=method, headers=dict(headers))  # noqa: S310
    return urllib.request.build_opener(_Redirects(allows)).open(request, timeout=timeout())


def info(url: str, allows: Callable[[str], bool]) -> dict[str, Any]:
    """Size and version of a file, as fsspec describes those of object stores; `size` only if it is known."""
    try:
        with _open(url, allows, "HEAD", {}) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        if error.code in NO_HEAD:
            return {}
        raise
    described: dict[str, Any] = {"ETag": headers.get("ETag")}
    if headers.get("Content-Length", "").isdecimal():
        described["size"] = int(headers["Content-Length"])
    if modified := headers.get("Last-Modified"):
        described["LastModified"] = parsedate_to_datetime(modified)
    return described


def read(url: str, start: int, end: int, allows: Callable[[str], bool]) -> bytes:
    """The bytes of a file from `start` to `end`, or to its own end.

    Raises:
        TimeoutError: the server does not answer, or sends too slowly.
        OSError: it cannot be reached, refuses, or cannot send parts of a file.
    """
    started, content = time.monotonic(), bytearray()
    with _open(url, allows, "GET", {"Range": f"bytes={start}-{end - 1}"} if start else {}) as answer:
        if start and answer.status != PARTIAL:
            raise OSError("the server sends no parts of files, which an archive needs")
        while piece := answer.read1(min(PIECE, end - start - len(content))):  # what is there: read would wait
            content += piece
            if time.monotonic() - started > timeout() + len(content) / SLOWEST:
                raise TimeoutError("too slow")
    return bytes(content)
