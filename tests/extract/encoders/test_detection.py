"""A detector's three outputs equal those of torchvision's parts, called one after another for one image."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.catalogue import model_name
from tests.conftest import picture
from tests.extract.encoders.test_torchvision_models import every_score, random_model, with_small_input

IMAGES = [picture(seed, size) for seed, size in enumerate([(64, 48), (40, 60)])]
# Detectors that test_torchvision_models leaves out, and factors of their last layer that give scores
# neither 0 nor 1.
DETECTORS = {"frcnn-v2": 1.0, "frcnn-mobilenet": 0.125, "fcos": 4.0}


def quick(model):
    """The detector with few proposals, at a fraction of its resolution."""
    if hasattr(model, "rpn"):
        model.rpn._post_nms_top_n["testing"] = 30
    return with_small_input(model)


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request, tmp_path_factory):
    """Name, tower with a local checkpoint, and torchvision's model with the same weights."""
    name = request.param
    torch.set_num_threads(1)
    seen = torch.stack([to_tensor(image.resize((128, 128))) for image in IMAGES])
    box = "box_" if name.startswith("frcnn") else ""
    settings = {"weights_backbone": None, f"{box}score_thresh": 0.05, f"{box}detections_per_img": 100}
    model = random_model(model_name(name), seen, **settings)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith(("cls_score.weight", "cls_logits.weight")):
                value.mul_(DETECTORS[name])
    path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
    torch.save(model.state_dict(), path)
    (tower,) = towers(name, Options(weights=str(path)))
    tower.load("cpu")
    quick(tower._model)
    return name, tower, quick(model)


def encoded(tower, images):
    return tower.encode([tower.prepare(image) for image in images])


def test_all_three_outputs_equal_torchvision(detector):
    name, tower, model = detector
    passes = []
    hook = tower._model.backbone.register_forward_hook(lambda *_: passes.append(1))
    outputs = encoded(tower, IMAGES)
    hook.remove()
    assert len(passes) == len(IMAGES)  # one pass per image for all outputs

    expected = {output: np.zeros((len(IMAGES), 91)) for output in tower.specs}
    with torch.no_grad():
        for row, image in enumerate(IMAGES):
            boxes = model([to_tensor(image)])[0]
            for label, score in zip(boxes["labels"].tolist(), boxes["scores"].tolist(), strict=True):
                expected["scores"][row, label] = max(expected["scores"][row, label], score)
                expected["counts"][row, label] += score >= 0.5
            expected["dense-scores"][row, 1:] = every_score(name, model, image).amax(0)[1:]
    scores = expected["scores"]
    assert ((scores > 0.05) & (scores < 0.95)).sum() >= 2
    for output, values in expected.items():
        np.testing.assert_allclose(outputs[output], values, atol=1e-5)

    dense = outputs["dense-scores"]
    assert (dense[:, 0] == 0).all()
    assert (dense[:, 1:] >= outputs["scores"][:, 1:] - 1e-6).all()
    assert (dense[:, 1:] > outputs["scores"][:, 1:]).any()


def test_counts_are_numbers_of_kept_boxes_that_score_half_or_more(detector, monkeypatch):
    _, tower, _ = detector
    boxes = {"labels": torch.tensor([3, 3, 3, 17, 90]), "scores": torch.tensor([0.9, 0.5, 0.49, 0.3, 1.0])}
    monkeypatch.setattr(tower._model, "forward", lambda _: [boxes])
    tower._seen.best = torch.zeros(91)
    outputs = encoded(tower, IMAGES[:1])
    assert {label: n for label, n in enumerate(outputs["counts"][0]) if n} == {3: 2, 90: 1}
    assert outputs["scores"][0, [3, 17, 90]].tolist() == pytest.approx([0.9, 0.3, 1.0])


@pytest.mark.parametrize(
    "detector", ["frcnn-mobilenet"], indirect=True
)  # a quick detector: all share this code
def test_threads_may_share_a_detector(detector):
    _, tower, _ = detector
    images = [picture(seed) for seed in range(6)]
    alone = [encoded(tower, [image])["dense-scores"] for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda image: encoded(tower, [image])["dense-scores"], images))
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("detector", ["frcnn-mobilenet"], indirect=True)
def test_an_image_without_proposals_scores_nothing(detector, monkeypatch):
    _, tower, _ = detector
    monkeypatch.setitem(tower._model.rpn._post_nms_top_n, "testing", 0)
    assert all((values == 0).all() for values in encoded(tower, IMAGES[:1]).values())
