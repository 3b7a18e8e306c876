"""One folder of an object store, and the few requests that a store makes to it.

Credentials and the address of the server come from the environment, as for other programs: `AWS_PROFILE`,
`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` …
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from encode_once.cache.errors import EncodeOnceError, RemoteError, brief
from encode_once.cache.remote.location import EXTRAS, is_url, lower_protocol

TIMEOUT = "ENCODE_ONCE_REMOTE_TIMEOUT", 30.0  # variable and default, in seconds: of one request
CONNECT_SECONDS = 10.0
ATTEMPTS = 3  # of a request that times out, or that the server cannot serve
EXISTS = "PreconditionFailed", "412"  # S3's error codes of a file that was to be created
CONFLICT = "ConditionalRequestConflict", "409"  # and of two that were, at once: try again
PAUSE = 0.2  # seconds until then
SERVER = "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL", "AWS_PROFILE"
BYTES_IN_TIME = 1e7  # of an upload that are sent within the time limit, or it is given up
HASHES = "ETag", "etag", "md5Hash", "content_md5"  # in what file systems say of a file
TIMES = "LastModified", "last_modified", "updated", "mtime", "modified", "created"
PIECE = 1 << 24  # bytes per request of a large download


@dataclass(frozen=True)
class RemoteFile:
    """A file as a listing shows it."""

    size: int
    version: str  # another one as soon as the content is


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; a second call of the same process is free.

    Raises:
        RemoteError: the package that opens such URLs is not installed.
    """
    import fsspec

    url = lower_protocol(url)
    protocol = url.partition(":")[0]
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol == "s3":
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        timeouts = {"connect_timeout": min(CONNECT_SECONDS, timeout()), "read_timeout": timeout()}
        options["config_kwargs"] = {**timeouts, "retries": retries}
    with reaching(url):
        try:
            system = fsspec.filesystem(protocol, **options)
        except ImportError as error:
            package = EXTRAS[protocol]
            command = "'encode-once[s3]'" if protocol == "s3" else package
            raise RemoteError(f"{url} needs the package {package}: pip install {command}") from error
        if protocol == "s3":
            system.retries = 1  # botocore retries, as it knows more errors that pass
        return system, str(system._strip_protocol(url)).rstrip("/")


def timeout() -> float:
    """How many seconds to wait for one answer."""
    with suppress(ValueError):
        return max(0.1, float(os.environ.get(TIMEOUT[0], TIMEOUT[1])))
    return TIMEOUT[1]


def _limit(system: Any, nbytes: int) -> dict[str, float]:
    """The time limit of sending so many bytes: botocore has none while a server that hangs takes none."""
    return {"timeout": timeout() * (ATTEMPTS + nbytes / BYTES_IN_TIME)} if system.async_impl else {}


def _put(system: Any, path: str, file: Path, mode: str) -> None:
    system.put_file(str(file), path, mode=mode, **_limit(system, file.stat().st_size))


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a file system raises in the block into an error of one line.

    Raises:
        FileNotFoundError: there is no such file; FileExistsError: there is already one.
        RemoteError: everything else.
    """
    try:
        yield
    except (EncodeOnceError, FileNotFoundError, FileExistsError, MemoryError):
        raise
    except Exception as error:
        if _code(error) in EXISTS:
            raise FileExistsError(url) from error
        raise RemoteError(_explained(url, error)) from error


def _code(error: BaseException | None) -> str:
    """The error code of S3, "" if there is none."""
    response = getattr(getattr(error, "__cause__", None), "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _explained(url: str, error: Exception) -> str:
    """What happened and what to do, by the kinds of errors that s3fs and its libraries raise."""
    name, reason = type(error).__name__, brief(error).rstrip(".") or "no answer in time"
    if "Credential" in name or "Token" in name or "Profile" in name:
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return f"{url}: no credentials ({reason}): {remedy}"
    if isinstance(error, PermissionError):
        return f"{url}: access denied ({reason}): check the credentials and the bucket's policy"
    if "Connect" in name or "Timeout" in name or isinstance(error, TimeoutError | ConnectionError):
        return f"{url} cannot be reached ({reason}): check the network and AWS_ENDPOINT_URL, then try again"
    return f"{url}: the server failed ({reason})"


class RemoteFolder:
    """The files below a URL, by their names relative to it. It can be pickled and used after a fork.

    Every method raises `RemoteError` if the server cannot be reached or refuses.
    """

    def __init__(self, url: str) -> None:
        assert is_url(url)
        self.url = lower_protocol(url).rstrip("/")

    def __repr__(self) -> str:
        return f"RemoteFolder({self.url!r})"

    @property
    def server(self) -> str:
        """What the environment says of the server: two servers may have a bucket of the same name."""
        return " ".join(os.environ.get(name, "") for name in SERVER)

    @contextmanager
    def _at(self, name: str = "") -> Iterator[tuple[Any, str]]:
        """The file system, and the path of a file in it."""
        system, root = open_filesystem(self.url)
        with reaching(f"{self.url}/{name}".rstrip("/")):
            yield system, f"{root}/{name}".rstrip("/")

    def list(self, below: str = "") -> dict[str, RemoteFile]:
        """Name → file, of all files, or of those in a folder.

        Raises:
            RemoteError: there is no such bucket.
        """
        with self._at() as (system, root):
            try:
                infos = system.find(f"{root}/{below}".rstrip("/") + "/", detail=True)
            except FileNotFoundError as error:
                if not below:
                    raise RemoteError(f"{self.url}: there is no such bucket: create it first") from error
                infos = {}
        return {
            path[len(root) + 1 :]: _remote_file(info)
            for path, info in infos.items()
            if info["type"] == "file" and path.startswith(f"{root}/")
        }

    def info(self, name: str) -> RemoteFile:
        """A file, as in `list`; raises FileNotFoundError if there is none."""
        with self._at(name) as (system, path):
            return _remote_file(system.info(path))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The content of a file, or its bytes from `start` to `end`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self._at(name) as (system, path):
            return bytes(system.cat_file(path, start=start, end=end))

    def read_all(self, names: Collection[str]) -> dict[str, bytes]:
        """The contents of small files, many at a time; those that are gone are left out."""
        with self._at() as (system, root):
            paths = {f"{root}/{name}": name for name in names}
            contents = system.cat(list(paths), on_error="return") if paths else {}
            for content in contents.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {paths[path]: content for path, content in contents.items() if isinstance(content, bytes)}

    def download(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of a large file from `start` to `end`, in pieces."""
        for first in range(start, end, PIECE):
            yield self.read(name, first, min(first + PIECE, end))

    def write(self, name: str, content: bytes) -> None:
        """Write a file; it replaces another one of that name."""
        with self._at(name) as (system, path):
            system.pipe_file(path, content, **_limit(system, len(content)))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one of that name; whether this call has created it."""
        return self._created(
            name,
            lambda system, path: system.pipe_file(
                path, content, mode="create", **_limit(system, len(content))
            ),
        )

    def upload(self, name: str, file: Path) -> bool:
        """The same with the content of a local file, of any size."""
        return self._created(name, lambda system, path: _put(system, path, file, "create"))

    def replace(self, name: str, file: Path) -> None:
        """Write the content of a local file, of any size; it replaces another one of that name."""
        with self._at(name) as (system, path):
            _put(system, path, file, "overwrite")

    def _created(self, name: str, send: Callable[[Any, str], object]) -> bool:
        for attempt in range(ATTEMPTS):
            try:
                with self._at(name) as (system, path):
                    send(system, path)
                return True
            except FileExistsError:
                return False
            except RemoteError as error:
                if _code(error.__cause__) not in CONFLICT or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(PAUSE)
        raise AssertionError

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError), self._at(name) as (system, path):
            system.rm_file(path)


def _remote_file(info: Mapping[str, Any]) -> RemoteFile:
    """A file by what a file system says of it."""
    return RemoteFile(int(info["size"] or 0), f"{info['size']} {version_of(info)}")


def version_of(info: Mapping[str, Any]) -> str | int:
    """What differs between two contents of a file, by what a file system says of it.

    A hash or version if the store has one, which says more than a time: those of S3 have whole seconds only.
    Else the time of the last change in nanoseconds; 0 if there is neither.
    """
    for name in HASHES:
        if info.get(name):
            return str(info[name])
    for name in TIMES:
        moment = info.get(name)
        if isinstance(moment, datetime):
            moment = moment.timestamp()
        if isinstance(moment, int | float):
            return round(moment * 1e6) * 1000  # a float of seconds has no nanoseconds
    return 0
