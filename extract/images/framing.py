"""Cut what an encoder sees out of an image, see `cache.views`.

With Pillow alone, so that other programs can do it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from encode_once.cache.views import COPIES, View

LEAST_DECODED = 512  # pixels: so one decoded JPEG is large enough for the views of most networks
# Of the shorter side, the part that each of five crops covers: what crops of ImageNet cover.
MARGIN = 0.875


@dataclass(frozen=True)
class Framing:
    """How an image becomes squares of the network's size, in another way than the model's own.

    square: one of `views.SQUARES`. size: pixels per side. interpolation: Pillow's name of it in lower case.
    colour: of what is padded, as the network's normalisation turns it to 0.
    """

    square: str
    size: int
    interpolation: str
    colour: tuple[int, int, int]

    @property
    def shorter_side(self) -> int:
        """Pixels of the image's shorter side after resizing, or more."""
        return round(self.size / MARGIN) if self.square == "five-crops" else self.size

    @property
    def number(self) -> int:
        """How many squares there are of each image."""
        return COPIES.get(self.square, 1)

    def __str__(self) -> str:
        """Describes `squares` in the keys of features: update it whenever `squares` changes values."""
        size, resampling = self.size, f"{self.interpolation},antialias"
        if self.square == "pad":
            return f"resize(longer {size},{resampling})|pad({size}x{size},{self.colour},center)"
        if self.square == "five-crops":
            return f"resize({self.shorter_side},{resampling})|crop(corners and center,{size})"
        return f"resize({size}x{size},{resampling})"

    def squares(self, image: Image.Image) -> list[Image.Image]:
        """The squares, (size, size) each; five are upper left and right, lower left and right, centre."""
        size = self.size
        if self.square == "pad":
            width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
            resized = image.resize((width, height), self._filter)
            canvas = Image.new("RGB", (size, size), self.colour)
            canvas.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
            return [canvas]
        if self.square == "five-crops":
            side, width, height = self.shorter_side, *image.size
            shape = (side, side * height // width) if width <= height else (side * width // height, side)
            resized = image.resize(shape, self._filter)
            right, lower = resized.width - size, resized.height - size
            corners = [(0, 0), (right, 0), (0, lower), (right, lower), (right // 2, lower // 2)]
            return [resized.crop((left, top, left + size, top + size)) for left, top in corners]
        return [image.resize((size, size), self._filter)]

    @property
    def _filter(self) -> Image.Resampling:
        return Image.Resampling[self.interpolation.upper()]


def framing(view: View, size: int, interpolation: str, mean: Sequence[float]) -> Framing | None:
    """How a view makes squares of that size; None if the model's own way does.

    mean: of pixels / 255, as the network's normalisation has it.
    """
    if not view.square:
        return None
    red, green, blue = (round(255 * value) for value in mean)
    return Framing(view.square, size, interpolation, (red, green, blue))


def decoded_side(view: View, frame: Framing | None, own: int) -> int:
    """Pixels of the shorter side for which `decode` chooses the scale of a JPEG.

    It is the same for most views, so that an image is decoded once for all of them, large enough for the
    largest. It does not depend on which views are encoded together, because vectors depend on it.

    own: that of the model's own way, which is kept without a view.
    """
    if not view:
        return own
    side = LEAST_DECODED
    while side < (frame.shorter_side if frame else own):
        side *= 2
    return side
