"""The files a table was read from, as they were then: has one of them changed since?"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encode_once.cache.file_index import FileIndex, Stat, stat_of
from encode_once.cache.keys import KEY_BYTES, content_key

FOLDER = 0, 0  # in place of a folder's size and time: those say nothing of the files in it
TEXT = ".txt"  # the files of a folder of images whose contents a table holds


@dataclass(frozen=True)
class SourceFile:
    """A file, or a folder of images and texts, that a table was read from.

    The key of a folder is that of the names of its files, with size and time of each text.
    """

    path: str
    size: int  # in bytes; 0 of a folder
    mtime_ns: int  # 0 of a folder
    key: str  # content key, in hexadecimal

    @property
    def has_changed(self) -> bool:
        """Whether it holds something else by now; one that cannot be read any more has not changed.

        A file of the same size and time is taken for the same. Of another, the content decides.
        """
        try:
            stat = _stat(self.path)
            same_stat = stat == (self.size, self.mtime_ns) != FOLDER
            return not same_stat and _key(self.path).hex() != self.key
        except OSError:
            return False


def source_files(paths: Iterable[str], index: FileIndex) -> list[SourceFile]:
    """Those files as they are now; one that is not there is left out.

    Raises:
        OSError: one cannot be read.
    """
    stats = {path: _stat(path) for path in paths if Path(path).exists()}
    keys = index.find(stats)
    new = {path: _key(path) for path in stats if path not in keys}
    index.remember((path, stats[path], key) for path, key in new.items() if stats[path] != FOLDER)
    keys |= new
    return [SourceFile(path, *stat, keys[path].hex()) for path, stat in stats.items()]


def _stat(path: str) -> Stat:
    return FOLDER if Path(path).is_dir() else stat_of(path)


def _key(path: str) -> bytes:
    if not Path(path).is_dir():
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=KEY_BYTES)).digest()
    with os.scandir(path) as entries:
        files = sorted((one.name, one.path) for one in entries if one.is_file())
    listing = [(name, stat_of(one) if name.lower().endswith(TEXT) else None) for name, one in files]
    return content_key(repr(listing).encode("utf-8", "surrogateescape"))
