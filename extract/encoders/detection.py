"""Object detectors through torchvision: for each class, the score of its best box, and how many boxes."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from encode_once.extract.encoders.base import RANDOM, Options, Tower, Vectors, arithmetic, identity
from encode_once.extract.encoders.catalogue import Card, from_torch
from encode_once.extract.encoders.torchvision_models import LICENCE, SITE, build
from encode_once.extract.images.decode import DECODING

# name → torchvision's
NAMES = {
    "frcnn": "fasterrcnn_resnet50_fpn",
    "frcnn-v2": "fasterrcnn_resnet50_fpn_v2",
    "frcnn-mobilenet": "fasterrcnn_mobilenet_v3_large_fpn",
    "frcnn-mobilenet-320": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet": "retinanet_resnet50_fpn",
    "fcos": "fcos_resnet50_fpn",
    "ssd": "ssd300_vgg16",
}
PREFIX = None
TAG = "COCO_V1"
SIZES = {"frcnn-mobilenet-320": "320 to 640 px", "ssd": "300 px"}  # of the shorter and the longer side
CLASSES = 91  # COCO's category ids 0 (background) to 90; some never occur
# torchvision's own for Faster R-CNN: boxes below the score are dropped, the best so many are kept
CUT, BOXES = 0.05, 100
SURE = 0.5  # the score from which a box counts


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a detector."""
    return [DetectorImages(name, options)]


class DetectorImages(Tower):
    """Three numbers a class of an image, each (91,), from one pass of the detector.

    `scores` of the best box kept, 0 for a class without one; `dense-scores` of the best box before any is
    dropped, 0 for the background (class 0); `counts` of the boxes kept that score .5 or more.
    """

    modality = "image"
    parallel = True
    libraries = ("torch", "torchvision", "pillow")
    cpu_batch = 2
    gpu_batch = 8

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        spec = {
            "encoder": "torchvision",
            "architecture": NAMES[name],
            "weights": identity(options.weights, f"torchvision:{TAG}"),
            "preprocess": f"{DECODING}|to_unit|as the model's own transform says",
            "precision": options.precision,
        }
        boxes = f"boxes >= {CUT}, {BOXES} an image"
        pooling = {
            "scores": f"highest score a class of {boxes}",
            "dense-scores": "highest score a class of all proposals or anchors, no cut, no NMS; background 0",
            "counts": f"number a class of those >= {SURE} among {boxes}, after NMS",
        }
        super().__init__({output: {**spec, "pooling": how} for output, how in pooling.items()})

    def load(self, device: str) -> None:
        from torch.nn import BatchNorm2d

        weights = self._options.weights
        box = "box_" if self._name.startswith("frcnn") else ""
        how = {f"{box}score_thresh": CUT, f"{box}detections_per_img": BOXES, "num_classes": CLASSES}
        model = build(self._name, NAMES[self._name], TAG, weights, weights_backbone=None, **how)
        if self._name in ("frcnn", "retinanet") and weights not in (None, RANDOM):
            # Their published weights were trained so, and torchvision sets it where it fetches them itself.
            for module in model.modules():
                if isinstance(module, BatchNorm2d):
                    module.eps = 0.0
        self._model = model.to(device)
        self.device = device
        # What the head answers within one call of the model, of the thread that makes it.
        self._seen = threading.local()
        head = model.roi_heads.box_predictor if self._name.startswith("frcnn") else model.head
        head.register_forward_hook(self._keep_best)

    def _keep_best(self, _head: Any, _given: Any, answer: Any) -> None:
        """Each class's best score of all proposals or anchors, by the logits, as torchvision has them."""
        if self._name.startswith("frcnn"):
            scores = answer[0].softmax(-1)
        elif self._name == "ssd":
            scores = answer["cls_logits"][0].softmax(-1)
        else:
            scores = answer["cls_logits"][0].sigmoid()
        if self._name == "fcos":
            scores = (scores * answer["bbox_ctrness"][0].sigmoid()).sqrt()
        # (n, 91) → (91,); where no proposal is left, nothing scores
        self._seen.best = scores.amax(0) if len(scores) else scores.new_zeros(CLASSES)

    def prepare(self, item: Image) -> Any:
        from torchvision.transforms.functional import pil_to_tensor

        return pil_to_tensor(item)  # (3, h, w) uint8

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        found = {output: np.zeros((len(batch), CLASSES), np.float32) for output in self.specs}
        with torch.inference_mode(), arithmetic(self.device, self._options.precision):
            for row, image in enumerate(batch):
                # One at a time: in a batch torchvision pads to the largest image, which changes the scores.
                kept = self._model([image.to(self.device).float() / 255])[0]
                labels, scores = kept["labels"].cpu().numpy(), kept["scores"].float().cpu().numpy()
                np.maximum.at(found["scores"][row], labels, scores)
                np.add.at(found["counts"][row], labels[scores >= SURE], 1)
                found["dense-scores"][row, 1:] = self._seen.best[1:].float().cpu().numpy()
        return found


def card(name: str) -> Card:
    """What is known of a detector before it is made."""
    from torchvision.models import get_model_weights

    here = from_torch(get_model_weights(NAMES[name])[TAG].url)
    outputs = f"scores {CLASSES}, dense-scores {CLASSES}, counts {CLASSES}"
    return Card(outputs, SIZES.get(name, "800 to 1,333 px"), LICENCE, SITE, here=here)
