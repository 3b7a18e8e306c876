"""The cost of extraction without encoding: time if nothing has changed, and memory."""

import csv
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from encode_once.cache import Store
from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.extract.pipeline import encode
from encode_once.extract.trust import Trust, approve, of_features

REPEATS = 3
WORDS = "a the man dog cat street red on in with holding small large table water".split()


def unchanged(data: str, store: str, trust: Trust | None = None) -> dict[str, Any]:
    """Seconds that extract takes, without imports, if all rows are in the store already."""
    features = [Store(store).feature(name) for name in Store(store).features()]
    encoders = of_features(features)
    weights = approve(store, encoders, trust or Trust())
    reports = [encode(data, [*encoders], store, weights=weights, progress=False) for _ in range(REPEATS)]
    encoded = sum(counts.encoded for counts in reports[-1].features.values())
    return {
        "task": f"extract, unchanged: {', '.join(encoders)}",
        "rows": reports[-1].samples,
        "encoded": encoded,
        "seconds": median(report.seconds for report in reports),
    }


def memory(rows: int, encoder: str = "glove-50") -> dict[str, Any]:
    """The peak memory of extracting `rows` captions, without imports."""
    with tempfile.TemporaryDirectory() as folder:
        write_captions(Path(folder) / "train.csv", rows)
        seconds, peak = with_peak_memory(_encode, folder, encoder)
    return {"task": f"extract {encoder}", "rows": rows, "seconds": seconds, "MB": peak / 1e6}


def write_captions(path: Path, rows: int) -> None:
    """Write a table of ids, labels and captions, all different; there are no images."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageID", "Labels", "Caption"])
        for row in range(rows):
            caption = " ".join(WORDS[(row >> bit) % len(WORDS)] for bit in range(0, 20, 2))
            writer.writerow([f"{row}.jpg", row % 19, f"{caption} {row}"])


def _encode(folder: str, encoder: str) -> float:
    return encode(folder, [encoder], Path(folder) / "store", progress=False).seconds
