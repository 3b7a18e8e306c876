"""Contents of files at URLs, of which the last ones are kept in memory."""

import io

from encode_once.extract.remote import files
from encode_once.extract.remote.session import current, session_of

BLOCK = 1 << 23  # bytes of a container that are read at a time


def read_whole(url: str, most: int) -> bytes:
    """The content of a file, kept for the next time; a file larger than `most` bytes ends after one more."""
    session = session_of(url)
    place = url, -1
    content = session.contents.get(place)
    if content is not None:
        return content
    size = files.stat(url)[0]
    content = files.read(url, 0, min(size, most + 1) if size >= 0 else most + 1)
    session.keep(place, content)
    return content


def read_part(url: str, start: int, end: int) -> bytes:
    """The bytes of a container from `start` to `end`; read in blocks, as the next part follows soon."""
    session, pieces = session_of(url), []
    for number in range(start // BLOCK, -(-end // BLOCK)):
        place, first = (url, number), number * BLOCK
        with session.reading[hash(place) % len(session.reading)]:
            block = session.contents.get(place)
            if block is None:
                block = files.read(url, first, min(first + BLOCK, files.size(url)))
                session.keep(place, block)
        pieces.append(block[max(0, start - first) : end - first])
    return b"".join(pieces)


class OpenUrl(io.RawIOBase):
    """A file at a URL, for libraries that read from open files; reads in blocks.

    Raises:
        InputError: as `files.size`.
    """

    def __init__(self, url: str) -> None:
        self._url, self._size, self._position = url, files.size(url), 0

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
    """The content key of an image that was hashed while its container was streamed; once."""
    session = current()
    return session.keys.pop(source, None) if session else None


def remember_key(source: str, key: bytes) -> None:
    """Keep a content key for `streamed_key`."""
    if session := current():
        session.keys[source] = key
