"""Record the files that a table was read from, to detect that one of them has changed."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encode_once.cache.file_index import FileIndex, Stat, stat_of
from encode_once.cache.input_files import open_regular
from encode_once.cache.keys import KEY_BYTES, content_key

FOLDER = 0, 0  # in place of a folder's size and time, which do not depend on the files in it
TEXTS = (".txt", ".xml", ".json")  # suffixes of files among images whose contents are in the table


@dataclass(frozen=True)
class SourceFile:
    """A file, or a folder of images and texts, that a table was read from.

    A folder's key is that of its files' names, with the size and time of each text file.
    """

    path: str
    size: int  # in bytes; 0 for a folder
    mtime_ns: int  # 0 for a folder
    key: str  # content key, in hexadecimal

    @property
    def has_changed(self) -> bool:
        """Whether its content has changed; a file that cannot be read counts as unchanged.

        A file of the same size and time counts as unchanged too; of any other file, the key is compared.
        """
        try:
            stat = _stat(self.path)
            if stat == (self.size, self.mtime_ns) and stat != FOLDER:
                return False
            return _key(self.path).hex() != self.key
        except (OSError, ValueError):  # a null byte in a crafted path
            return False


def source_files(paths: Iterable[str], index: FileIndex) -> list[SourceFile]:
    """The current state of files; those that do not exist are left out.

    Raises:
        OSError: a file cannot be read.
    """
    stats = {path: _stat(path) for path in paths if Path(path).exists()}
    keys = index.find(stats)
    new = {path: _key(path) for path in stats if path not in keys}
    index.remember((path, stats[path], key) for path, key in new.items() if stats[path] != FOLDER)
    keys |= new
    return [SourceFile(path, *stat, keys[path].hex()) for path, stat in stats.items()]


def _stat(path: str) -> Stat:
    return FOLDER if Path(path).is_dir() else stat_of(path)


def file_key(path: str) -> bytes:
    """The content key of a file, which is read a piece at a time.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=KEY_BYTES)).digest()


def _key(path: str) -> bytes:
    if not Path(path).is_dir():
        return file_key(path)
    with os.scandir(path) as entries:
        files = sorted((entry.name, entry.path) for entry in entries if entry.is_file())
    listing = [(name, stat_of(file) if name.lower().endswith(TEXTS) else None) for name, file in files]
    return content_key(repr(listing).encode("utf-8", "surrogateescape"))
