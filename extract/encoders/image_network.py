"""Torch networks of square images, as every family of them runs: pixels go in as bytes, vectors come out."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL.Image import Image

from encode_once.cache import Spec
from encode_once.extract.encoders import runtime as backends
from encode_once.extract.encoders.base import SEED, Options, Texts, Tower, Vectors, arithmetic

GRID = 4  # regions a side


class ImageNetwork(Tower):
    """A tower whose vectors a torch model computes of images of one size.

    A family says how to make pixels of a picture, to build the model, and to read its vectors.
    """

    modality = "image"
    parallel = True
    cpu_batch = 4  # more only falls out of a core's cache

    def __init__(
        self,
        specs: Mapping[str, Spec],
        options: Options,
        shorter_side: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """`shorter_side` is that of the resized picture; pixels / 255 are normalised by `mean` and `std`."""
        super().__init__(specs)
        self.shorter_side = shorter_side
        self.options, self.mean, self.std = options, mean, std
        self.backend = "torch"

    @abstractmethod
    def build_model(self) -> Any:
        """The torch model.

        Raises:
            WeightsError: its weights are not to be had.
        """

    @abstractmethod
    def transform(self) -> Callable[[Image], Any]:
        """What makes a picture pixels, a uint8 tensor (3, h, w)."""

    @abstractmethod
    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        """Normalised images (b, 3, h, w) → a tensor for each of the specs, (b, d) or (b, length, d)."""

    def load(self, device: str) -> None:
        import torch
        from PIL.Image import new
        from torchvision.transforms import v2

        self.device = device
        self._to_pixels = self.transform()
        normalise = torch.nn.Sequential(
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)
        )
        network: Any = torch.nn.Module()
        network.model = self.build_model()
        network.forward = lambda pixels: self.vectors(network.model, normalise(pixels))
        # channels_last: twice as fast for convolutions on a CPU
        network = network.eval().to(device, memory_format=torch.channels_last)
        run = torch.compile(network) if self.options.compiled else network
        grey = self.prepare(new("RGB", (self.shorter_side or 1,) * 2, "grey"))
        self.size = grey.shape[1:]  # (h, w)
        generator = torch.Generator().manual_seed(SEED)
        shape = self.cpu_batch, *grey.shape
        noise = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
        with torch.inference_mode():
            self._run, self.backend = backends.choose(
                network, run, noise, self.options, self.expected, self.specs
            )

    def provenance(self) -> dict[str, str]:
        return super().provenance() | {"backend": self.backend}

    def prepare(self, item: Image) -> Any:
        return self._to_pixels(item)  # (3, h, w) uint8

    def encode(self, batch: Sequence[Any]) -> Mapping[str, Vectors | Texts]:
        found = (one.float().cpu().numpy() for one in self.compute(batch))
        return dict(zip(self.specs, found, strict=True))

    def compute(self, batch: Sequence[Any]) -> tuple[Any, ...]:
        """Pixels → a tensor for each of the specs, where the network runs."""
        import torch

        pixels = torch.stack(list(batch))
        if self.device.startswith("cuda"):
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        pixels = pixels.to(memory_format=torch.channels_last)
        with torch.inference_mode(), arithmetic(self.device, self.options.precision):
            return self._run(pixels)


def regions(grid: Any) -> Any:
    """A feature map (b, d, h, w) as the means of its GRID × GRID regions, row by row: (b, GRID², d)."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2)
