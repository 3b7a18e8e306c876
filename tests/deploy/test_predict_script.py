"""The script of an exported folder prepares images and captions exactly as the encoders do."""

import io
import json
import zlib
from contextlib import suppress
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from encode_once.cache import DataError
from encode_once.classify.data.text.words import WORD, words
from encode_once.deploy import predict_script
from encode_once.deploy.caption_tokens import tokenizer_json
from encode_once.deploy.image_policy import image_policy
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import InputError
from encode_once.extract.images import decode as decoding
from encode_once.extract.images.decode import decode
from encode_once.extract.images.formats import FORMATS
from tests.conftest import examples, picture
from tests.extract.encoders.test_onnx import embedding

ORIENTATION = 0x0112  # the tag of EXIF


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def images():
    """Name → content of files of every mode and format that Pillow reads without help."""
    large = picture(1, (900, 640))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    alpha = large.convert("RGBA")
    alpha.putalpha(large.convert("L"))
    grey16 = (np.asarray(large.convert("L")).astype(np.uint16) * 211) % 4096
    palette = large.quantize(16)
    frames = [picture(seed, (70, 50)) for seed in range(3)]
    return {
        "large JPEG": saved(large, "JPEG"),
        "huge JPEG": saved(picture(2, (1800, 1900)), "JPEG", quality=60),
        "rotated JPEG": saved(large, "JPEG", exif=exif),
        "CMYK JPEG": saved(large.convert("CMYK"), "JPEG"),
        "grey JPEG": saved(large.convert("L"), "JPEG"),
        "rotated PNG": saved(large, "PNG", exif=exif),
        "PNG with alpha": saved(alpha, "PNG"),
        "grey PNG with alpha": saved(alpha.convert("LA"), "PNG"),
        "palette": saved(palette, "PNG"),
        "palette with a transparent colour": saved(palette, "PNG", transparency=3),
        "black and white": saved(large.convert("1"), "PNG"),
        "16-bit PNG": saved(Image.fromarray(grey16), "PNG"),
        "animation": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "WebP": saved(large, "WEBP"),
        "TIFF": saved(large, "TIFF"),
        "narrow": saved(picture(3, (20, 900)), "PNG"),
        "tiny": saved(picture(4, (3, 2)), "PNG"),
    }


# Shorter side or both sides, with and without a crop, bicubic and bilinear, of all three libraries.
ENCODERS = ["open_clip:ViT-B-32", "siglip-b16", "mobileclip-s1", "efficientnet-lite0", "inception-v3"]
VIEWS = ["whole-96", "pad-96", "five-crops-96-flip"]
ENCODERS += [f"efficientnet-lite0@{view}" for view in VIEWS]


@cache
def tower_of(encoder):
    weights = None if encoder.startswith("efficientnet-lite0") else "random"
    return next(tower for tower in towers(encoder, Options(weights)) if tower.modality == "image")


def assert_same_pixels(tower, content):
    tower.set_bit_depth(12)
    expected = tower.view_transform()(decode(content, tower.shorter_side, tower.bit_depth))
    array = predict_script.pixels(io.BytesIO(content), image_policy(tower))
    np.testing.assert_array_equal(array, np.asarray(expected).transpose(1, 2, 0))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pixels_are_those_of_the_encoder_for_every_kind_of_image(encoder):
    tower = tower_of(encoder)
    for content in images().values():
        assert_same_pixels(tower, content)


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from(["JPEG", "PNG"]), st.sampled_from(ENCODERS))
@examples(30)
def test_pixels_are_those_of_the_encoder_for_every_size(width, height, kind, encoder):
    if max(width, height) <= 256 * min(width, height):
        assert_same_pixels(tower_of(encoder), saved(picture(width, (width, height)), kind))


def test_pixels_of_a_file_of_an_embedding_are_those_of_its_encoder(tmp_path):
    (tower,) = towers(f"onnx:{embedding(tmp_path / 'net.onnx')}", Options())
    tower.load("cpu")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for content in images().values():
        array = predict_script.pixels(io.BytesIO(content), image_policy(tower))
        expected = tower.prepare(decode(content)).transpose(1, 2, 0)
        np.testing.assert_allclose((array / 255 - mean) / std, expected, atol=1e-5)


def test_limits_and_formats_are_those_of_extract():
    assert (*FORMATS, "HEIF") == predict_script.FORMATS
    assert predict_script.MAX_ASPECT == decoding.MAX_ASPECT
    assert decoding.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def postscript():
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


def bomb():
    """A PNG that says it has 10 gigapixels."""
    content = bytearray(saved(picture(1, (8, 8)), "PNG"))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


REFUSED = {
    "no bytes": b"",
    "no photo": b"no photo",
    "EPS": postscript(),
    "too narrow": saved(Image.new("L", (1, 30_000)), "PNG"),
    "too wide": saved(Image.new("RGB", (257, 1)), "BMP"),
    "bomb": bomb(),
    "cut JPEG": saved(picture(1, (900, 640)), "JPEG")[:900],
    "cut PNG": saved(picture(1, (90, 64)), "PNG")[:60],
    "cut WebP": saved(picture(1, (90, 64)), "WEBP")[:60],
    "floating-point TIFF": saved(Image.new("F", (9, 9)), "TIFF"),
}
ENTRY = {
    "jpeg_side": 224,
    "bit_depth": 16,
    "shorter_side": 224,
    "resize_to": None,
    "interpolation": "bicubic",
    "crop": [224, 224],
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_photos_that_extract_refuses_are_one_kind_of_error(content, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(InputError):
        decode(content)
    with pytest.raises(predict_script.PhotoError):
        predict_script.pixels(io.BytesIO(content), ENTRY)


@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP"]), st.data())
def test_damage_is_never_another_error(kind, data):
    content = bytearray(saved(picture(5, (40, 30)), kind))
    for _ in range(5):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(predict_script.PhotoError):
        assert predict_script.pixels(io.BytesIO(content), ENTRY).shape == (224, 224, 3)


def test_a_missing_file_and_no_photo_are_the_same_error(tmp_path):
    for photo in (tmp_path / "none.jpg", tmp_path, None):
        with pytest.raises(predict_script.PhotoError):
            predict_script.pixels(photo, ENTRY)


@pytest.fixture
def loaded(monkeypatch):
    """A function that makes a model with the metadata of an entry, without a graph."""

    def load(entry):
        about = {"classes": '["dog"]', "inputs": json.dumps([entry])}
        session = SimpleNamespace(get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=about))
        monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
        return predict_script.ExportedModel("model.onnx")

    return load


def test_heic_is_read_as_extract_reads_it(loaded, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(Image, "OPEN", {name: Image.OPEN[name] for name in Image.OPEN if name != "HEIF"})
    file = io.BytesIO()
    pillow_heif.from_pillow(picture(1, (300, 260))).save(file)
    with pytest.raises(predict_script.PhotoError):
        predict_script.pixels(io.BytesIO(file.getvalue()), ENTRY)
    model = loaded({"kind": "image", "names": ["pixels"], **ENTRY})
    image = predict_script.upright_rgb(io.BytesIO(file.getvalue()), model.inputs[0])
    np.testing.assert_array_equal(image, decode(file.getvalue()))


def test_the_tokenizer_is_read_once(loaded, monkeypatch):
    words = Tokenizer(WordLevel({"dog": 1, "?": 0}, unk_token="?"))
    model = loaded({"kind": "tokens", "names": ["ids"], "context": 4, "tokenizer": words.to_str()})
    monkeypatch.setattr("tokenizers.Tokenizer", None)
    for _ in range(2):
        assert model.prepare(None, "dog")["ids"].tolist() == [[1]]


def test_other_steps_are_refused():
    tower = tower_of.__wrapped__("timm:test_vit")
    tower._preprocessing["crop_mode"] = "border"
    with pytest.raises(DataError, match="prepared by ResizeKeepRatio, CenterCropOrPad"):
        image_policy(tower)


CAPTIONS = ["a dog and a cat", "A man's  DOG, at 3 o'clock (really)! it’ll be “fine”",
            "Ünïcode café – 中文 😀", "!!! ??? <b>x</b>", "word " * 300, "x" * 400,
            "a\tb\n c", "12th 345"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["open_clip:ViT-S-32-alt", "minilm"])
def test_token_ids_are_those_of_the_encoder(encoder):
    weights = None if encoder == "minilm" else "random"
    tower = next(tower for tower in towers(encoder, Options(weights)) if tower.modality == "caption")
    tower.load("cpu")
    tokenizer = Tokenizer.from_str(tokenizer_json(tower))
    entry = {"tokenizer": tokenizer, "context": tower.context, "names": ["ids", "mask"]}
    for caption in CAPTIONS:
        ids, mask = predict_script.tokens(caption, entry)
        assert ids.tolist() == [*tower.prepare(caption)]
        assert mask.tolist() == [1] * len(ids)
    ids, mask = predict_script.tokens("", entry)
    assert not ids.any()
    assert not mask.any()


@given(st.text(max_size=40))
def test_words_are_counted_as_tf_idf_splits_them(caption):
    vocabulary = ["dog", *dict.fromkeys(words(caption))]
    counts = predict_script.word_counts(caption, {"pattern": WORD.pattern, "words": vocabulary})
    if words(caption):
        np.testing.assert_array_equal(counts, [words(caption).count(word) for word in vocabulary])
    else:
        assert np.isnan(counts).all()
