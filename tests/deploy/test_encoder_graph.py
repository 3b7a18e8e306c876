"""Encoders as ONNX graphs, run by onnxruntime: against the same encoders in torch, for any batch size."""

from io import BytesIO

import numpy as np
import onnx
import pytest
import torch
from tokenizers import Tokenizer

from encode_once.cache import DataError
from encode_once.deploy.caption_tokens import tokenizer_json
from encode_once.deploy.encoder_graph import tower_part
from encode_once.deploy.onnx_file import ExportError, joined, session
from encode_once.deploy.predict_script import pixels, tokens
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.catalogue import FAMILIES
from encode_once.extract.images.decode import decode
from tests.conftest import picture
from tests.deploy.test_predict_script import saved
from tests.extract.encoders.test_onnx import MEAN, STD, embedding

SMALL = ["timm:test_vit@192-flip", "timm:test_efficientnet", "timm:test_efficientnet@five-crops-64"]
# Networks of gigabytes, and larger ones of families that have a small one. PE-Core's random vectors are too
# close to 0 for float16.
HUGE = (
    *("clip-vit-l", "clip-vit-h", "clip-vit-big", "siglip", "pe-core", "metaclip", "eva02", "vitamin"),
    *("mobileclip2-s2", "mobileclip2-s4", "mobileclip2-b", "mobileclip2-l"),
    *("dinov2", "dinov3-b", "dinov3-l", "dinov3-convnext", "c-radio", "aimv2"),
)
NAMES = [*FAMILIES["clip"], *FAMILIES["timm_models"], *FAMILIES["torchvision_models"]]
LARGE = ["open_clip:ViT-S-32-alt", *(name for name in NAMES if name[-1] != ":" and not name.startswith(HUGE))]


def tower_of(encoder, modality):
    weights = None if encoder in ("efficientnet-lite0", "minilm") else "random"
    return next(tower for tower in towers(encoder, Options(weights)) if tower.modality == modality)


def as_stored(vectors):
    return np.asarray(vectors).astype(np.float16).astype(np.float32)


def assert_close(vectors, expected):
    """A number that a little error rounds to another float16 differs by 2⁻¹⁰ of itself."""
    assert vectors.shape == expected.shape
    assert np.linalg.norm(vectors - expected) < 1e-4 * np.linalg.norm(expected)


def check_images(encoder):
    tower = tower_of(encoder, "image")
    part = tower_part(tower, {output: output for output in tower.specs})
    model = session(part.graph.SerializeToString())
    tower.load("cpu")
    images = [picture(seed, (300 + seed, 280)) for seed in range(3)]
    expected = tower.encode([tower.prepare(image) for image in images])
    crop = part.about["crop"]
    batch = np.stack([np.asarray(tower.prepare(image)).transpose(1, 2, 0) for image in images])
    assert batch.shape[1:] == (*crop, 15 if part.about.get("corners") else 3)
    for rows in (slice(0, 3), slice(1, 2)):
        for output, vectors in zip(
            tower.specs, model.run([*tower.specs], {"pixels": batch[rows]}), strict=True
        ):
            assert_close(vectors, as_stored(expected[output][rows]))


@pytest.mark.parametrize("encoder", SMALL)
def test_a_network_gives_the_stored_vectors(encoder):
    check_images(encoder)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", LARGE)
def test_every_network_gives_the_stored_vectors(encoder):
    check_images(encoder)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["open_clip:ViT-S-32-alt", "minilm"])
def test_a_text_tower_gives_the_stored_vectors_and_nan_without_a_caption(encoder):
    tower = tower_of(encoder, "caption")
    output = "pooled" if encoder == "minilm" else "text"
    part = tower_part(tower, {output: "e/f"})
    model = session(part.graph.SerializeToString())
    captions = ["a dog", "a small dog and many large cats in a street", "boat"]
    expected = as_stored(tower.encode([tower.prepare(caption) for caption in captions])[output])
    tokenizer = Tokenizer.from_str(part.about["tokenizer"])
    entry = {**part.about, "names": [*part.inputs], "tokenizer": tokenizer}
    rows = [tokens(caption, entry) for caption in (*captions, "")]
    longest = max(len(row[0]) for row in rows)
    feed = {
        name: np.stack([np.pad(row[place], (0, longest - len(row[place]))) for row in rows])
        for place, name in enumerate(part.inputs)
    }
    (vectors,) = model.run(["e/f"], feed)
    assert_close(vectors[:3], expected)
    assert np.isnan(vectors[3]).all()
    (alone,) = model.run(
        ["e/f"], {name: array[None] for name, array in zip(part.inputs, rows[0], strict=True)}
    )
    assert_close(alone, expected[:1])


@pytest.mark.parametrize("opset", [11, 17, 20])
def test_the_network_of_a_file_is_a_part_whatever_its_operators_version(tmp_path, opset):
    path = embedding(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    (tower,) = towers(f"onnx:{path}", Options())
    part = tower_part(tower, {"pooled": "e/pooled"})
    onnx.checker.check_model(part.graph)
    batch = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (vectors,) = session(part.graph.SerializeToString()).run(["e/pooled"], {"pixels": batch})
    normalised = ((batch / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    (expected,) = session(path.read_bytes()).run(None, {"images": normalised})
    assert_close(vectors, as_stored(expected))


@pytest.mark.parametrize("view", ["whole", "pad-flip", "five-crops-flip"])
def test_views_of_a_file_are_averaged_in_the_graph(tmp_path, view):
    (tower,) = towers(f"onnx:{embedding(tmp_path / 'net.onnx')}@{view}", Options())
    part = tower_part(tower, {"pooled": "e/pooled"})
    model = session(part.graph.SerializeToString())
    files = [saved(picture(seed, (90 + 9 * seed, 70)), "PNG") for seed in range(3)]
    expected = as_stored(tower.encode([tower.prepare(decode(file)) for file in files])["pooled"])
    batch = np.stack([pixels(BytesIO(file), part.about) for file in files])
    for rows in (slice(0, 3), slice(1, 2)):
        (vectors,) = model.run(["e/pooled"], {"pixels": batch[rows]})
        assert_close(vectors, expected[rows])


def test_files_of_detectors_and_of_one_image_at_a_time_are_refused(tmp_path):
    (tower,) = towers(f"onnx:{embedding(tmp_path / 'net.onnx', batch=1)}", Options())
    with pytest.raises(DataError, match="one image at a time"):
        tower_part(tower, {"pooled": "e/pooled"})


def test_what_takes_more_than_one_file_holds_is_refused_before_it_is_traced(monkeypatch):
    tower = tower_of("timm:test_vit", "image")
    monkeypatch.setattr("encode_once.deploy.onnx_file.LARGEST", 100_000)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it is traced"))
    with pytest.raises(ExportError, match=r"the network of f takes .* GB, and one ONNX file holds at most"):
        tower_part(tower, {"pooled": "f"})


def test_parts_that_do_not_fit_together_are_reported():
    part = tower_part(tower_of("timm:test_vit", "image"), {"pooled": "f"})
    with pytest.raises(ExportError, match="cannot join"):
        joined(part.graph, part.graph, {"f": "nothing"})


def test_a_tokenizer_that_is_not_clips_is_refused():
    tower = tower_of("open_clip:ViT-S-32-alt", "caption")
    tower._tokenizers = [object()]
    with pytest.raises(DataError, match="its tokenizer is not CLIP's"):
        tokenizer_json(tower)
