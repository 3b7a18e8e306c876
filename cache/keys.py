"""Content keys: a row is identified by its content, not by its place or name."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError
from encode_once.cache.large_arrays import new_array, row_slices, rows_where

KEY_BYTES = 16
HEX = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")  # a key in hexadecimal
Keys = NDArray[np.uint8]  # (n, 16)
RowIndex = NDArray[np.intp]  # (n,): numbers of rows
Spec = Mapping[str, str | int | float | bool]  # the readable settings that decide a feature's values
NO_KEY = bytes(KEY_BYTES)  # the key of absent content


def content_key(content: bytes) -> bytes:
    """The key of an input's bytes: BLAKE2b with 16 bytes of digest."""
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def spec_key(spec: Spec) -> str:
    """The key of a feature: the hash of its spec as canonical JSON, in hexadecimal."""
    return content_key(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hex()


def spec_differences(recorded: Spec, asked: Spec) -> str:
    """The settings in which two specs differ, for messages; empty if they do not."""
    return "; ".join(
        f"{name}: stored {recorded.get(name, '–')}, asked for {asked.get(name, '–')}"
        for name in sorted({*recorded, *asked})
        if recorded.get(name) != asked.get(name)
    )


def pack(keys: Iterable[bytes]) -> Keys:
    """One array of keys, (n, 16) uint8."""
    content = bytearray()
    for key in keys:
        content += key
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, KEY_BYTES)


def present(keys: Keys) -> NDArray[np.bool_]:
    """Whether each key is that of any content, (n,) bool."""
    return np.asarray(keys.any(axis=1))


def _halves(keys: Keys) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)  # (n, 2)


def _sorted_distinct(keys: Keys) -> Iterator[RowIndex]:
    """The first row of each distinct key, sorted by the keys' two halves: a range of keys at a time."""
    halves = _halves(keys)
    for rows in buckets(halves[:, 0]):
        of_bucket = halves.take(rows, axis=0)
        order = np.lexsort((of_bucket[:, 1], of_bucket[:, 0]))  # stable: equal keys stay in row order
        of_bucket = of_bucket.take(order, axis=0)
        is_first = np.ones(len(rows), np.bool_)
        is_first[1:] = (of_bucket[1:] != of_bucket[:-1]).any(axis=1)
        yield rows[order[is_first]]


def buckets(numbers: NDArray[np.uint64]) -> Iterator[RowIndex]:
    """The rows of numbers, which are hashes, in about as many ranges of these as blocks; each ascending."""
    bits = max(0, sum(1 for _ in row_slices(len(numbers))) - 1).bit_length()
    if not bits:
        yield np.arange(len(numbers))
        return
    shift, count = np.uint64(64 - bits), 1 << bits
    sizes = np.zeros(count, np.intp)
    for block in row_slices(len(numbers)):
        sizes += np.bincount((numbers[block] >> shift).astype(np.intp), minlength=count)
    rows, ends = new_array(len(numbers), np.intp), np.cumsum(sizes) - sizes
    for block in row_slices(len(numbers)):
        bucket = (numbers[block] >> shift).astype(np.intp)
        order = np.argsort(bucket, kind="stable")
        of_block = np.bincount(bucket, minlength=count)
        starts = np.cumsum(of_block) - of_block
        rows[np.repeat(ends - starts, of_block) + np.arange(len(order))] = block.start + order
        ends += of_block
    for end, size in zip(ends.tolist(), sizes.tolist(), strict=True):
        yield rows[end - size : end]


def first_occurrences(keys: Keys) -> RowIndex:
    """The first row of each distinct key, in row order."""
    is_first = np.zeros(len(keys), np.bool_)
    for rows in _sorted_distinct(keys):
        is_first[rows] = True
    return rows_where(is_first)


@dataclass(frozen=True)
class Shard:
    """One of `count` disjoint parts of whatever has a key."""

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse `i/n` with i from 1 to n; 0 is another name for n, for counting from 0."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and int(number) <= int(count) != 0):
            raise UsageError(f"--shard {text}: write I/N, such as 1/4, 2/4, 3/4 and 4/4 on four machines")
        return cls(int(number) % int(count), int(count))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each key, (n, 16), belongs to this shard, (n,)."""
        return np.asarray(_halves(keys)[:, 0] % np.uint64(self.count) == self.number)


class KeyIndex:
    """The rows of many keys at once, by binary search: 24 bytes per key, which may be in temporary files."""

    def __init__(self, keys: Keys) -> None:
        halves, size = _halves(keys), 0
        rows, high, low = (new_array(len(keys), dtype) for dtype in (np.intp, np.uint64, np.uint64))
        for bucket in _sorted_distinct(keys):
            place, size = slice(size, size + len(bucket)), size + len(bucket)
            rows[place] = bucket
            high[place], low[place] = halves.take(bucket, axis=0).T
        self._rows, self._high, self._low = rows[:size], high[:size], low[:size]  # by high half, then low

    def __len__(self) -> int:
        """The number of distinct keys."""
        return len(self._rows)

    def find(self, keys: Keys) -> RowIndex:
        """The first row of each key, (n,); -1 if it is absent."""
        rows = np.full(len(keys), -1, np.intp)
        for block in row_slices(len(keys)):
            self._find(keys[block], rows[block])
        return rows

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each key is in the index, (n,)."""
        result = np.zeros(len(keys), np.bool_)
        for block in row_slices(len(keys)):
            result[block] = self.find(keys[block]) >= 0
        return result

    def _find(self, keys: Keys, rows: RowIndex) -> None:
        """Set the row, (n,), of each key that is in the index."""
        high, low = _halves(keys).T.copy()
        order = np.argsort(high)  # sorted queries use the processor's cache: 4 times as fast for 10^6 keys
        place = np.empty(len(keys), np.intp)
        place[order] = np.searchsorted(self._high, high[order])
        pending = np.arange(len(keys))
        while len(pending):  # a second time only if two keys agree in their first half
            pending = pending[place[pending] < len(self)]
            pending = pending[self._high[place[pending]] == high[pending]]
            is_equal = self._low[place[pending]] == low[pending]
            rows[pending[is_equal]] = self._rows[place[pending[is_equal]]]
            pending = pending[~is_equal]
            place[pending] += 1
