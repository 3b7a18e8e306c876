"""The base class of towers that are torch networks on images: uint8 pixels in, vectors out."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from encode_once.cache import Spec, UsageError
from encode_once.cache.names import REGIONS
from encode_once.cache.views import View
from encode_once.extract.encoders import runtime
from encode_once.extract.encoders.base import SEED, Options, Texts, Tower, Vectors
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.images.framing import Framing

GRID = 4  # regions per side
CHANNELS = 3


class ImageNetwork(Tower):
    """A tower that is a torch model on images of one size.

    Subclasses define the transform from an image to pixels, the model, and how to get vectors from it.
    """

    modality = "image"
    parallel = True
    casts = True
    backend = "torch"
    cpu_batch = 4  # larger batches do not fit into a core's cache

    def __init__(
        self,
        specs: Mapping[str, Spec],
        options: Options,
        shorter_side: int,
        mean: Sequence[float],
        std: Sequence[float],
        framing: Framing | None = None,
    ) -> None:
        """`shorter_side` is in pixels, after resizing; pixels / 255 are normalised by `mean` and `std`.

        framing: replaces the transform if the options name a view that cuts squares in another way.
        """
        self.view, self.framing = options.view, framing
        if self.view.square and framing is None:
            raise UsageError(f"view {self.view}: this encoder cuts its own squares only")
        super().__init__({output: {**spec, **of_view(self.view, output)} for output, spec in specs.items()})
        self.shorter_side = shorter_side
        self.options, self.mean, self.std = options, mean, std

    @abstractmethod
    def build_model(self) -> Any:
        """The torch model.

        Raises:
            WeightsError: its weights cannot be loaded.
        """

    @abstractmethod
    def transform(self) -> Callable[[Image], Any]:
        """A function from an image to its pixels, a uint8 tensor (3, h, w)."""

    def view_transform(self) -> Callable[[Image], Any]:
        """The same for the view: `transform`, unless the view makes squares in another way."""
        return self._framed if self.framing else self.transform()

    @abstractmethod
    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        """Normalised images (b, 3, h, w) → a tensor for each output, (b, d) or (b, length, d)."""

    def network(self, model: Any = None) -> Any:
        """The torch network from pixels (b, 3, h, w) uint8 to a tensor for each output.

        Args:
            model: on its device, with weights in its precision; by default a new one, on the CPU.

        Raises:
            WeightsError: its weights cannot be loaded.
        """
        import torch
        from torchvision.transforms import v2

        normalise = torch.nn.Sequential(
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)
        )
        network: Any = torch.nn.Module()
        network.model = self.build_model() if model is None else model
        dtype = next(network.model.parameters()).dtype
        network.forward = lambda pixels: self._averaged(
            network.model, [normalise(square).to(dtype) for square in self._split(pixels)]
        )
        return network.eval()

    def _split(self, pixels: Any) -> Sequence[Any]:
        """The squares of each image, (b, 3, h, w) each."""
        several = self.framing is not None and self.framing.number > 1
        return pixels.split(CHANNELS, dim=1) if several else [pixels]

    def _averaged(self, model: Any, squares: Sequence[Any]) -> tuple[Any, ...]:
        """Normalised squares of the same images, (b, 3, h, w) each → a tensor for each output.

        Vectors are averaged. Regions are averaged with those of the mirror image only, in the order of the
        image's own; those of several squares follow each other.
        """
        parts = [self._with_mirrored(model, square) for square in squares]
        if len(parts) == 1:
            return parts[0]
        import torch

        return tuple(
            torch.cat(tensors, dim=1) if output == REGIONS else sum(tensors) / len(tensors)
            for output, *tensors in zip(self.specs, *parts, strict=True)
        )

    def _with_mirrored(self, model: Any, images: Any) -> tuple[Any, ...]:
        outputs = self.vectors(model, images)
        if not self.view.flip:
            return outputs
        mirrored = self.vectors(model, images.flip(-1))
        return tuple(
            (ours + (_mirrored_back(theirs) if output == REGIONS else theirs)) / 2
            for output, ours, theirs in zip(self.specs, outputs, mirrored, strict=True)
        )

    def load(self, device: str) -> None:
        import torch
        from PIL.Image import new

        self.device = device
        self._to_pixels = self.view_transform()
        # channels_last: twice as fast for convolutions on a CPU
        network = self.network().to(device, memory_format=torch.channels_last)
        self.model, run = network.model, self._compiled(network)
        grey = self.prepare(new("RGB", (self.shorter_side or 1,) * 2, "grey"))
        self.size = grey.shape[1:]  # (h, w)
        if self.view.size not in (None, *self.size):
            raise UsageError(f"view {self.view}: this encoder takes {self.size[0]} pixels only")
        generator = torch.Generator().manual_seed(SEED)
        shape = self.cpu_batch, *grey.shape
        noise = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
        with torch.inference_mode():
            if self.view.size:
                with weights_errors(f"the network does not take images of {self.view.size} pixels"):
                    network(noise[:1])
            self._run, self.backend = runtime.choose(
                network,
                run,
                noise,
                replace(self.options, precision=self.precision),
                self.expected,
                self.specs,
            )

    def cast(self) -> None:
        super().cast()
        self._run, self.backend = self._compiled(self.network(self.model)), "torch"

    def _compiled(self, network: Any) -> Any:
        import torch

        return torch.compile(network) if self.options.compiled else network

    def _framed(self, item: Image) -> Any:
        """The pixels of the view's squares, one square behind the other, uint8 (3 * squares, size, size)."""
        import torch
        from torchvision.transforms.functional import pil_to_tensor

        assert self.framing is not None
        return torch.cat([pil_to_tensor(square) for square in self.framing.squares(item)])

    def prepare(self, item: Image) -> Any:
        return self._to_pixels(item)  # (3, h, w) uint8, or (15, h, w) of five crops

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
        with torch.inference_mode(), self.arithmetic():
            return self._run(pixels)


def check_patches(module: Any, size: int) -> None:
    """Raise if images of size × size pixels are not made of whole patches of a module, if it has patches.

    Raises:
        UsageError: the message names the closest size.
    """
    patch = getattr(module, "patch_size", None)
    patch = patch if isinstance(patch, int) or patch is None else patch[0]
    if patch and size % patch:
        near = max(1, round(size / patch)) * patch
        raise UsageError(
            f"view of {size} pixels: the network has patches of {patch}; use a multiple, as {near}"
        )


def of_view(view: View, output: str) -> Spec:
    """What an output's spec says of a view; nothing of the model's own."""
    if not view:
        return {}
    several = "one after the other" if output == REGIONS else "averaged"
    squares = ["5 crops, " + several] if view.square == "five-crops" else []
    mirrored = ["averaged with the mirror image"] if view.flip else []
    combined = {"squares": "; ".join([*squares, *mirrored])} if squares or mirrored else {}
    return {"view": str(view), **combined}


def _mirrored_back(vectors: Any) -> Any:
    """Regions of a mirror image, (b, GRID², d), in the order of the image's own."""
    return vectors.unflatten(1, (GRID, GRID)).flip(2).flatten(1, 2)


def regions(grid: Any) -> Any:
    """The means of the GRID × GRID regions of a feature map (b, d, h, w), row by row: (b, GRID², d)."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2)
