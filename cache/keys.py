"""Content keys: a row is known by what it holds, not by where it lies or what it is called."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError

KEY_BYTES = 16
Keys = NDArray[np.uint8]  # (n, 16)
Spec = Mapping[str, str | int | float | bool]  # what decides a feature's values, readable
NO_KEY = bytes(KEY_BYTES)  # stands where a row has no such content


def content_key(content: bytes) -> bytes:
    """The key of an input's bytes: BLAKE2b with 16 bytes of digest."""
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def spec_key(spec: Spec) -> str:
    """The key of a feature: the hash of its spec as canonical JSON, in hexadecimal."""
    return content_key(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hex()


def pack(keys: Iterable[bytes]) -> Keys:
    """Keys as one array, (n, 16) uint8."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)


def present(keys: Keys) -> NDArray[np.bool_]:
    """Which of these rows have a content at all, (n,) bool."""
    return np.asarray(keys.any(axis=1))


def _halves(keys: Keys) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)  # (n, 2)


def first_occurrences(keys: Keys) -> NDArray[np.intp]:
    """Positions of the first row of each distinct key, in the rows' own order."""
    _, first = np.unique(_halves(keys), axis=0, return_index=True)
    return np.sort(first)


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of all contents, told by the contents alone, not by names, order or number."""

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """A shard as `i/n`, i from 1 to n; 0 stands for n, for those who count from 0."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and int(number) <= int(count) != 0):
            raise UsageError(f"--shard {text}: say I/N, as 1/4, 2/4, 3/4 and 4/4 on four machines")
        return cls(int(number) % int(count), int(count))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of these contents, (n, 16), are this shard's, (n,)."""
        return np.asarray(_halves(keys)[:, 0] % np.uint64(self.count) == self.number)


class KeyIndex:
    """Finds keys among n others, all at once: 28 to 32 bytes of memory a key.

    Keys are hashes, so their first bits spread them evenly over as many buckets: one look or two finds each.
    """

    def __init__(self, keys: Keys) -> None:
        halves = _halves(keys)
        order = np.argsort(halves[:, 0], kind="stable")
        self._entries = np.column_stack([halves[order], order.astype(np.uint64)])  # (n, 3): key, position
        bits = max(1, len(keys).bit_length())
        self._shift = np.uint64(64 - bits)
        sizes = np.bincount(self._buckets(self._entries[:, 0]), minlength=1 << bits)
        dtype = np.uint32 if len(keys) < 1 << 32 else np.uint64
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(dtype)  # (buckets + 1,)
        repeated = (self._entries[1:, :2] == self._entries[:-1, :2]).all(axis=1)
        self.distinct = len(keys) - int(repeated.sum())

    def _buckets(self, high: NDArray[np.uint64]) -> NDArray[np.intp]:
        return (high >> self._shift).astype(np.intp)

    def find(self, keys: Keys) -> NDArray[np.intp]:
        """The position of each key, (n,), or -1."""
        high, low = _halves(keys).T.copy()
        found = np.full(len(keys), -1, dtype=np.intp)
        bucket = self._buckets(high)
        first = self._starts.take(bucket).astype(np.intp)
        end = self._starts.take(bucket + 1).astype(np.intp)
        look, open_ = 0, np.flatnonzero(first < end)
        while len(open_):
            entries = self._entries.take(first[open_] + look, axis=0)
            hit = (entries[:, 0] == high[open_]) & (entries[:, 1] == low[open_])
            found[open_[hit]] = entries[hit, 2]
            look += 1
            open_ = open_[~hit & (first[open_] + look < end[open_])]
        return found
