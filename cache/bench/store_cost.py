"""What a row costs the store: to write, seal and merge it, and to look up its key."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from encode_once.cache.bench.peak_memory import peak_traced
from encode_once.cache.bench.stopwatch import timed
from encode_once.cache.keys import KEY_BYTES, KeyIndex
from encode_once.cache.merge import merge
from encode_once.cache.store import Store

BATCH = 512  # rows per commit while many are written
COMMITS = 20  # of one row each, to measure what a commit takes beyond its rows
FEATURE = "bench/rows"


def store_cost(rows: int, width: int, repeats: int, folder: str | None = None) -> Mapping[str, float]:
    """Medians of rounds: seconds per row to write, seal and merge, seconds of a commit, and bytes per row.

    Args:
        rows: number of random rows to write.
        width: number of float16 values in a row.
        folder: on the disk that is measured; by default that of temporary files.
    """
    rounds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            rounds.append(_measured(Path(place), rows, width))
    return {name: median(values[name] for values in rounds) for name in rounds[0]}


def _measured(folder: Path, rows: int, width: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (rows + COMMITS, KEY_BYTES), np.uint8)
    values = rng.standard_normal((rows + COMMITS, width), np.float32).astype(np.float16)
    store, merged = Store(folder / "store"), Store(folder / "merged")
    feature = store.declare(FEATURE, {"modality": "image"})
    with feature.writer(rows + COMMITS) as writer:

        def append(batch: int, start: int, stop: int) -> None:
            for row in range(start, stop, batch):
                end = min(row + batch, stop)
                writer.append(keys[row:end], values[row:end])

        append(1, 0, 1)  # creates the part
        commit = timed(lambda: append(1, 1, COMMITS))[0] / (COMMITS - 1)
        write = timed(lambda: append(BATCH, COMMITS, rows + COMMITS))[0] - commit * -(-rows // BATCH)
        seal, _ = timed(writer.close)
    to_merge, _ = timed(lambda: merge(merged, store))
    assert len(merged.feature(FEATURE)) == len(keys), "the merged store lacks rows"
    return {
        "commit": commit,
        "write": max(0.0, write) / rows,
        "seal": seal / len(keys),
        "merge": to_merge / len(keys),
        "vector_bytes": feature.nbytes / len(keys),
    }


def index_memory(rows: int) -> float:
    """Bytes per row that the keys of a feature and their index take at most, while the index is made."""
    keys = np.random.default_rng(0).integers(0, 256, (rows, KEY_BYTES), np.uint8)
    return (keys.nbytes + peak_traced(lambda: KeyIndex(keys))) / rows
