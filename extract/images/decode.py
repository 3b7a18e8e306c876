"""Decode untrusted images to RGB pixels, or report a typed error."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from encode_once.extract.errors import InputError
from encode_once.extract.images.formats import FORMATS, FULL_DEPTH, HEIF, HEIF_BRANDS

MAX_PIXELS = 2 * 89_478_485  # Pillow's own limit; it warns at half of it
MAX_ASPECT = 256  # a narrower image would be huge after its shorter side is resized

REDUCTIONS = (8, 4, 2)  # factors by which the JPEG decoder can downscale, which is much faster

# Describes `decode` in the keys of features: update it whenever `decode` changes values.
DECODING = "decode|exif_transpose|first_frame|16bit>>8|alpha_over_white|rgb"


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress Pillow's warnings: of large photos, between half of MAX_PIXELS and MAX_PIXELS, and of damage.

    They name no file, and what matters is an `InputError`.

    Warning filters belong to the process: enter this around the threads that decode, not in each of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decoding(shorter_side: int) -> str:
    """Describes `decode` for images that are then resized to that shorter side."""
    return f"{DECODING}|a JPEG at 1/2, 1/4 or 1/8 if that is >= 2 * {shorter_side}"


def decode(content: bytes, shorter_side: int | None = None, bit_depth: int = FULL_DEPTH) -> Image.Image:
    """Decode an image to 8-bit RGB, upright, alpha over white; the first frame of an animation.

    Args:
        shorter_side: pixels that the image will be resized to. A JPEG whose shorter side at 1/2, 1/4 or 1/8
            is still at least twice that is decoded at this scale: several times faster, with nearly the same
            result.
        bit_depth: bits that a 16-bit grey image uses; the highest 8 of these are kept.

    Raises:
        InputError: with reason "empty", "not-an-image", "too-large", "too-narrow", "truncated",
            "corrupt", "unsupported" or "out-of-memory".
    """
    if not content:
        raise InputError("empty", "the file has no bytes")
    with _input_errors(), opened(content) as image:
        reduction = _reduction(image, shorter_side)
        if reduction > 1:
            image.draft(None, (image.width // reduction, image.height // reduction))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _flat_rgb(image, bit_depth)


def to_rgb(image: Image.Image, bit_depth: int = FULL_DEPTH) -> Image.Image:
    """Convert an image that is open already as `decode` does, but in its own size; it is not changed.

    Raises:
        InputError: as `decode`.
    """
    with _input_errors():
        _check_size(image)
        return _flat_rgb(ImageOps.exif_transpose(image), bit_depth)


@contextmanager
def _input_errors() -> Iterator[None]:
    """Turn any error of a decoder into an InputError."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("not-an-image", f"not one of {', '.join(FORMATS)}, {HEIF}") from error
    except Image.DecompressionBombError as error:
        raise InputError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise InputError("out-of-memory", "decoding it takes too much; use fewer --workers") from error
    except Exception as error:  # decoders may raise anything for damaged bytes
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        raise InputError(
            "truncated" if truncated else "corrupt", str(error) or type(error).__name__
        ) from error


def opened(content: bytes) -> Image.Image:
    """Open an image of acceptable size, without reading its pixels.

    Raises:
        InputError: it is too large or too narrow, or its format needs an extra.
        Exception: Pillow's own, of any class.
    """
    image = _open(content)
    _check_size(image)
    return image


def _check_size(image: Image.Image) -> None:
    size = f"{image.width} × {image.height} pixels"
    if image.width * image.height > MAX_PIXELS:
        raise InputError("too-large", f"{size}; at most {MAX_PIXELS:,} in all")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise InputError("too-narrow", f"{size}; at most {MAX_ASPECT}:1")


def _open(content: bytes) -> Image.Image:
    if content[4:8] != b"ftyp" or content[8:12] not in HEIF_BRANDS or b"avi" in content[12:32]:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError("unsupported", f"{HEIF} needs: pip install 'encode-once[heic]'") from error
    return cast("Image.Image", HeifImageFile(io.BytesIO(content)))


def is_deep(image: Image.Image) -> bool:
    """Whether it is a grey image of 16 bits or more per pixel."""
    return image.mode.startswith("I")


def reduction(content: bytes, shorter_side: int | None) -> int:
    """The factor by which `decode` downscales the image: 1, 2, 4 or 8; 1 if it cannot be decoded.

    Towers with the same factor can share a decoded image.
    """
    try:
        with _open(content) as image:
            return _reduction(image, shorter_side)
    except Exception:  # `decode` reports the error
        return 1


def _reduction(image: Image.Image, shorter_side: int | None) -> int:
    if image.format != "JPEG" or shorter_side is None:
        return 1
    return next((factor for factor in REDUCTIONS if min(image.size) // factor >= 2 * shorter_side), 1)


def _flat_rgb(image: Image.Image, bit_depth: int) -> Image.Image:
    if is_deep(image):  # Pillow's own conversion would clip values above 255
        eight_bits = np.clip(np.asarray(image).astype(np.int64) >> (bit_depth - 8), 0, 255).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    if image.mode == "F":
        raise InputError(
            "unsupported", "floating-point pixels have no defined range: save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
