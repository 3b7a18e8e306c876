"""The store next to plain npy files: the same rows, in the same run."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xxhash

from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.bench.stopwatch import timed
from encode_once.cache.feature import Feature
from encode_once.cache.file_index import FileIndex, Stat
from encode_once.cache.keys import KEY_BYTES
from encode_once.cache.maintenance import verify
from encode_once.cache.store import Store

REPEATS = 7
BATCH = 512  # rows per commit
RANDOM_ROWS = 4096
Task = tuple[str, Callable[[], Any], Callable[[], Any], int]  # name, ours, npy's, bytes of its rows


def against_npy(rows: int = 200_000, dim: int = 768, folder: str | None = None) -> list[dict[str, Any]]:
    """A row per task: milliseconds of the store and of npy, medians of several runs in turn."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        return [_measured(*task) for task in _tasks(Path(temporary), rows, dim)]


def _tasks(folder: Path, rows: int, dim: int) -> list[Task]:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, dim), np.float32).astype(np.float16)
    keys = rng.integers(0, 256, (rows, KEY_BYTES), np.uint8)
    npy, path = folder / "rows.npy", folder / "store"

    def write_npy() -> None:
        mapped = np.lib.format.open_memmap(npy, "w+", values.dtype, values.shape)
        for start in range(0, rows, BATCH):
            mapped[start : start + BATCH] = values[start : start + BATCH]
            mapped.flush()

    def write() -> None:
        shutil.rmtree(path, ignore_errors=True)
        with Store(path).declare("e/o", {"modality": "image"}).writer(rows) as writer:
            for start in range(0, rows, BATCH):
                writer.append(keys[start : start + BATCH], values[start : start + BATCH])

    def opened() -> Feature:
        return Store(path).feature("e/o")

    def mapped() -> Any:
        return np.load(npy, mmap_mode="r")

    def load() -> Any:
        return np.load(npy)

    write_npy()
    write()
    ours, theirs = opened(), mapped()
    new, new_maps = iter([opened() for _ in range(2 * REPEATS)]), iter([mapped() for _ in range(REPEATS)])
    shuffled, sample = rng.permutation(rows), rng.integers(0, rows, RANDOM_ROWS)
    for order in (slice(None), shuffled, sample):
        assert np.array_equal(ours.read(keys[order]), values[order]), "the store returned other rows"
    assert verify(Store(path)) == [], "the store is damaged"
    size, part = values.nbytes, values[sample].nbytes
    random = f"{RANDOM_ROWS:,} random rows"
    return [
        ("read all, first time; npy: load", lambda: next(new).read(keys), load, size),
        ("read all, again; npy: load", lambda: ours.read(keys), load, size),
        ("read all, copied; npy: load", lambda: np.array(ours.read(keys)), load, size),
        ("all, shuffled; npy: map", lambda: ours.read(keys[shuffled]), lambda: theirs[shuffled], size),
        (
            f"{random}, first time; npy: map",
            lambda: next(new).read(keys[sample]),
            lambda: next(new_maps)[sample],
            part,
        ),
        (f"{random}, again; npy: map", lambda: ours.read(keys[sample]), lambda: theirs[sample], part),
        ("open; npy: map", opened, mapped, 0),
        (
            "verify; npy: xxh3 of the file",
            lambda: verify(Store(path)),
            lambda: xxhash.xxh3_64_digest(mapped()),
            size,
        ),
        (f"write, a commit each {BATCH} rows; npy: map, flush", write, write_npy, size),
    ]


def _measured(task: str, ours: Callable[[], Any], npy: Callable[[], Any], size: int) -> dict[str, Any]:
    times = [(timed(ours)[0], timed(npy)[0]) for _ in range(REPEATS)]
    us, them = map(median, zip(*times, strict=True))
    return {
        "task": task,
        "ms": 1000 * us,
        "npy ms": 1000 * them,
        "GB/s": size / us / 1e9,
        "npy GB/s": size / them / 1e9,
        "speed / npy's": them / us,
    }


def stat_check(files: int = 1_000_000) -> dict[str, Any]:
    """Seconds and memory to look up the keys of unchanged files; the files need not exist."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "files.sqlite"
        stats = _stats(files)
        FileIndex(index).remember((path, stat, os.urandom(KEY_BYTES)) for path, stat in stats.items())
        seconds, peak = with_peak_memory(_check, index, files)
    return {"files": files, "seconds": seconds, "MB": peak / 1e6}


def _stats(files: int) -> dict[str, Stat]:
    return {f"/a/folder/of/images/{number:012}.jpg": (100_000 + number, number) for number in range(files)}


def _check(index: Path, files: int) -> float:
    stats = _stats(files)
    seconds, keys = timed(lambda: FileIndex(index).find(stats))
    assert len(keys) == files
    return seconds
