"""10 and 12 bits in 16-bit images: the depth that files say, or that the data set's largest value needs."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from encode_once.cache import SpecMismatchError, Store
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders.base import Tower
from encode_once.extract.images.bit_depth import common_bit_depth
from encode_once.extract.images.decode import decode
from tests.extract.images.test_decode import saved


def ramp(largest):
    """A 16-bit image with values from 0 to `largest`."""
    return Image.fromarray(np.linspace(0, largest, 256).round().astype(np.uint16).reshape(16, 16))


def with_significant_bits(content, bits):
    """A PNG with a chunk sBIT behind its header."""
    body = b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


@pytest.fixture
def depth(tmp_path):
    """A function that writes files and finds their common bit depth."""

    def find(*contents):
        paths = [tmp_path / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return common_bit_depth(list(map(str, paths)), 2)

    return find


@pytest.mark.parametrize(("largest", "bits"), [(100, 8), (1023, 10), (4095, 12), (4096, 13), (40_000, 16)])
def test_the_depth_is_what_the_largest_value_of_all_images_needs(depth, largest, bits):
    eight_bits = saved(Image.new("L", (4, 4), 200), "PNG")
    common, warnings = depth(eight_bits, saved(ramp(50), "PNG"), saved(ramp(largest), "TIFF"), b"broken")
    assert common == bits
    if bits == 16:
        assert warnings == []
    else:
        assert (
            f"16-bit images: 2, of which {bits} bits are used, their largest value is {largest:,};"
            in warnings[0]
        )


def test_a_file_may_say_its_depth(depth):
    png = with_significant_bits(saved(ramp(900), "PNG"), 12)
    assert decode(png).size == (16, 16)  # it still is a PNG
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    tiff = saved(ramp(900), "TIFF", tiffinfo=tags)
    ome = saved(ramp(900), "TIFF", description='<OME><Pixels SignificantBits="12"/></OME>')
    for content in (png, tiff, ome):
        bits, warnings = depth(content)
        assert bits == 12
        assert "as their files say" in warnings[0]
    assert depth(png, saved(ramp(900), "PNG"))[0] == 12
    assert depth(with_significant_bits(saved(ramp(65535), "PNG"), 12))[0] == 16  # scaled up, as PNG demands


def deep_colour(value):
    """A PNG of 16 bits per channel, all of the same value."""
    rows = b"".join(b"\0" + struct.pack(">H", value) * 3 * 4 for _ in range(4))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_colour_images_that_would_be_nearly_black_are_reported(depth):
    bits, (warning,) = depth(deep_colour(900), deep_colour(4095))
    assert bits == 16
    assert warning.startswith("colour images of 16 bits: 2, which use 12 bits or fewer")
    assert depth(deep_colour(900), deep_colour(40_000)) == (16, [])


def test_data_without_deep_images_keeps_the_default(depth):
    assert depth(saved(Image.new("RGB", (4, 4)), "JPEG")) == depth(b"broken") == depth() == (16, [])


def test_all_values_of_the_depth_are_scaled_to_eight_bits():
    pixels = np.asarray(decode(saved(ramp(4095), "PNG"), bit_depth=12))[..., 0]
    expected = np.linspace(0, 4095, 256).round() // 16
    np.testing.assert_array_equal(pixels.ravel(), expected)


class MeanGrey(Tower):
    """The mean of an image's first channel."""

    modality = "image"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "mean"}})

    def load(self, device):
        """Nothing to load."""

    def prepare(self, item):
        return np.asarray(item, np.float32)[..., 0].mean(keepdims=True)[0]

    def encode(self, batch):
        return {"mean": np.stack(batch)}


def test_an_extraction_scales_by_the_depth_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    root, store = tmp_path / "input", Store(tmp_path / "store")
    (root / "data").mkdir(parents=True)
    table = "ImageID,Labels,Caption\n"
    for number, largest in enumerate((4095, 2000)):
        ramp(largest).save(root / "data" / f"{number}.png")
        table += f"{number},a,b\n"
    (root / "train.csv").write_text(table)
    name = f"{Path(__file__).name}:MeanGrey"
    report = encode(root, [name], store, progress=False)
    assert any(re.search("12 bits are used, their largest value is 4,095", line) for line in report.warnings)
    feature = store.feature(f"{name}/mean")
    assert feature.spec["bit_depth"] == 12
    means = feature.read(store.tables()[0].image_keys)[:, 0]
    np.testing.assert_allclose(means, [np.linspace(0, 4095, 256).mean() / 16, 1000 / 16], atol=1)

    (root / "train.csv").write_text("ImageID,Labels,Caption\n2,a,b\n")
    ramp(1000).save(root / "data" / "2.png")  # alone it would be 10 bits
    encode(root, [name], store, progress=False)
    assert feature.spec["bit_depth"] == 12
    assert store.feature(f"{name}/mean").read(store.tables()[0].image_keys)[0, 0] == pytest.approx(
        500 / 16, abs=1
    )
    with pytest.raises(SpecMismatchError, match="bit_depth: stored 12"):
        encode(root, [name], store, progress=False, compute=ComputeOptions(bit_depth=16))
