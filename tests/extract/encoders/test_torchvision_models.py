"""torchvision's networks equal torchvision itself, with its own transforms, one image at a time."""

import re

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models import get_model, get_model_weights

from encode_once.extract.encoders import card, torchvision_models, towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.catalogue import FAMILIES, model_name
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import DECODING, decoding
from tests.conftest import picture

IMAGES = [picture(seed, size) for seed, size in enumerate([(64, 48), (40, 40), (50, 90)])]


def loaded(name, weights="random"):
    (tower,) = towers(name, Options(weights=weights))
    tower.load("cpu")
    return tower


def encoded(tower, images, batch):
    ready = [tower.prepare(image) for image in images]
    parts = [tower.encode(ready[i : i + batch]) for i in range(0, len(ready), batch)]
    return {output: np.concatenate([part[output] for part in parts]) for output in tower.specs}


@pytest.fixture
def site(monkeypatch):
    """A function that puts a state dict where torchvision would download it."""

    def publish(state):
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(state))

    return publish


def random_state(architecture, images, **settings):
    return random_model(architecture, images, **settings).state_dict()


def random_model(architecture, images, **settings):
    """A model whose batch norms have seen images; otherwise all outputs of a deep random network are 0."""
    torch.manual_seed(3)
    model = get_model(architecture, weights=None, **settings)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean
    if norms:
        with torch.no_grad():
            getattr(model, "backbone", model).train()(images)
    return model.eval()


def old_names(state):
    """As the published DenseNet file has them."""
    state = {key: state[key] for key in state if not key.endswith("num_batches_tracked")}
    return {re.sub(r"(denselayer\d+\.[a-z]+)([12]\.)", r"\1.\2", key): state[key] for key in state}


SLOW = [pytest.param(name, marks=pytest.mark.real) for name in ("inception-v3", "googlenet")]


@pytest.mark.parametrize("name", ["resnet50", "densenet121", *SLOW])
def test_published_weights_and_their_file_equal_torchvision(name, site, tmp_path):
    architecture, tag = model_name(name), torchvision_models.TAG
    published = get_model_weights(architecture)[tag]
    transform = published.transforms()
    inception = architecture in ("inception_v3", "googlenet")
    settings = {"aux_logits": True, "init_weights": False} if inception else {}
    state = random_state(architecture, torch.stack([transform(image) for image in IMAGES]), **settings)
    if name == "densenet121":
        state = old_names(state)
        assert "features.denseblock1.denselayer1.norm.1.weight" in state
    site(state)
    torch.save(state, tmp_path / "file.pth")

    model = get_model(architecture, weights=tag).eval()
    entering = []
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    linear.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0][0].numpy()))
    with torch.no_grad():
        logits = np.stack([model(transform(image)[None])[0].numpy() for image in IMAGES])
    pooled = np.stack(entering)
    assert pooled.std(0).max() > 0.05 * pooled.max()  # the images give different vectors

    for weights, batch in ((None, 1), (str(tmp_path / "file.pth"), 3)):
        outputs = encoded(loaded(name, weights), IMAGES, batch)
        np.testing.assert_allclose(outputs["pooled"], pooled, rtol=1e-3, atol=1e-4 * abs(pooled).max())
        np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-4 * abs(logits).max())


@pytest.mark.parametrize("name", FAMILIES["torchvision_models"])
def test_pooled_is_the_input_of_the_classifier(name):
    tower = loaded(name)
    outputs = encoded(tower, IMAGES[:1], 1)
    dims = [f"{output} {vectors.shape[1]}" for output, vectors in outputs.items()]
    assert ", ".join(dims) == card(name).outputs
    assert outputs["pooled"].dtype == outputs["logits"].dtype == np.float32
    if name in ("alexnet", "vgg16"):
        assert outputs["pooled"].min() == 0  # after the ReLU
    assert all("RANDOM" in spec["weights"] for spec in tower.specs.values())


def test_a_spec_contains_the_preprocessing():
    (tower,) = towers("resnet50", Options())
    assert tower.specs["pooled"] == {
        "modality": "image",
        "encoder": "torchvision",
        "architecture": "resnet50",
        "weights": "torchvision:IMAGENET1K_V1",
        "preprocess": f"{decoding(256)}|resize(256,bilinear,antialias)|crop(center,224)"
        "|normalize([0.485, 0.456, 0.406],[0.229, 0.224, 0.225])",
        "pooling": "what enters the last linear layer",
        "precision": "float32",
    }
    (tower,) = towers("inception-v3", Options())
    preprocess = tower.specs["logits"]["preprocess"]
    assert "resize(342,bilinear,antialias)|crop(center,299)" in preprocess
    assert preprocess.endswith("|transform_input(mean=std=0.5)")


@pytest.mark.parametrize("name", ["alexnet", "frcnn-mobilenet-320"])
def test_weights_that_do_not_load_are_one_line_with_the_remedy(name, tmp_path, monkeypatch):
    (tmp_path / "text.pth").write_bytes(b"no weights")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    for file in ("text.pth", "other.pth"):
        with pytest.raises(WeightsError, match=rf"^{name}: no weights \(.*--weights PATH$"):
            loaded(name, str(tmp_path / file))
    with pytest.raises(WeightsError, match="nowhere"):
        towers(name, Options(weights="nowhere.pth"))

    def unreachable(*_, **__):
        raise OSError("<urlopen error>")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=rf"^{name}: no weights \(<urlopen error>\).*--weights PATH$"):
        loaded(name, None)


def informative(state):
    """Detector weights whose scores are neither 0 nor 1, and for which the batch norms' eps matters."""
    for key, value in state.items():
        if key.endswith("cls_score.weight") or "classification_head.module_list" in key:
            value.mul_(0.3)
        elif key.endswith("bn1.running_var"):  # torchvision's default is 1e-5
            value.mul_(1e-4)
        elif key.endswith("bn1.weight"):
            value.mul_(1e-2)
    return state


def with_small_input(model):
    """The detector at a fraction of its resolution, to be quick."""
    if model.transform.fixed_size is None:
        model.transform.min_size, model.transform.max_size = (128,), 200
    return model


def in_float64(model):
    """The detector with 29 more bits: proposals and NMS amplify the rounding of float32, which depends on the
    processor and on whether batch norms are frozen, to differences of a hundredth.
    """

    def widen(_, arguments):
        return ([image.double() for image in arguments[0]],)

    model.double().register_forward_pre_hook(widen)
    return model


def every_score(name, model, image):
    """The scores (n, 91) of all boxes, by torchvision's parts."""
    pixels = torchvision.transforms.functional.to_tensor(image).to(next(model.parameters()).dtype)
    inputs, _ = model.transform([pixels])
    features = model.backbone(inputs.tensors)
    if name.startswith("frcnn"):
        proposals, _ = model.rpn(inputs, features)
        heads = model.roi_heads
        pooled = heads.box_roi_pool(features, proposals, inputs.image_sizes)
        return torch.nn.functional.softmax(heads.box_predictor(heads.box_head(pooled))[0], -1)
    features = list(features.values())
    logits = model.head.classification_head(features)[0]
    if name == "ssd":
        return torch.exp(torch.log_softmax(logits, -1))
    if name == "fcos":
        _, centerness = model.head.regression_head(features)
        return (1 / (1 + torch.exp(-logits)) / (1 + torch.exp(-centerness[0]))) ** 0.5
    return 1 / (1 + torch.exp(-logits))


@pytest.mark.parametrize(
    "name",
    [
        "frcnn-mobilenet-320",
        *(pytest.param(name, marks=pytest.mark.real) for name in ("frcnn", "retinanet", "ssd")),
    ],
)
def test_a_detector_and_its_file_equal_torchvision(name, site, tmp_path):
    architecture = model_name(name)
    to_tensor = torchvision.transforms.functional.to_tensor
    images = torch.stack([to_tensor(image.resize((300, 300))) for image in IMAGES[:2]])
    state = informative(random_state(architecture, images, weights_backbone=None))
    site(state)
    torch.save(state, tmp_path / "file.pth")
    box = "box_" if name.startswith("frcnn") else ""
    settings = {f"{box}score_thresh": 0.05, f"{box}detections_per_img": 100}
    model = in_float64(with_small_input(get_model(architecture, weights="COCO_V1", **settings)).eval())
    expected, dense = np.zeros((2, 2, 91), np.float32)
    with torch.no_grad():
        for row, dense_row, image in zip(expected, dense, IMAGES, strict=False):
            outputs = model([to_tensor(image)])[0]
            for label, score in zip(outputs["labels"], outputs["scores"], strict=True):
                row[label] = max(row[label], score)
            dense_row[1:] = every_score(name, model, image).amax(0)[1:]
    assert ((expected > 0.05) & (expected < 0.95)).sum() >= 2
    for weights, batch in ((None, 1), (str(tmp_path / "file.pth"), 2)):
        tower = loaded(name, weights)
        in_float64(with_small_input(tower._model))
        outputs = encoded(tower, IMAGES[:2], batch)
        np.testing.assert_allclose(outputs["scores"], expected, atol=1e-6)
        np.testing.assert_allclose(outputs["dense-scores"], dense, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES["detection"])
def test_specs_of_detectors(name):
    (tower,) = towers(name, Options())
    pooling = {
        "scores": "highest score a class of boxes >= 0.05, 100 an image",
        "dense-scores": "highest score a class of all proposals or anchors, no cut, no NMS; background 0",
        "counts": "number a class of those >= 0.5 among boxes >= 0.05, 100 an image, after NMS",
    }
    assert tower.specs == {
        output: {
            "modality": "image",
            "encoder": "torchvision",
            "architecture": model_name(name),
            "weights": "torchvision:COCO_V1",
            "preprocess": f"{DECODING}|to_unit|as the model's own transform says",
            "pooling": settings,
            "precision": "float32",
        }
        for output, settings in pooling.items()
    }
