"""Scripts without this project, for comparison: torch, a loop, and `np.save`.

`python -m encode_once.extract.bench.torch_scripts` runs a script in a separate process, without this
project's settings of allocator and threads, which would make it 1.5 times as fast.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from encode_once.extract import encoders
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.image_network import ImageNetwork

BATCH, WORKERS = 32, 2


def run(
    script: str, encoder: str, options: Options, device: str, paths: Sequence[str]
) -> tuple[float, NDArray[Any]]:
    """Seconds of "with_data_loader" or "with_threads" without loading, and its vectors (n, d)."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "vectors.npy")
        request = json.dumps([script, encoder, asdict(options), device, list(paths), output])
        seconds = subprocess.run(
            [sys.executable, "-m", "encode_once.extract.bench.torch_scripts"],
            input=request,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        return float(seconds), np.load(output)


class Photographs(Dataset[Any]):
    """Image files, preprocessed on access."""

    def __init__(self, paths: Sequence[str], transform: Callable[[Image.Image], Any]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def with_data_loader(tower: ImageNetwork, model: Any, paths: Sequence[str], output: Path) -> None:
    """A DataLoader with two worker processes."""
    photographs = Photographs(paths, preprocessing(tower))
    _encode(tower, model, DataLoader(photographs, BATCH, num_workers=WORKERS), output)


def with_threads(tower: ImageNetwork, model: Any, paths: Sequence[str], output: Path) -> None:
    """A pool of threads prepares a batch, then the network encodes it, in turn."""
    photographs = Photographs(paths, preprocessing(tower))
    with ThreadPoolExecutor() as pool:
        starts = range(0, len(paths), BATCH)
        rows = (range(start, min(start + BATCH, len(paths))) for start in starts)
        batches = (torch.stack(list(pool.map(photographs.__getitem__, batch))) for batch in rows)
        _encode(tower, model, batches, output)


def preprocessing(tower: ImageNetwork) -> Callable[[Image.Image], Any]:
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(tower.mean, tower.std)]
    preprocessing: Callable[[Image.Image], Any] = v2.Compose([tower.transform(), *normalise])
    return preprocessing


def _encode(tower: ImageNetwork, model: Any, batches: Iterable[Any], output: Path) -> None:
    """Write the first output's vectors, (n, d)."""
    encoded = []
    with torch.inference_mode():
        for images in batches:
            vectors, *_ = tower.vectors(model, images.to(tower.device))
            encoded.append(vectors.cpu().numpy())
    np.save(output, np.concatenate(encoded))


def main() -> None:
    """Run the script requested by `run` on stdin; print the seconds."""
    script, encoder, options, device, paths, output = json.load(sys.stdin)
    towers = encoders.towers(encoder, Options(**options))
    tower = next(tower for tower in towers if isinstance(tower, ImageNetwork))
    tower.device = device
    model = tower.build_model().eval().to(device)
    started = time.perf_counter()
    {"with_data_loader": with_data_loader, "with_threads": with_threads}[script](
        tower, model, paths, Path(output)
    )
    print(time.perf_counter() - started)  # noqa: T201 — `run` reads it


if __name__ == "__main__":
    main()
