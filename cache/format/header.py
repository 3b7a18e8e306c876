"""The stamp: a checksummed header, as text before the HDF5 content of a file.

HDF5 does not detect damage, and a crafted file can crash its library. So each file starts with a user block,
which HDF5 ignores, with the place and the checksum of everything else. Files are verified, and parts are
read, using only this block.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from encode_once.cache.errors import DamagedError, StoreError
from encode_once.cache.format.atomic import write_at
from encode_once.cache.format.files import open_without_links, reading

Stamp = Mapping[str, Any]
SLOT_BYTES = 4096  # a page, which most disks write at once
SLOTS = 2  # written alternately, so that one is intact if the power fails
STAMP_BYTES = SLOTS * SLOT_BYTES
MAGIC = b"encode-once stamp "
PIECE = 2**20  # bytes of a file read at a time


def checksum(content: Any) -> str:
    """XXH3-64 of a buffer, in hexadecimal."""
    return xxhash.xxh3_64_hexdigest(content)


def file_checksum(file: BinaryIO) -> str:
    """XXH3-64 of the rest of a file, in hexadecimal."""
    state = xxhash.xxh3_64()
    while piece := file.read(PIECE):
        state.update(piece)
    return state.hexdigest()


def checksums(pieces: Iterable[Any]) -> NDArray[np.uint64]:
    """XXH3-64 of each of several buffers."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, pieces), "<u8")


def write_stamp(descriptor: int, stamp: Stamp, slots: Iterable[int] = range(SLOTS)) -> None:
    """Write a stamp to slots of the file; its `commit` is greater than that of earlier stamps."""
    text = json.dumps(stamp).encode().ljust(SLOT_BYTES - len(MAGIC) - 34) + b"\n"
    block = MAGIC + _digest(text) + b"\n" + text
    if len(block) != SLOT_BYTES:
        raise StoreError(f"a stamp of {len(block)} bytes does not fit: shorten the feature's name")
    for slot in slots:
        write_at(descriptor, slot * SLOT_BYTES, block)


def read_stamp(path: Path, kind: tuple[str, int], since: int | None = None) -> dict[str, Any]:
    """Read the stamp of a file of that format, of that version or of earlier ones from `since` on.

    Raises:
        DamagedError: no slot is intact.
        StoreError: another format or version, or the file cannot be read.
    """
    with reading(path), open_without_links(path) as file:
        blocks = [file.read(SLOT_BYTES) for _ in range(SLOTS)]
        stamps = [stamp for stamp in map(_parse, blocks) if stamp is not None]
        if not stamps:
            raise DamagedError(f"{path} is damaged, or was not written by this program")
        stamp = max(stamps, key=lambda stamp: int(stamp.get("commit", 0)))
    check_version(path, (stamp.get("format"), stamp.get("version")), kind, since)
    return stamp


def stamp_whole(path: Path, kind: tuple[str, int], more: Stamp | None = None) -> None:
    """Write the stamp of a closed HDF5 file with a user block, with one checksum for all that follows.

    Args:
        more: further entries of the stamp.
    """
    with path.open("r+b") as file:
        stamp = {"format": kind[0], "version": kind[1], "checksum": _checksum_of_content(file)}
        write_stamp(file.fileno(), stamp | dict(more or {}))


def check_whole(path: Path, kind: tuple[str, int], since: int | None = None) -> None:
    """Verify a file that `stamp_whole` stamped; `since` as in `read_stamp`.

    Raises:
        StoreError: another format or version.
        DamagedError: the file has changed since it was written.
    """
    stamp = read_stamp(path, kind, since)
    with reading(path), open_without_links(path) as file:
        if stamp.get("checksum") != _checksum_of_content(file):
            raise DamagedError(f"{path} is damaged")


def _checksum_of_content(file: BinaryIO) -> str:
    file.seek(STAMP_BYTES)
    digest = xxhash.xxh3_64()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def _parse(block: bytes) -> dict[str, Any] | None:
    head, _, text = block.partition(b"\n")
    if head != MAGIC + _digest(text):
        return None
    stamp = json.loads(text)
    return stamp if isinstance(stamp, dict) else None


def check_version(
    path: Path, actual: tuple[Any, Any], expected: tuple[str, int], since: int | None = None
) -> None:
    """Compare a file's format and version with the expected ones; `since` is the oldest readable version.

    Raises:
        StoreError: another format or version; the message says what to do.
    """
    (kind, version), (expected_kind, current) = actual, expected
    if kind == expected_kind and type(version) is int and (since or current) <= version <= current:
        return
    if kind != expected_kind:
        raise StoreError(f"{path} is not an {expected_kind}, but {kind!r}")
    if type(version) is not int:
        raise DamagedError(f"{path} was altered: {version!r} is not a version number")
    if version < current:
        remedy = "It is older and has no checksums: extract again into a new --store"
    else:
        remedy = "A newer encode-once wrote it: update this one"
    raise StoreError(f"{path} is {kind} version {version}; this program reads version {current}. {remedy}")
