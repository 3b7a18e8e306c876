"""The cost of reading a table with one column for each class, compared with pandas' own read."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.extract.readers import understand

BATCH = 10_000  # rows that are written at a time
LABELS_PER_ROW = 3


def reading(rows: int, classes: int) -> list[dict[str, Any]]:
    """Processor seconds and peak memory of pandas and of our own reader, each in a process of its own.

    In the second pair, captions are between quotes, as they must be if they contain commas.
    """
    return _measured(rows, classes, "no", "{}") + _measured(rows, classes, "captions", '"{}, in the rain"')


def _measured(rows: int, classes: int, quotes: str, caption: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        labels = write_one_hot(path, rows, classes, caption)
        for reader, work in (("pandas.read_csv", _by_pandas), ("encode-once", _by_us)):
            (seconds, positives), peak = with_peak_memory(work, str(path), classes)
            if positives != labels:
                raise AssertionError(f"{reader} read {positives} labels, and {labels} were written")
            result = {"reader": reader, "quotes": quotes, "rows": rows, "classes": classes}
            results.append(
                result | {"CSV_MB": path.stat().st_size / 1e6, "seconds": seconds, "MB": peak / 1e6}
            )
    return [result | {"times_pandas": result["seconds"] / results[0]["seconds"]} for result in results]


def write_one_hot(path: Path, rows: int, classes: int, caption: str) -> int:
    """Write a table of that many rows, with 0 or 1 for each class; return how many are 1."""
    rng = np.random.default_rng(0)
    positives = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["ImageID", "Caption", *(f"class {number}" for number in range(classes))]) + "\n")
        for start in range(0, rows, BATCH):
            flags = rng.random((min(BATCH, rows - start), classes)) < LABELS_PER_ROW / classes
            positives += int(flags.sum())
            for row, cells in enumerate(flags.astype(int).tolist(), start):
                text = caption.format(f"a man and a dog on street {row}")
                file.write(f"{row}.jpg,{text},{','.join(map(str, cells))}\n")
    return positives


def _by_pandas(path: str, classes: int) -> tuple[float, int]:
    started = time.process_time()
    frame = pd.read_csv(path)
    seconds = time.process_time() - started
    return seconds, int(frame.iloc[:, -classes:].to_numpy().sum())


def _by_us(path: str, classes: int) -> tuple[float, int]:
    started = time.process_time()
    (table,) = understand(path).tables.values()
    seconds = time.process_time() - started
    return seconds, sum(map(len, table.labels or ()))
