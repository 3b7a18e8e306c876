"""Newer image networks: each vector is pooled as its authors pool it, and pictures enter whole or cropped.

Networks are narrow, one block deep and random.
"""

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import WeightsError
from tests.conftest import picture

PICTURES = [picture(seed, (90, 70)) for seed in range(2)]
# name → how its vector follows from all tokens after the last block
POOLINGS = {
    "dinov3-s16": ("class token", lambda model, tokens: tokens[:, 0]),
    "eva02-b14-448": ("mean of patches", lambda model, tokens: model.fc_norm(tokens[:, 1:].mean(1))),
    "aimv2-l14": ("mean of patches", lambda model, tokens: tokens.mean(1)),
    "c-radio-v4-so400m": ("2 class tokens", lambda model, tokens: torch.cat([tokens[:, 0], tokens[:, 1]], 1)),
}


def cosines(vectors, others):
    return (vectors * others).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(others, axis=1)


@pytest.mark.parametrize("name", POOLINGS)
def test_timms_networks_are_pooled_as_the_list_says(name, shallow):
    shallow |= {"embed_dim": 64, "num_heads": 2}
    pooling, pool = POOLINGS[name]
    (tower,) = towers(name, Options("random", backend="torch"))
    assert tower.specs["pooled"]["pooling"] == f"{pooling}, before the classifier"
    tower.load("cpu")
    vectors = tower.encode([tower.prepare(image) for image in PICTURES])["pooled"]

    model = timm.create_model(tower._model_name).eval()
    model.load_state_dict(tower.build_model().state_dict())
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config)
    with torch.no_grad():
        tokens = model.forward_features(torch.stack([transform(image) for image in PICTURES]))
        expected = pool(model, tokens).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert f"normalize({config['mean']},{config['std']})" in tower.specs["pooled"]["preprocess"]


def test_the_key_of_timms_own_choice_is_that_of_earlier_versions():
    for name in ("timm:vit_base_patch16_dinov3.lvd1689m", "vit-b16", "efficientnet-lite0"):
        (tower,) = towers(name, Options("random"))
        assert tower.specs["pooled"]["pooling"] == "global, before the classifier"


@pytest.mark.usefixtures("shallow")
def test_attention_pooling_is_the_networks_own_and_not_a_mean_of_patches(tmp_path):
    vision = {"image_size": 384, "timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map"}
    text = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision | {"timm_proj": None}, "text_cfg": text}
    (tmp_path / "shallow-pe.json").write_text(json.dumps(config | {"custom_text": True}))
    open_clip.add_model_config(tmp_path)
    tower, _ = towers("open_clip:shallow-pe", Options("random", backend="torch"))
    tower.load("cpu")
    vectors = tower.encode([tower.prepare(image) for image in PICTURES])["image"]

    model, _, transform = open_clip.create_model_and_transforms("shallow-pe")
    model.eval().load_state_dict(tower.checkpoint.model.state_dict())
    pixels = torch.stack([transform(image) for image in PICTURES])
    with torch.no_grad():
        expected = model.encode_image(pixels).numpy()
        trunk = model.visual.trunk
        mean = trunk.head(trunk.forward_features(pixels)[:, 1:].mean(1)).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert cosines(vectors, mean).max() < 0.9


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("siglip2-b16", True),
        ("pe-core-b16", True),
        ("metaclip2-h14-378", True),
        ("eva02-l14-448", True),
        ("metaclip2-h14", False),
        ("dinov3-s16", False),
        ("mobileclip2-s0", False),
    ],
)
def test_a_picture_enters_whole_if_the_network_was_trained_so(name, whole):
    """The left eighth of a wide picture is white. A crop of its centre does not contain it."""
    image = Image.new("RGB", (400, 200))
    image.paste((255, 255, 255), (0, 0, 50, 200))
    tower, *_ = towers(name, Options("random"))
    assert (tower.transform()(image)[:, :, 0].float().mean() > 200) == whole
    spec = next(iter(tower.specs.values()))
    assert ("squash" in spec["preprocess"]) == whole


@pytest.fixture
def without_model(monkeypatch):
    """Models of open_clip, of which these tests use the tokenizers only, are empty."""
    empty = torch.nn.ModuleDict({"visual": torch.nn.Identity()})
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: empty)


@pytest.mark.usefixtures("without_model")
def test_siglips_captions_are_lower_cased_without_punctuation_and_fill_64_tokens(monkeypatch):
    """open_clip calls it "canonicalize"; the hub's tokenizer is replaced by a small one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<unk>": 1, "a": 2, "dog": 3, "A": 4, "Dog": 5, ".": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = []

    def from_pretrained(name, **_):
        names.append(name)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", from_pretrained)
    _, captions = towers("siglip2-b16", Options("random"))
    captions.load("cpu")
    assert {*names} == {"timm/ViT-B-16-SigLIP2"}
    assert captions.prepare("A Dog.").tolist() == [2, 3] + [0] * 62


@pytest.mark.usefixtures("without_model")
@pytest.mark.parametrize(
    ("name", "repository"),
    [("siglip2-so400m", "timm/ViT-SO400M-14-SigLIP2"), ("metaclip2-h14", "facebook/xlm-v-base")],
)
def test_a_tokenizer_that_must_be_downloaded_is_refused_by_a_line_that_names_it(name, repository):
    _, captions = towers(name, Options("random"))
    with pytest.raises(
        WeightsError, match=f"{name}: its tokenizer {repository} could not be downloaded"
    ) as error:
        captions.load("cpu")
    assert f"copy {repository} from the Hugging Face cache" in str(error.value)
    assert "\n" not in str(error.value)
