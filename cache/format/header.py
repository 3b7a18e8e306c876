"""The stamp: what a file of ours says of itself, as text ahead of its HDF5 content.

HDF5 cannot tell a damaged file from a whole one, and a crafted one can crash its library. So each file starts
with a user block, which HDF5 leaves to others, that says where everything is and has its checksum. Files are
checked, and parts are read, by that alone.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from encode_once.cache.errors import DamagedError, StoreError

Stamp = Mapping[str, Any]
SLOT_BYTES = 4096  # a page: what a disk writes at once, mostly
SLOTS = 2  # written in turn, so that one is whole whenever the power goes
STAMP_BYTES = SLOTS * SLOT_BYTES
MAGIC = b"encode-once stamp "


def checksum(content: Any) -> str:
    """XXH3-64 of a buffer, in hexadecimal."""
    return xxhash.xxh3_64_hexdigest(content)


def checksums(pieces: Iterable[Any]) -> NDArray[np.uint64]:
    """XXH3-64 of each of several buffers."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, pieces), "<u8")


def write_stamp(descriptor: int, stamp: Stamp, slots: Iterable[int] = range(SLOTS)) -> None:
    """Write a stamp, whose `commit` counts up, to slots of the file."""
    text = json.dumps(stamp).encode().ljust(SLOT_BYTES - len(MAGIC) - 34) + b"\n"
    block = MAGIC + _digest(text) + b"\n" + text
    if len(block) != SLOT_BYTES:
        raise StoreError(f"a stamp of {len(block)} bytes does not fit: shorten the feature's name")
    for slot in slots:
        write_at(descriptor, slot * SLOT_BYTES, block)


def read_stamp(path: Path, kind: tuple[str, int], since: int | None = None) -> dict[str, Any]:
    """The stamp of a file of that format and version, or one of an earlier version from `since` on.

    Raises:
        DamagedError: no slot is as it was written.
        StoreError: it is a file of another format or version.
    """
    with path.open("rb") as file:
        blocks = [file.read(SLOT_BYTES) for _ in range(SLOTS)]
    whole = [stamp for stamp in map(_parse, blocks) if stamp is not None]
    if not whole:
        raise DamagedError(f"{path} is damaged, or was not written by this program")
    stamp = max(whole, key=lambda stamp: int(stamp.get("commit", 0)))
    check_version(path, (stamp.get("format"), stamp.get("version")), kind, since)
    return stamp


def stamp_whole(path: Path, kind: tuple[str, int], more: Stamp | None = None) -> None:
    """Stamp a closed HDF5 file that was made with a user block: one checksum for all that follows.

    Args:
        more: what else the stamp says.
    """
    with path.open("r+b") as file:
        stamp = {"format": kind[0], "version": kind[1], "checksum": _checksum_of_content(file)}
        write_stamp(file.fileno(), stamp | dict(more or {}))


def check_whole(path: Path, kind: tuple[str, int], since: int | None = None) -> None:
    """Refuse a file that `stamp_whole` did not stamp, or that has changed since; versions as `read_stamp`.

    Raises:
        StoreError: of another format or version.
        DamagedError: not as it was written.
    """
    stamp = read_stamp(path, kind, since)
    with path.open("rb") as file:
        if stamp.get("checksum") != _checksum_of_content(file):
            raise DamagedError(f"{path} is damaged")


def _checksum_of_content(file: BinaryIO) -> str:
    file.seek(STAMP_BYTES)
    found = xxhash.xxh3_64()
    while piece := file.read(1 << 20):
        found.update(piece)
    return found.hexdigest()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def _parse(block: bytes) -> dict[str, Any] | None:
    head, _, text = block.partition(b"\n")
    if head != MAGIC + _digest(text):
        return None
    stamp = json.loads(text)
    return stamp if isinstance(stamp, dict) else None


def check_version(
    path: Path, found: tuple[Any, Any], known: tuple[str, int], since: int | None = None
) -> None:
    """Refuse a file of another format, or of a version not from `since` to the known one, with the remedy."""
    (kind, version), (wanted, current) = found, known
    if kind == wanted and version in range(since or current, current + 1):
        return
    if kind != wanted:
        raise StoreError(f"{path} is no {wanted}, but {kind!r}")
    if isinstance(version, int) and version < current:
        remedy = "It is older and has no checksums: extract again into a new --store"
    else:
        remedy = "A newer encode-once wrote it: update this one"
    raise StoreError(f"{path} is {kind} version {version}; this program reads version {current}. {remedy}")


def write_at(descriptor: int, place: int, content: Any) -> None:
    """Write all of a buffer at a place of a file."""
    rest = memoryview(content).cast("B")
    while len(rest):
        written = os.pwrite(descriptor, rest, place)
        rest, place = rest[written:], place + written
