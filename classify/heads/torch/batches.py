"""The batches of an epoch: random rows, read by blocks from a large matrix, so that reading is sequential."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from encode_once.classify.arrays import PartialLabels
from encode_once.classify.data.matrix import MatrixLike, RowView, chunks, is_large
from encode_once.classify.device import on_device

# Numbers that are stored next to each other and read together: 64 KiB as float16, from which on disks read
# random blocks nearly as fast as all in sequence.
BLOCK = 2**15
# Numbers of the blocks whose rows are shuffled together, 128 MiB as float32: of 768 columns, 1,000 blocks.
BUFFER = 2**25


def fill(tensor: Tensor, X: MatrixLike | PartialLabels) -> Tensor:
    """The tensor (n, d), filled with X chunk by chunk."""
    for part in chunks(*X.shape):
        tensor[part] = torch.as_tensor(X[part])
    return tensor


def fits_on(device: torch.device, X: MatrixLike | PartialLabels) -> bool:
    """Whether the device is a GPU of which X, as float32, takes less than half of the free memory."""
    return device.type == "cuda" and 4 * math.prod(X.shape) < torch.cuda.mem_get_info(device)[0] / 2


def gatherer(X: MatrixLike | PartialLabels, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from row indices (m,) on the device to these rows of X as float32 on the device.

    A GPU holds all of X if that fits; otherwise each call reads X.
    """
    if fits_on(device, X):
        return fill(torch.empty(X.shape, device=device), X).__getitem__
    return lambda rows: on_device(X[rows.cpu().numpy()], device)


@dataclass(frozen=True)
class Batches:
    """Rows X (n, d) and labels Y (n, c) in so many batches an epoch, shuffled for each epoch.

    Random numbers are torch's.
    """

    X: MatrixLike
    Y: PartialLabels
    number: int
    device: torch.device

    def epochs(self) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        """The batches of one epoch after the other, as float32 on the device."""
        by_blocks = is_large(self.X) and not fits_on(self.device, self.X)
        features, labels = gatherer(self.X, self.device), gatherer(self.Y, self.device)
        while True:
            if by_blocks:
                yield self._by_blocks()
            else:
                rows = torch.randperm(len(self.X), device=self.device)
                batches = torch.tensor_split(rows, self.number)
                yield ((features(batch), labels(batch)) for batch in batches)

    def _by_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of consecutive rows in random order; of each buffer of blocks, the rows in random order."""
        n, d = self.X.shape
        size = max(BLOCK // d, 1)
        blocks = torch.randperm(-(-n // size))
        rows = (size * blocks[:, None] + torch.arange(size)).flatten()
        batches = torch.tensor_split(rows[rows < n], self.number)
        step = max(BUFFER // (d * len(batches[0])), 1)
        for first in range(0, self.number, step):
            in_buffer = batches[first : first + step]
            stored = torch.cat(in_buffer).sort().values.numpy()
            features = fill(torch.empty(len(stored), d), RowView(self.X, stored))
            labels = torch.as_tensor(self.Y[stored], dtype=torch.float32)
            shuffled = torch.randperm(len(stored))
            for places in torch.split(shuffled, [*map(len, in_buffer)]):
                yield features[places].to(self.device), labels[places].to(self.device)
