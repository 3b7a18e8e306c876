"""The scripts one would write without this project, to be compared with: torch, a loop, one `np.save`."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from extract.encoders.networks import ImageNetwork

BATCH, WORKERS = 32, 2


class Photographs(Dataset[Any]):
    """Image files, preprocessed one by one."""

    def __init__(self, paths: Sequence[str], transform: Callable[[Image.Image], Any]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def with_data_loader(tower: ImageNetwork, model: Any, paths: Sequence[str], output: Path) -> NDArray[Any]:
    """A DataLoader with two worker processes; returns the first output's vectors (n, d)."""
    photographs = Photographs(paths, _preprocessing(tower))
    return _encode(tower, model, DataLoader(photographs, BATCH, num_workers=WORKERS), output)


def with_threads(tower: ImageNetwork, model: Any, paths: Sequence[str], output: Path) -> NDArray[Any]:
    """A pool of threads that prepares a batch, then the network, in turn."""
    photographs = Photographs(paths, _preprocessing(tower))
    with ThreadPoolExecutor() as pool:
        starts = range(0, len(paths), BATCH)
        rows = (range(start, min(start + BATCH, len(paths))) for start in starts)
        batches = (torch.stack(list(pool.map(photographs.__getitem__, some))) for some in rows)
        return _encode(tower, model, batches, output)


def _preprocessing(tower: ImageNetwork) -> Callable[[Image.Image], Any]:
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(tower.mean, tower.std)]
    preprocessing: Callable[[Image.Image], Any] = v2.Compose([tower.transform(), *normalise])
    return preprocessing


def _encode(tower: ImageNetwork, model: Any, batches: Iterable[Any], output: Path) -> NDArray[Any]:
    found = []
    with torch.inference_mode():
        for images in batches:
            vectors, *_ = tower.vectors(model, images.to(tower.device))
            found.append(vectors.cpu().numpy())
    np.save(output, np.concatenate(found))
    return np.concatenate(found)
