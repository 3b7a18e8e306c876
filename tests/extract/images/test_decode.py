import io
import struct
import sys
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import decode, quiet_pillow, reduction
from tests.conftest import picture


def saved(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(content):
    return np.asarray(decode(content))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_common_formats_become_rgb(format):
    image = picture(0)
    decoded = decode(saved(image, format))
    assert decoded.mode == "RGB"
    assert decoded.size == image.size
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(image)).mean() < 25  # JPEG and GIF are lossy


def test_a_lossless_image_is_unchanged():
    np.testing.assert_array_equal(pixels(saved(picture(1), "PNG")), np.asarray(picture(1)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation):
    image = picture(2)
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[
        orientation
    ]  # as EXIF numbers Pillow's turns
    upright = image if turned is None else image.transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(saved(image, "PNG", exif=exif)), np.asarray(upright))


def test_cmyk_is_converted():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert pixels(saved(red, "TIFF"))[0, 0].tolist() == [255, 0, 0]


def test_a_palette_is_looked_up():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert pixels(saved(image, "PNG"))[0, 0].tolist() == [10, 200, 30]


def test_sixteen_bits_keep_their_high_eight():
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(ramp), "PNG"))[..., 0], ramp >> 8)


def test_heic_is_decoded_with_the_extra_and_named_without_it(monkeypatch):
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(36)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"HEIC needs: pip install 'encode-once\[heic\]'") as caught:
        decode(content)
    assert caught.value.reason == "unsupported"
    monkeypatch.undo()
    pillow_heif = pytest.importorskip("pillow_heif")
    with pytest.raises(InputError) as caught:
        decode(content)
    assert caught.value.reason == "corrupt"
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture(1)).save(buffer, quality=95)
    assert np.abs(pixels(buffer.getvalue()).astype(int) - np.asarray(picture(1))).mean() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    if mode == "P":
        indexed = Image.new("P", (8, 8), 3)
        indexed.putpalette([0, 0, 0] * 4)
        content = saved(indexed, "PNG", transparency=3)
    else:
        content = saved(image.convert(mode), "PNG")
    assert (pixels(content) == 255).all()


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(content)[0, 0].tolist() == [255, 0, 0]


def test_an_image_of_one_pixel_is_decoded():
    assert decode(saved(Image.new("RGB", (1, 1), "red"), "PNG")).size == (1, 1)


def huge_png(width, height):
    """A PNG's header and a little data: the beginning of a decompression bomb."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
        + chunk(b"IEND", b"")
    )


JPEG = saved(picture(3, (200, 150)), "JPEG")
PNG = saved(picture(3, (200, 150)), "PNG")
BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"<html>not found</html>", "not-an-image"),
    "cut jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "cut png": (PNG[: len(PNG) // 2], "truncated"),
    "flipped png": (PNG[:200] + bytes([PNG[200] ^ 255]) + PNG[201:], "corrupt"),
    "huge": (huge_png(30_000, 30_000), "too-large"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image"),
    "float": (saved(Image.new("F", (4, 4), 0.5), "TIFF"), "unsupported"),
    "a thread": (saved(Image.new("RGB", (2, 4000)), "PNG"), "too-narrow"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_fail_with_a_typed_reason(name):
    content, reason = BROKEN[name]
    with pytest.raises(InputError) as caught:
        decode(content)
    assert caught.value.reason == reason
    assert str(caught.value)


def test_an_image_that_does_not_fit_into_memory_fails_alone(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", exhausted)
    with pytest.raises(InputError, match="fewer --workers") as caught:
        decode(saved(Image.new("L", (4, 4)), "PNG"))
    assert caught.value.reason == "out-of-memory"


def test_warnings_of_pillow_are_not_shown(recwarn):
    tiff = saved(picture(3, (20, 15)), "TIFF")
    with quiet_pillow():
        for place in range(8, 208):  # the tags
            with suppress(InputError):
                decode(tiff[:place] + b"\xff" + tiff[place + 1 :])
    assert not recwarn.list


@given(st.integers(0, len(JPEG) - 1), st.integers(1, 255), st.booleans())
def test_any_damaged_file_gives_an_image_or_a_reason(place, change, png):
    content = bytearray(PNG if png else JPEG)
    place %= len(content)
    content[place] ^= change
    try:
        assert decode(bytes(content)).mode == "RGB"
    except InputError as error:
        assert error.reason in {
            "not-an-image",
            "truncated",
            "corrupt",
            "too-large",
            "too-narrow",
            "unsupported",
        }


# --- large JPEGs


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600))
def test_a_jpeg_is_reduced_while_twice_the_requested_pixels_remain(width, height, needed):
    if max(width, height) > 256 * min(width, height):
        return
    content = saved(Image.new("RGB", (width, height)), "JPEG")
    by = reduction(content, needed)
    assert by == max([1, *(by for by in (2, 4, 8) if min(width, height) // by >= 2 * needed)])
    assert decode(content, needed).size == (-(-width // by), -(-height // by))


def test_a_reduced_image_looks_the_same_at_the_requested_size():
    large = Image.new("RGB", (4 * 500, 4 * 400))
    for row in range(4):
        for column in range(4):
            large.paste(picture(4 * row + column, (500, 400)), (500 * column, 400 * row))
    content = saved(large, "JPEG", quality=92)
    assert reduction(content, 224) == 2
    assert reduction(content, 100) == 8
    for needed in (224, 100):
        size = needed * 5 // 4, needed
        small, whole = (
            np.asarray(image.resize(size, Image.Resampling.BICUBIC), float).ravel()
            for image in (decode(content, needed), decode(content))
        )
        assert small @ whole / np.linalg.norm(small) / np.linalg.norm(whole) > 0.9999
        assert np.abs(small - whole).mean() < 1


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP"])
def test_other_formats_and_small_jpegs_are_never_reduced(format):
    assert reduction(saved(Image.new("RGB", (1000, 1000)), format), 10) == 1
    content = saved(picture(3, (640, 427)), "JPEG")
    assert reduction(content, 224) == 1
    np.testing.assert_array_equal(np.asarray(decode(content, 224)), np.asarray(decode(content)))


def test_a_reduced_image_is_turned_upright_and_converted_to_rgb():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(Image.new("L", (800, 400)), "JPEG", exif=exif), 50).size == (100, 200)
    assert decode(saved(Image.new("CMYK", (800, 800)), "JPEG"), 50).mode == "RGB"


def test_a_file_that_is_no_image_is_not_reduced():
    assert reduction(b"", 10) == reduction(b"no image", 10) == 1
