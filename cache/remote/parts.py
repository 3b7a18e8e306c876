"""Parts of a store at a URL, in its local copy: first their heads, and vectors once they are read.

A head is a file of the part's size without the vectors: they are a hole, which takes no space, and the file
`PART.h5.head` next to it says so. It has the keys, which tell what is encoded, and the checksums, with which
vectors are compared when they are read. Who needs vectors fetches all of the part's into the hole.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from encode_once.cache.errors import RemoteError, StoreError
from encode_once.cache.format.atomic import replacing, write_at, writing
from encode_once.cache.format.files import open_without_links, typed
from encode_once.cache.format.header import read_stamp
from encode_once.cache.format.part import KIND, PartStamp
from encode_once.cache.remote.folder import RemoteFile, RemoteFolder

HEAD = ".head"
SMALL = 1 << 22  # bytes: up to this size, a part is fetched and kept whole
# Variable and default of the size that the vectors in the local copies of all stores may have.
LIMIT_GB = "ENCODE_ONCE_STORE_CACHE_GB", 50.0
STORE, STATE = "store", "state/files.json"  # in the folder of a local copy
COPY_BYTES = 1 << 24


class PartCache:
    """The parts of a local copy, some of them heads only.

    Args:
        remote: the store.
        root: of the local copies of all stores.
        path: of this store's copy.
    """

    def __init__(self, remote: RemoteFolder, root: Path, path: Path) -> None:
        self._remote, self._root, self._path = remote, root, path

    def fetch(self, name: str, file: RemoteFile) -> None:
        """Fetch the head of a part, or all of a small one.

        Raises:
            RemoteError: the server cannot be reached, or the file is not as long as it was.
            StoreError: the disk fails.
        """
        target = self._path / name
        with replacing(target) as temporary:
            with temporary.open("w+b") as local:
                local.truncate(file.size)
                self._download(name, local, 0, min(SMALL, file.size))
                start, end = _hole(temporary, file.size)
                self._download(name, local, SMALL, max(start, SMALL))
                self._download(name, local, max(end, SMALL), file.size)
            if max(start, SMALL) < end:
                _head_mark(target).touch()
            else:
                _head_mark(target).unlink(missing_ok=True)

    def _download(self, name: str, local: BinaryIO, start: int, end: int) -> None:
        try:
            for piece in self._remote.download(name, start, end):
                write_at(local.fileno(), start, piece)
                start += len(piece)
        except FileNotFoundError as error:
            raise RemoteError(f"{self._remote.url}/{name} is gone: open the store again") from error
        if start < end:
            raise RemoteError(f"{self._remote.url}/{name} has become shorter: open the store again")

    def complete(self, part: Path) -> BinaryIO:
        """Fetch the vectors of a part if only its head is here; they stay while the result is open.

        Raises:
            RemoteError: the server cannot be reached, or has the part no longer.
            StoreError: the disk fails.
        """
        file = open_without_links(part)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        with suppress(FileNotFoundError), _head_mark(part).open("rb") as mark:
            with suppress(OSError):
                fcntl.flock(mark, fcntl.LOCK_EX)  # of two processes that need it, one fetches it
            if is_head(part):
                self._fill(part)
        with suppress(OSError):  # the time of use; that of its content stays
            os.utime(part, ns=(time.time_ns(), part.stat().st_mtime_ns))
        return file

    def _fill(self, part: Path) -> None:
        stat, name = part.stat(), part.relative_to(self._path).as_posix()
        start, end = _hole(part, stat.st_size)
        self._make_room(end - start)
        with writing(part), part.open("r+b") as file:
            self._download(name, file, start, end)
            os.fsync(file.fileno())
        os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # who compares times sees the same file
        _head_mark(part).unlink()

    def _make_room(self, nbytes: int) -> None:
        """Turn parts that have not been used for longest into heads until so many bytes fit."""
        parts = sorted(_evictable(self._root))
        total = sum(size for _, size, _ in parts) + nbytes
        for _, size, path in parts:
            if total <= cache_limit():
                return
            with suppress(OSError):
                total -= size if _evict(path) else 0


def cache_limit() -> float:
    """Bytes of vectors that the local copies of all stores may keep."""
    with suppress(ValueError):
        return float(os.environ.get(LIMIT_GB[0], LIMIT_GB[1])) * 1e9
    return LIMIT_GB[1] * 1e9


def is_head(part: Path) -> bool:
    """Whether only the head of a part is here."""
    return _head_mark(part).exists()


def _head_mark(part: Path) -> Path:
    return part.with_name(f"{part.name}{HEAD}")


def _hole(part: Path, size: int) -> tuple[int, int]:
    """Where the vectors of a part start and end; if it has no valid stamp, nowhere: all of it is fetched."""
    with suppress(StoreError, ValueError):
        stamp = typed(PartStamp, read_stamp(part, KIND))
        stamp.check()
        start = stamp.places["values"]
        end = start + stamp.vectors * stamp.shape.vector_bytes
        if 0 <= start <= end <= size == stamp.size:
            return start, end
    return size, size


def _evictable(root: Path) -> Iterator[tuple[int, int, Path]]:
    """Time of use, bytes of vectors and path of each part whose vectors are here and at the store's URL."""
    for state in root.glob(f"*/{STATE}"):
        with suppress(OSError, ValueError):
            for name in json.loads(state.read_bytes()):
                path = state.parents[1] / STORE / name
                if name.endswith(".h5") and name.startswith("features/") and not _head_mark(path).exists():
                    stat = path.stat()
                    if stat.st_size > SMALL:
                        start, end = _hole(path, stat.st_size)
                        yield stat.st_atime_ns, end - start, path


def _evict(part: Path) -> bool:
    """Turn a part into its head, unless a process uses it."""
    with closing(open_without_links(part)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        stat = os.fstat(file.fileno())
        start, end = _hole(part, stat.st_size)
        with replacing(part) as temporary:
            with temporary.open("w+b") as head:
                head.truncate(stat.st_size)
                for first, last in ((0, start), (end, stat.st_size)):
                    for place in range(first, last, COPY_BYTES):
                        piece = os.pread(file.fileno(), min(COPY_BYTES, last - place), place)
                        write_at(head.fileno(), place, piece)
            os.utime(temporary, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            _head_mark(part).touch()
    return True
