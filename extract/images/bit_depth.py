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
MAX_SAMPLE_VALUE, DESCRIPTION = 281, 270  # tags of TIFF
LEAST = 8


@dataclass(frozen=True)
class _Depth:
    bits: int  # that the largest value needs, or that the file says
    is_stated: bool
    largest: int


def common_bit_depth(paths: Sequence[str], workers: int) -> tuple[int, list[str]]:
    """The bits that hold the largest value of all 16-bit grey images, or that their files say they hold.

    One depth for all keeps a dark image darker than a bright one.

    Returns:
        The number of bits, and a warning if it is not that of the format; 16 if there are no such images.
    """
    step = max(1, len(paths) // SAMPLE)
    if not any(_each(_depth, paths[::step], workers)):
        return FULL_DEPTH, []
    depths = [depth for depth in _each(_depth, paths, workers) if depth]
    bits = max(LEAST, *(depth.bits for depth in depths))
    if bits == FULL_DEPTH:
        return bits, []
    stated = sum(depth.is_stated for depth in depths)
    largest = max(depth.largest for depth in depths)
    evidence = "as their files say" if stated == len(depths) else f"their largest value is {largest:,}"
    return bits, [
        f"16-bit images: {len(depths)}, of which {bits} bits are used, {evidence}; --bit-depth {FULL_DEPTH} "
        "reads them as using all"
    ]


def _each(
    function: Callable[[str], _Depth | None], paths: Sequence[str], workers: int
) -> list[_Depth | None]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, paths))


def _depth(path: str) -> _Depth | None:
    """The depth of a 16-bit grey image; None of any other, and of a file that cannot be decoded."""
    try:
        content = read_file(path)
        with opened(content) as image:
            if not is_deep(image):
                return None
            stated = _stated(content, image)
            image.load()
            largest = int(np.asarray(image).max())
    except Exception:  # `decode` reports it
        return None
    return _Depth(max(largest.bit_length(), stated or 0), stated is not None, largest)


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
