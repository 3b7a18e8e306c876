"""Read files at URLs that the user allows: their sizes and versions, listings and contents.

An object store that does not answer is tried again a few times; then the input fails, and the next `extract`
tries it. If many fail so, one after the other, the command ends: it is the store that is down, not the input.
"""

import hashlib
import io
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar
from urllib.error import HTTPError

from encode_once.cache.errors import RemoteError, brief
from encode_once.cache.file_index import Stat
from encode_once.cache.remote.folder import open_filesystem, reaching
from encode_once.extract.errors import InputError
from encode_once.extract.remote import web
from encode_once.extract.remote.urls import WEB, UrlPrefix, joined, parent, protocol_of

Result = TypeVar("Result")
READERS = 16  # threads that wait for answers
FEW = 8  # files of a folder that are asked for one by one, rather than by a listing of the folder
ATTEMPTS = 3
PAUSE = 0.5  # seconds before the second attempt, and twice as long before each further one
GIVE_UP = 20  # files, one after the other, that could not be reached
BLOCK = 1 << 23  # bytes of a container that are read at a time
KEPT = 1 << 28  # bytes of contents that are kept in memory, since an image is hashed, then encoded
HASHES = "ETag", "etag", "md5Hash", "content_md5"  # in what file systems say of a file
TIMES = "LastModified", "last_modified", "updated", "mtime", "modified", "created"
UNKNOWN_TIME = (1 << 63) - 1  # later than any: the index of files does not remember such a file
TIMEOUT, UNREACHABLE = "timeout", "unreachable"
PASSING = TIMEOUT, UNREACHABLE  # reasons that say nothing of the input: the next extract tries again


@dataclass
class _Session:
    """What is allowed and known while `allowing` is entered, in all threads."""

    prefixes: list[UrlPrefix] = field(default_factory=list)
    stats: dict[str, Stat] = field(default_factory=dict)  # by URL
    listed: dict[str, dict[str, Stat]] = field(default_factory=dict)  # URL of a folder → name → stat
    keys: dict[str, bytes] = field(default_factory=dict)  # source → content key, of images that were streamed
    contents: "OrderedDict[tuple[str, int], bytes]" = field(default_factory=OrderedDict)  # the oldest first
    nbytes: int = 0  # of the contents
    unreached: int = 0  # files, one after the other
    down: str = ""  # why nothing is read any more
    lock: Lock = field(default_factory=Lock)
    reading: list[Lock] = field(
        default_factory=lambda: [Lock() for _ in range(64)]
    )  # so that one thread fetches

    def keep(self, place: tuple[str, int], content: bytes) -> None:
        with self.lock:
            if place in self.contents or len(content) > KEPT // 4:
                return
            self.contents[place] = content
            self.nbytes += len(content)
            while self.nbytes > KEPT:
                self.nbytes -= len(self.contents.popitem(last=False)[1])


_sessions: list[_Session] = []  # one, while `allowing` is entered


@contextmanager
def allowing(prefixes: Collection[UrlPrefix]) -> Iterator[None]:
    """Let URLs below these be read in the block, by all threads; others are refused. May be nested."""
    is_outermost = not _sessions
    if is_outermost:
        _sessions.append(_Session())
    session, added = _sessions[0], list(prefixes)
    session.prefixes += added
    try:
        yield
    finally:
        for prefix in added:
            session.prefixes.remove(prefix)
        if is_outermost:
            _sessions.clear()


def allows_any() -> bool:
    """Whether any URL may be read now."""
    return any(session.prefixes for session in _sessions)


def is_allowed(url: str) -> bool:
    """Whether a URL may be read now."""
    return any(prefix.has(url) for session in _sessions for prefix in session.prefixes)


def _session(url: str) -> _Session:
    if not is_allowed(url):
        raise InputError(
            "unreadable", f"{brief(url)} is at a URL that was not allowed: --allow-urls names it"
        )
    return _sessions[0]


# -------------------------------------------------------------------------------------------- one request


def _requested(url: str, request: Callable[[], Result]) -> Result:
    """The result of a request, which is repeated if there is no answer.

    Raises:
        InputError: "missing", "unreadable", or one of PASSING.
        RemoteError: it is of no use to go on: no credentials, a missing package, or a store that is down.
    """
    session = _session(url)
    for attempt in range(ATTEMPTS):
        if session.down:
            raise RemoteError(session.down)
        try:
            result = _typed(url, request)
        except InputError as error:
            if error.reason not in PASSING:
                session.unreached = 0
                raise
            if attempt + 1 < ATTEMPTS and protocol_of(url) != "s3":  # whose library has tried again already
                time.sleep(PAUSE * 2**attempt)
                continue
            session.unreached += 1
            if session.unreached >= GIVE_UP:
                session.down = session.down or (
                    f"{url}: {error}, as were {GIVE_UP - 1} files before: check the network and the server, "
                    "then run the same command again; what was encoded is kept"
                )
                raise RemoteError(session.down) from error
            raise
        session.unreached = 0
        return result
    raise AssertionError("the last attempt returns or raises")


def _typed(url: str, request: Callable[[], Result]) -> Result:
    try:
        with reaching(url):
            return request()
    except FileNotFoundError as error:
        raise InputError("missing", "no such file at the URL") from error
    except RemoteError as error:
        cause = error.__cause__
        names = [type(cause).__name__, *(type(part).__name__ for part in _reasons(cause))]
        if cause is None or isinstance(cause, ImportError) or any("Credential" in name for name in names):
            raise
        status = _status(cause)
        if status == 404:
            raise InputError("missing", "no such file at the URL") from error
        if any("Timeout" in name for name in names) or isinstance(cause, TimeoutError):
            raise InputError(TIMEOUT, "no answer in time") from error
        if status >= 500 or status == 429 or _has_no_connection(cause, names):
            raise InputError(UNREACHABLE, f"not reached ({brief(cause)})") from error
        raise InputError("unreadable", brief(cause)) from error


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """The causes of an error, of which libraries make others."""
    while error is not None:
        reason = getattr(error, "reason", None)  # of urllib's errors
        if isinstance(reason, BaseException):
            yield reason
        error = error.__cause__ or error.__context__
        if error is not None:
            yield error


def _has_no_connection(error: BaseException, names: Sequence[str]) -> bool:
    of_libraries = any("Connect" in name or "IncompleteRead" in name for name in names)
    return of_libraries or any(isinstance(part, ConnectionError) for part in (error, *_reasons(error)))


def _status(error: BaseException) -> int:
    """The status of the server's answer; 0 if there is none."""
    for part in (error, *_reasons(error)):
        if isinstance(part, HTTPError):
            return part.code
        response = getattr(part, "response", None)
        if isinstance(response, Mapping):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


# ---------------------------------------------------------------------------------- sizes and versions


def stat_of_info(info: Mapping[str, Any]) -> Stat:
    """Size and version of a file as the index of files has them: two numbers.

    The second is the time of the last modification, or, where the store has a hash or version of the content,
    which says more, minus a number made of that: the time of an object in S3 has whole seconds only.
    """
    size = int(info["size"] or 0) if "size" in info else -1
    for name in HASHES:
        if info.get(name):
            digest = hashlib.blake2b(str(info[name]).encode(), digest_size=8).digest()
            return size, -(int.from_bytes(digest, "big") >> 1) - 1
    for name in TIMES:
        moment = info.get(name)
        if isinstance(moment, datetime):
            return size, int(moment.timestamp() * 1e6) * 1000
        if isinstance(moment, int | float):
            return size, int(moment * 1e9)
    return size, UNKNOWN_TIME


def stat(url: str) -> Stat:
    """Size and version of a file; asked for once in a session.

    Raises:
        InputError: as `read`.
    """
    session = _session(url)
    if url not in session.stats:
        if protocol_of(url) in WEB:
            session.stats[url] = stat_of_info(_requested(url, lambda: web.info(url, is_allowed)))
        else:
            system, path = open_filesystem(url)
            info = _requested(url, lambda: system.info(path))
            if info.get("type") == "directory":
                raise InputError("missing", "a folder, not a file, is at the URL")
            session.stats[url] = stat_of_info(info)
    return session.stats[url]


def stats(urls: Collection[str]) -> tuple[dict[str, Stat], dict[str, InputError]]:
    """The stat of each file, or why it cannot be read; files of one folder by a listing of it."""
    by_folder: dict[str, list[str]] = {}
    for url in dict.fromkeys(urls):
        by_folder.setdefault(parent(url), []).append(url)
    for folder, inside in by_folder.items():
        if len(inside) > FEW and protocol_of(folder) not in WEB and is_allowed(inside[0]):
            listing(folder, allowed_by=inside[0])
    by_url: dict[str, Stat] = {}
    errors: dict[str, InputError] = {}

    def attempt(url: str) -> None:
        try:
            by_url[url] = stat(url)
        except InputError as error:
            errors[url] = error

    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(attempt, (url for inside in by_folder.values() for url in inside)):
            pass
    return by_url, errors


def listing(folder: str, *, deep: bool = False, allowed_by: str = "") -> dict[str, Stat]:
    """Name → stat of the files in a folder; with `deep`, also in the folders in it. Empty if there is none.

    Names of folders in it end in `/`, and have the stat (0, 0).

    allowed_by: a URL in the folder, if not the folder itself but only some files in it may be allowed.
    """
    session = _session(allowed_by or folder)
    if not deep and folder in session.listed:
        return session.listed[folder]
    system, path = open_filesystem(folder)

    def request() -> list[dict[str, Any]]:
        if deep:
            return [*system.find(path, detail=True).values()]
        return list(system.ls(path, detail=True))

    try:
        infos = _requested(allowed_by or folder, request)
    except InputError as error:
        if error.reason != "missing":
            raise RemoteError(f"{folder}: cannot be listed ({error}): try again") from error
        infos = []
    files: dict[str, Stat] = {}
    for info in infos:
        name = info["name"].strip("/").removeprefix(path.strip("/")).lstrip("/")
        if info["type"] == "directory" and name:
            files[f"{name}/"] = 0, 0
        elif info["type"] == "file" and name:
            files[name] = session.stats[joined(folder, name)] = stat_of_info(info)
    if not deep:
        session.listed[folder] = files
    return files


def is_folder(url: str) -> bool:
    """Whether a URL is that of a folder, or has files below it.

    Raises:
        InputError: as `read`; "missing" if there is nothing.
    """
    if protocol_of(url) in WEB:
        return False
    system, path = open_filesystem(url)
    return bool(_requested(url, lambda: system.info(path))["type"] == "directory")


# -------------------------------------------------------------------------------------------- contents


def read(url: str, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to `end`, or to its own end; not kept.

    Raises:
        InputError: "missing", "unreadable", or one of PASSING.
        RemoteError: nothing can be read there.
    """
    if start >= end:
        return b""
    size = _session(url).stats.get(url, (-1, 0))[0]

    def request() -> bytes:
        if protocol_of(url) in WEB:
            content = web.read(url, start, end, is_allowed)
        else:
            system, path = open_filesystem(url)
            content = bytes(system.cat_file(path, start=start, end=end))
        if len(content) < min(end, size) - start:
            raise ConnectionError("the answer ended early")
        return content

    return _requested(url, request)


def read_whole(url: str, most: int) -> bytes:
    """The content of a file, kept for the next time; a file larger than `most` bytes ends after one more."""
    session = _session(url)
    place = url, -1
    if place in session.contents:
        return session.contents[place]
    size = stat(url)[0]
    content = read(url, 0, min(size, most + 1) if size >= 0 else most + 1)
    session.keep(place, content)
    return content


def read_part(url: str, start: int, end: int) -> bytes:
    """The bytes of a container from `start` to `end`; read in blocks, as the next part follows soon."""
    session, pieces = _session(url), []
    for number in range(start // BLOCK, -(-end // BLOCK)):
        place, first = (url, number), number * BLOCK
        with session.reading[hash(place) % len(session.reading)]:
            block = session.contents.get(place)
            if block is None:
                block = read(url, first, min(first + BLOCK, stat(url)[0]))
                session.keep(place, block)
        pieces.append(block[max(0, start - first) : end - first])
    return b"".join(pieces)


class OpenUrl(io.RawIOBase):
    """A file at a URL, for libraries that read from open files; reads in blocks."""

    def __init__(self, url: str) -> None:
        self._url, self._size, self._position = url, stat(url)[0], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        size = left if size is None or size < 0 else min(size, left)
        content = read_part(self._url, self._position, self._position + size)
        self._position += len(content)
        return content

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def streamed_key(source: str) -> bytes | None:
    """The content key of an image that was hashed while its container was streamed."""
    return _sessions[0].keys.get(source) if _sessions else None


def remember_key(source: str, key: bytes) -> None:
    """Keep a content key for `streamed_key`."""
    for session in _sessions:
        session.keys[source] = key
