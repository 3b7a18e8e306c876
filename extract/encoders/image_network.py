"""The base class of towers that are torch networks on images: uint8 pixels in, vectors out."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL.Image import Image

from encode_once.cache import Spec
from encode_once.extract.encoders import runtime
from encode_once.extract.encoders.base import SEED, Options, Texts, Tower, Vectors, arithmetic

GRID = 4  # regions per side


class ImageNetwork(Tower):
    """A tower that is a torch model on images of one size.

    Subclasses define the transform from an image to pixels, the model, and how to get vectors from it.
    """

    modality = "image"
    parallel = True
    cpu_batch = 4  # larger batches do not fit into a core's cache

    def __init__(
        self,
        specs: Mapping[str, Spec],
        options: Options,
        shorter_side: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """`shorter_side` is in pixels, after resizing; pixels / 255 are normalised by `mean` and `std`."""
        super().__init__(specs)
        self.shorter_side = shorter_side
        self.options, self.mean, self.std = options, mean, std
        self.backend = "torch"

    @abstractmethod
    def build_model(self) -> Any:
        """The torch model.

        Raises:
            WeightsError: its weights cannot be loaded.
        """

    @abstractmethod
    def transform(self) -> Callable[[Image], Any]:
        """A function from an image to its pixels, a uint8 tensor (3, h, w)."""

    @abstractmethod
    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        """Normalised images (b, 3, h, w) → a tensor for each output, (b, d) or (b, length, d)."""

    def network(self) -> Any:
        """The torch network from pixels (b, 3, h, w) uint8 to a tensor for each output, on the CPU.

        Raises:
            WeightsError: its weights cannot be loaded.
        """
        import torch
        from torchvision.transforms import v2

        normalise = torch.nn.Sequential(
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)
        )
        network: Any = torch.nn.Module()
        network.model = self.build_model()
        network.forward = lambda pixels: self.vectors(network.model, normalise(pixels))
        return network.eval()

    def load(self, device: str) -> None:
        import torch
        from PIL.Image import new

        self.device = device
        self._to_pixels = self.transform()
        # channels_last: twice as fast for convolutions on a CPU
        network = self.network().to(device, memory_format=torch.channels_last)
        run = torch.compile(network) if self.options.compiled else network
        grey = self.prepare(new("RGB", (self.shorter_side or 1,) * 2, "grey"))
        self.size = grey.shape[1:]  # (h, w)
        generator = torch.Generator().manual_seed(SEED)
        shape = self.cpu_batch, *grey.shape
        noise = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
        with torch.inference_mode():
            self._run, self.backend = runtime.choose(
                network, run, noise, self.options, self.expected, self.specs
            )

    def provenance(self) -> dict[str, str]:
        return super().provenance() | {"backend": self.backend}

    def prepare(self, item: Image) -> Any:
        return self._to_pixels(item)  # (3, h, w) uint8

    def encode(self, batch: Sequence[Any]) -> Mapping[str, Vectors | Texts]:
        arrays = (tensor.float().cpu().numpy() for tensor in self.compute(batch))
        return dict(zip(self.specs, arrays, strict=True))

    def compute(self, batch: Sequence[Any]) -> tuple[Any, ...]:
        """Pixels → a tensor for each output, on the device."""
        import torch

        pixels = torch.stack(list(batch))
        if self.device.startswith("cuda"):
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        pixels = pixels.to(memory_format=torch.channels_last)
        with torch.inference_mode(), arithmetic(self.device, self.options.precision):
            return self._run(pixels)


def regions(grid: Any) -> Any:
    """The means of the GRID × GRID regions of a feature map (b, d, h, w), row by row: (b, GRID², d)."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2)
