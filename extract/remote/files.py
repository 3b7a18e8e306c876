"""Files at URLs: sizes and versions, listings and bytes."""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from encode_once.cache.errors import RemoteError
from encode_once.cache.file_index import Stat
from encode_once.cache.remote.folder import open_filesystem, version_of
from encode_once.cache.remote.location import protocol_of
from encode_once.extract.errors import InputError
from encode_once.extract.remote import web
from encode_once.extract.remote.attempts import requested
from encode_once.extract.remote.session import is_allowed, session_of
from encode_once.extract.remote.urls import WEB, joined, parent

READERS = 16  # threads that wait for answers
FEW = 100  # files of a folder that are asked for one by one: to list it may take thousands of requests
UNKNOWN_TIME = (1 << 63) - 1  # later than any: the index of files does not remember such a file


def stat_of_info(info: Mapping[str, Any]) -> Stat:
    """Size and version of a file as the index of files has them: two numbers.

    The second is the time of the last change or, of a version that is no time, minus a number made of it.
    """
    size, version = int(info["size"] or 0) if "size" in info else -1, version_of(info)
    if isinstance(version, str):
        digest = hashlib.blake2b(version.encode(), digest_size=8).digest()
        return size, -(int.from_bytes(digest, "big") >> 1) - 1
    return size, version or UNKNOWN_TIME


def stat(url: str) -> Stat:
    """Size and version of a file; asked for once in a session.

    Raises:
        InputError: as `read`.
    """
    stats = session_of(url).stats
    if url not in stats:
        info = requested(url, lambda: _info(url))
        if info.get("type") == "directory":
            raise InputError("missing", "a folder, not a file, is at the URL")
        stats[url] = stat_of_info(info)
    return stats[url]


def _info(url: str) -> Mapping[str, Any]:
    """What a web server or a file system says of a file or folder."""
    if protocol_of(url) in WEB:
        return web.info(url, is_allowed)
    system, path = open_filesystem(url)
    info: Mapping[str, Any] = system.info(path)
    return info


def size(url: str) -> int:
    """The size of a file of which parts are read.

    Raises:
        InputError: as `read`; or a web server does not say.
    """
    nbytes = stat(url)[0]
    if nbytes < 0:
        raise InputError("unreadable", "the server does not say how long the file is: copy it")
    return nbytes


def stats(urls: Collection[str]) -> tuple[dict[str, Stat], dict[str, InputError]]:
    """The stat of each file, or why it cannot be read; many files of a folder by a listing of it."""
    by_folder: dict[str, list[str]] = {}
    for url in dict.fromkeys(urls):
        by_folder.setdefault(parent(url), []).append(url)
    for folder, inside in by_folder.items():
        if len(inside) > FEW and protocol_of(folder) not in WEB and is_allowed(inside[0]):
            _list_if_allowed(folder, inside[0])
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


def _list_if_allowed(folder: str, url: str) -> None:
    """Keep the stats of all files in the folder of a URL if the credentials let it be listed."""
    unlisted = session_of(url).unlisted
    if folder not in unlisted:
        try:
            _listing(folder, url, deep=False)
        except InputError:
            unlisted.add(folder)


def listing(folder: str, *, deep: bool = False) -> dict[str, Stat]:
    """Name → stat of the files in a folder; with `deep`, also in the folders in it. Empty if there is none.

    Names of folders in it end in `/`, and have the stat (0, 0).

    Raises:
        RemoteError: it cannot be listed.
    """
    try:
        return _listing(folder, folder, deep=deep)
    except InputError as error:
        raise RemoteError(f"{folder}: cannot be listed ({error}): try again") from error


def _listing(folder: str, url: str, *, deep: bool) -> dict[str, Stat]:
    """The same. `url`: that is allowed, the folder or a file in it; raises InputError."""
    session = session_of(url)
    if not deep and folder in session.listed:
        return session.listed[folder]

    def request() -> tuple[str, list[dict[str, Any]]]:
        system, path = open_filesystem(folder)
        try:
            infos = system.find(path, detail=True).values() if deep else system.ls(path, detail=True)
        except FileNotFoundError:
            infos = []
        return path, [*infos]

    path, infos = requested(url, request)
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
    return bool(requested(url, lambda: _info(url))["type"] == "directory")


def read(url: str, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to `end`, or to its own end; not kept.

    Raises:
        InputError: "missing", "unreadable", or one of PASSING.
        RemoteError: nothing can be read there.
    """
    if start >= end:
        return b""
    whole = session_of(url).stats.get(url, (-1, 0))[0]

    def request() -> bytes:
        if protocol_of(url) in WEB:
            content = web.read(url, start, end, is_allowed)
        else:
            system, path = open_filesystem(url)
            content = bytes(system.cat_file(path, start=start, end=end))
        if len(content) < min(end, whole) - start:
            raise ConnectionError("the answer ended early")
        return content

    return requested(url, request)
