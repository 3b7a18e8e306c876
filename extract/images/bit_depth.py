"""How many bits 16-bit images really use: many cameras and scanners fill only 10 or 12 of them."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from encode_once.extract.images.decode import is_deep, opened
from encode_once.extract.images.formats import FULL_DEPTH
from encode_once.extract.images.hashing import read_file

SAMPLE = 64  # images; data none of whose sample is a 16-bit image is taken to have none
SIGNIFICANT_BITS = re.compile(r'SignificantBits="(\d{1,2})"')  # in OME-TIFF's description
MAX_SAMPLE_VALUE, DESCRIPTION, BITS_PER_SAMPLE = 281, 270, 258  # tags of TIFF
PNG_RGB = 2  # the colour type in a PNG's header
LEAST = 8
DARK = 12  # bits of colour images that are nearly black if read as 16


@dataclass(frozen=True)
class _Depth:
    bits: int  # that the largest value needs, or that the file says
    is_stated: bool
    largest: int
    is_colour: bool


def common_bit_depth(paths: Sequence[str], workers: int) -> tuple[int, list[str]]:
    """The bits that hold the largest value of all 16-bit grey images, or that their files say they hold.

    One depth for all keeps a dark image darker than a bright one. Of colour images, only the high 8 bits can
    be read: if these are nearly black, that is reported.

    Returns:
        The number of bits, 16 if there are no such images; and warnings.
    """
    step = max(1, len(paths) // SAMPLE)
    if not any(_each(_depth, paths[::step], workers)):
        return FULL_DEPTH, []
    depths = [depth for depth in _each(_depth, paths, workers) if depth]
    grey, colour = ([depth for depth in depths if depth.is_colour == kind] for kind in (False, True))
    warnings = []
    bits = max((depth.bits for depth in grey), default=FULL_DEPTH)
    bits = max(LEAST, bits)
    if bits != FULL_DEPTH:
        stated = all(depth.is_stated for depth in grey)
        largest = max(depth.largest for depth in grey)
        evidence = "as their files say" if stated else f"their largest value is {largest:,}"
        warnings.append(
            f"16-bit images: {len(grey)}, of which {bits} bits are used, {evidence}; "
            f"--bit-depth {FULL_DEPTH} reads them as using all"
        )
    darkest = max((depth.bits for depth in colour), default=FULL_DEPTH)
    if darkest <= DARK:
        warnings.append(
            f"colour images of 16 bits: {len(colour)}, which use {darkest} bits or fewer, and of which the "
            "high 8 are read: they are nearly black; save them with 8 bits, or scaled to 16"
        )
    return bits, warnings


def _each(
    function: Callable[[str], _Depth | None], paths: Sequence[str], workers: int
) -> list[_Depth | None]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, paths))


def _depth(path: str) -> _Depth | None:
    """The depth of a 16-bit image; None of any other, and of a file that cannot be decoded."""
    try:
        content = read_file(path)
        with opened(content) as image:
            is_colour = _is_deep_colour(content, image)
            if not is_colour and not is_deep(image):
                return None
            stated = None if is_colour else _stated(content, image)
            image.load()
            largest = int(np.asarray(image).max())
    except Exception:  # `decode` reports it
        return None
    if is_colour:
        largest = ((largest + 1) << (FULL_DEPTH - 8)) - 1
    return _Depth(max(largest.bit_length(), stated or 0), stated is not None, largest, is_colour)


def _is_deep_colour(content: bytes, image: Image.Image) -> bool:
    """Whether it is a colour image of 16 bits per channel, of which Pillow reads the high 8."""
    if image.format == "PNG":
        return content[24] == FULL_DEPTH and content[25] == PNG_RGB
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE) == (FULL_DEPTH,) * 3


def _stated(content: bytes, image: Image.Image) -> int | None:
    """The number of bits that the file says its pixels use."""
    if image.format == "PNG":
        header = content[: content.find(b"IDAT")]
        place = header.find(b"sBIT")
        return header[place + 4] if place >= 0 and place + 4 < len(header) else None
    tags = getattr(image, "tag_v2", {})
    if value := tags.get(MAX_SAMPLE_VALUE):
        return int(max(value) if isinstance(value, tuple) else value).bit_length()
    significant = SIGNIFICANT_BITS.search(str(tags.get(DESCRIPTION, "")))
    return int(significant[1]) if significant else None
