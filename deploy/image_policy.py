"""How a tower resizes and crops images, in words that another program can follow with Pillow."""

from typing import Any

from encode_once.cache import DataError
from encode_once.extract.encoders.base import Tower
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.encoders.onnx import OnnxImages
from encode_once.extract.images.framing import Framing

CONVERSIONS = ("MaybeConvertMode", "MaybePILToTensor", "PILToTensor")  # change no value


def image_policy(tower: Tower) -> dict[str, Any]:
    """What `predict_script.pixels` needs to make the pixels that a tower takes.

    jpeg_side: a JPEG is decoded at 1/8, 1/4 or 1/2 if its shorter side then has at least twice as many
    pixels; None: never. bit_depth: of 16-bit grey images. shorter_side: the image is resized so that its
    shorter side has that many pixels, and the longer side is rounded down; if None, it is resized to
    `resize_to`, (height, width). crop: the (height, width) of what is cut from the middle; with `corners`,
    from the corners, too. pad: the image is resized so that its longer side is that of the crop, and put in
    the middle of one of this colour, (red, green, blue).

    Raises:
        DataError: its steps are others; the message is the reason only.
    """
    decoding = {"jpeg_side": tower.shorter_side, "bit_depth": tower.bit_depth}
    if isinstance(tower, ImageNetwork | OnnxImages) and tower.framing:
        return decoding | _framed(tower.framing)
    if isinstance(tower, OnnxImages):
        assert tower.network_file is not None
        return decoding | _resized([tower.resized_side], "bilinear", [tower.network_file.size] * 2)
    assert isinstance(tower, ImageNetwork)
    transform: Any = tower.transform()
    steps = [step for step in transform.transforms if type(step).__name__ not in CONVERSIONS]
    names = [type(step).__name__ for step in steps]
    if names not in (["Resize"], ["Resize", "CenterCrop"]):
        raise DataError(f"its images are prepared by {', '.join(names)}")
    size, crop = (_sizes(step.size) for step in (steps[0], steps[-1]))
    if len(crop) != 2 or crop[0] > size[0] or crop[-1] > size[-1]:
        raise DataError("its images are padded")
    return decoding | _resized(size, steps[0].interpolation.value, crop)


def _framed(framing: Framing) -> dict[str, Any]:
    """The policy of a view that makes squares in its own way."""
    square = [framing.size] * 2
    size = [framing.shorter_side] if framing.square == "five-crops" else square
    special: dict[str, dict[str, Any]] = {"five-crops": {"corners": True}, "pad": {"pad": framing.colour}}
    return _resized(size, framing.interpolation, square) | special.get(framing.square, {})


def _resized(size: list[int], interpolation: str, crop: list[int]) -> dict[str, Any]:
    shorter, both = (size[0], None) if len(size) == 1 else (None, size)
    return {"shorter_side": shorter, "resize_to": both, "interpolation": interpolation, "crop": crop}


def _sizes(size: int | list[int] | tuple[int, ...]) -> list[int]:
    return [size] if isinstance(size, int) else [*size]
