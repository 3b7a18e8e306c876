"""Search the bytes of files for rows that should be gone: their ids, and the keys of their contents."""

import json
import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path

import h5py
import numpy as np

from encode_once.cache.errors import DataError
from encode_once.cache.format.files import open_without_links
from encode_once.cache.keys import HEX

HDF5, SQLITE = b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0"
SAFE_BYTES = 6  # of an id: shorter ones occur by chance in the bytes of vectors
NUMBERS_ONLY = ("history.csv",)  # in which a short id would be any number
OF_RUNS = ("run.json", "metrics.json", "thresholds.json", "spec.json")
# Their entries that name classes or describe an encoder, whose words may be equal to an id.
NO_IDS = {"classes", "untrained", "label", "thresholds", "intervals", "precedence", "calibration", "spec"}
CLASS_NAMES = ("classes", "labels/names")  # the same in scores.h5 and in tables


class SearchPatterns:
    """What is searched for.

    Args:
        names: ids of rows, and keys of contents in hexadecimal.
    """

    def __init__(self, names: Collection[str]) -> None:
        if not names:
            raise DataError("nothing to search for: name ids or keys")
        self.keys = [bytes.fromhex(name) for name in names if HEX.fullmatch(name)]
        ids = [name for name in names if not HEX.fullmatch(name)]
        self._long = _pattern(name for name in ids if len(os.fsencode(name)) >= SAFE_BYTES)
        self._short = _pattern(
            (name for name in ids if len(os.fsencode(name)) < SAFE_BYTES), rb'(?:^|["/\\])', rb'(?:[",.]|$)'
        )

    def in_bytes(self, content: "mmap | bytes", name: str, is_text: bool) -> Iterator[str]:
        """What a file contains, in words."""
        for key in self.keys:
            if content.find(key) >= 0 or content.find(key.hex().encode()) >= 0:
                yield f"key {key.hex()}"
        if name in OF_RUNS:
            content = _without_class_names(content)
        yield from _matches(self._long, content)
        if is_text and name not in NUMBERS_ONLY:
            yield from _matches(self._short, content)

    def in_texts(self, texts: bytes) -> Iterator[str]:
        """What texts contain, which are lines."""
        yield from _matches(self._long, texts)
        yield from _matches(self._short, texts)


def _without_class_names(content: "mmap | bytes") -> bytes:
    """The content of a JSON file of a run without these entries; all of it if it is damaged."""
    raw = content[:]
    try:
        tree = json.loads(
            raw, object_hook=lambda entries: {k: v for k, v in entries.items() if k not in NO_IDS}
        )
    except (ValueError, RecursionError):
        return raw
    return json.dumps(tree, indent=1).encode()


def _pattern(
    ids: Iterable[str], before: bytes = rb"(?<![0-9A-Za-z])", after: bytes = rb"(?![0-9A-Za-z])"
) -> re.Pattern[bytes] | None:
    """A pattern of the ids, as they are and as JSON writes them, that are not part of a longer word."""
    forms = {form for name in ids for form in (os.fsencode(name), json.dumps(name)[1:-1].encode())}
    joined = b"|".join(map(re.escape, sorted(forms)))
    return re.compile(before + b"(" + joined + b")" + after, re.MULTILINE) if forms else None


def _matches(pattern: re.Pattern[bytes] | None, content: "mmap | bytes") -> Iterator[str]:
    if pattern:
        yield from (f"id {os.fsdecode(match[1])}" for match in pattern.finditer(content))


def search(folders: Iterable[Path], names: Collection[str]) -> dict[Path, list[str]]:
    """The files in these folders that contain an id or a key, and which, each once.

    Every byte is searched for keys, as they are and in hexadecimal, and for ids as whole words; ids of fewer
    than six bytes only where they stand in quotes, in a path or in a cell. HDF5's texts and SQLite's paths,
    which have no separators, are read one by one as well. Names of classes, where the store and runs list
    these, are no ids.

    Raises:
        OSError: a file cannot be read.
    """
    patterns, result = SearchPatterns(names), {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file() and not path.is_symlink() and (lines := _in_file(path, patterns)):
                result[path] = lines
    return result


def _in_file(path: Path, patterns: SearchPatterns) -> list[str]:
    if not path.stat().st_size:
        return []
    with open_without_links(path) as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        is_hdf5 = content.find(HDF5, 0, 1 << 20) >= 0
        is_sqlite = content[: len(SQLITE)] == SQLITE
        lines = [*patterns.in_bytes(content, path.name, is_text=not (is_hdf5 or is_sqlite))]
    if is_hdf5:
        lines += patterns.in_texts(_hdf5_texts(path))
    if is_sqlite:
        lines += patterns.in_texts(_sqlite_paths(path))
    return [*dict.fromkeys(lines)]


def _hdf5_texts(path: Path) -> bytes:
    """The texts of all groups that `write_texts` wrote, a line each; none of a damaged file."""
    lines = list[bytes]()

    def read(name: str, item: "h5py.Group | h5py.Dataset") -> None:
        if isinstance(item, h5py.Group) and name not in CLASS_NAMES and {"bytes", "offsets"} <= {*item}:
            content, offsets = item["bytes"][()].tobytes(), np.asarray(item["offsets"]).tolist()
            lines.extend(content[start:end] for start, end in pairwise(offsets))

    try:
        with h5py.File(path) as file:
            file.visititems(read)
    except (OSError, ValueError, KeyError):  # its bytes were searched all the same
        return b"\n".join(lines)
    return b"\n".join(lines)


def _sqlite_paths(path: Path) -> bytes:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT path FROM keys_of_files").fetchall()
    except sqlite3.Error:
        return b""
    return b"\n".join(raw for (raw,) in rows if isinstance(raw, bytes))
