"""Decoding images that anyone may have sent: to RGB pixels, or to a typed reason why not."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from encode_once.extract.errors import InputError

# Pillow tells a format by its first bytes and knows over forty; only these are let in. EPS would start
# Ghostscript, others have had decompression bombs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 2 * 89_478_485  # where Pillow itself refuses; at half of it, it warns
MAX_ASPECT = 256  # resized to a model's shorter side, a narrower picture would have no end

REDUCTIONS = (8, 4, 2)  # by which a JPEG can be reduced while it is decoded, at a fraction of the time

# What `decode` does, for the keys of features: a change of it changes their values.
DECODING = "decode|exif_transpose|first_frame|16bit>>8|alpha_over_white|rgb"


@contextmanager
def large_photos() -> Iterator[None]:
    """Without Pillow's warning of pictures between half of MAX_PIXELS and all: they are large photos.

    Warning filters are the process's: enter it around the threads that decode, not in each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decoding(shorter_side: int) -> str:
    """What `decode` does for whoever resizes pictures to that shorter side."""
    return f"{DECODING}|a JPEG at 1/2, 1/4 or 1/8 if that is >= 2 * {shorter_side}"


def decode(content: bytes, shorter_side: int | None = None) -> Image.Image:
    """The picture in `content`, upright, 8-bit RGB; of an animation the first frame, alpha laid over white.

    Args:
        shorter_side: what it will be resized to. A JPEG so large that 1/2, 1/4 or 1/8 of it still has twice
            as many pixels is decoded at that scale: the resized picture is nearly the same, several times
            sooner.

    Raises:
        InputError: with reason "empty", "not-an-image", "too-large", "too-narrow", "truncated",
            "corrupt" or "unsupported".
    """
    if not content:
        raise InputError("empty", "the file has no bytes")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            size = f"{image.width} × {image.height} pixels"
            if image.width * image.height > MAX_PIXELS:
                raise InputError("too-large", f"{size}; at most {MAX_PIXELS:,} in all")
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise InputError("too-narrow", f"{size}; at most {MAX_ASPECT}:1")
            reduction = _reduction(image, shorter_side)
            if reduction > 1:
                image.draft(None, (image.width // reduction, image.height // reduction))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("not-an-image", f"none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise InputError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except (
        Exception
    ) as error:  # a decoder fed broken bytes may raise anything; one image must not end the run
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        raise InputError(
            "truncated" if truncated else "corrupt", str(error) or type(error).__name__
        ) from error


def reduction(content: bytes, shorter_side: int | None) -> int:
    """By how much `decode` reduces that picture: 1, 2, 4 or 8; 1 where it cannot be told.

    Towers for which it is the same get the same picture.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _reduction(image, shorter_side)
    except Exception:  # `decode` says what is wrong with it
        return 1


def _reduction(image: Image.Image, shorter_side: int | None) -> int:
    if image.format != "JPEG" or shorter_side is None:
        return 1
    return next((by for by in REDUCTIONS if min(image.size) // by >= 2 * shorter_side), 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would cut off all above 255
        eight_bits = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
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
