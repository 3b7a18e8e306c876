"""Which URLs may be read now, and what is known of the files there."""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from encode_once.cache.errors import brief
from encode_once.cache.file_index import Stat
from encode_once.extract.errors import InputError
from encode_once.extract.remote.urls import UrlPrefix

KEPT = 1 << 28  # bytes of contents that are kept in memory, since an image is hashed, then encoded
READING = 64  # locks, so that one thread fetches a block and others wait for it


def _locks() -> list[Lock]:
    return [Lock() for _ in range(READING)]


@dataclass
class Session:
    """What is allowed and known while any thread is in `allowing`; shared by all threads."""

    allowed: list[tuple[UrlPrefix, ...]] = field(default_factory=list)  # of each `allowing` that is entered
    stats: dict[str, Stat] = field(default_factory=dict)  # by URL
    listed: dict[str, dict[str, Stat]] = field(default_factory=dict)  # URL of a folder → name → stat
    unlisted: set[str] = field(default_factory=set)  # URLs of folders that cannot be listed
    keys: dict[str, bytes] = field(default_factory=dict)  # source → content key, of images that were streamed
    contents: "OrderedDict[tuple[str, int], bytes]" = field(default_factory=OrderedDict)  # the oldest first
    nbytes: int = 0  # of the contents
    unreached: int = 0  # files, one after the other
    down: str = ""  # why nothing is read any more
    lock: Lock = field(default_factory=Lock)
    reading: list[Lock] = field(default_factory=_locks)

    def keep(self, place: tuple[str, int], content: bytes) -> None:
        """Keep a content, and drop the oldest ones above the limit."""
        with self.lock:
            if place in self.contents or len(content) > KEPT // 4:
                return
            self.contents[place] = content
            self.nbytes += len(content)
            while self.nbytes > KEPT:
                self.nbytes -= len(self.contents.popitem(last=False)[1])


_sessions: list[Session] = []  # at most one
_lock = Lock()  # of that list


@contextmanager
def allowing(prefixes: Collection[UrlPrefix]) -> Iterator[None]:
    """Let URLs below these be read in the block, by all threads; others are refused.

    May be nested, and entered by several threads: the last that leaves ends the session.
    """
    added = tuple(prefixes)
    with _lock:
        if not _sessions:
            _sessions.append(Session())
        session = _sessions[0]
        session.allowed.append(added)
    try:
        yield
    finally:
        with _lock:
            session.allowed.remove(added)
            if not session.allowed:
                _sessions.clear()


def current() -> Session | None:
    """The session, if there is one."""
    return next(iter(_sessions), None)


def session_of(url: str) -> Session:
    """The session, if it may read a URL.

    Raises:
        InputError: it may not.
    """
    session = current()
    if session is None or not is_allowed(url):
        raise InputError(
            "unreadable", f"{brief(url)} is at a URL that was not allowed: --allow-urls names it"
        )
    return session


def allows_any() -> bool:
    """Whether any URL may be read now."""
    session = current()
    return session is not None and any(session.allowed)


def is_allowed(url: str) -> bool:
    """Whether a URL may be read now."""
    session = current()
    return session is not None and any(
        prefix.has(url) for prefixes in [*session.allowed] for prefix in prefixes
    )
