"""Object detectors through torchvision: for each class, the score of its best box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from extract.encoders.base import RANDOM, Options, Tower, Vectors, arithmetic, identity
from extract.encoders.torchvision_models import build
from extract.images import DECODING

ABOUT = "torchvision (weights BSD-3-Clause): a score a class of the best box"
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
CLASSES = 91  # COCO's category ids 0 (background) to 90; some never occur
# torchvision's own for Faster R-CNN: boxes below the score are dropped, the best so many are kept
CUT, BOXES = 0.05, 100


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a detector."""
    return [DetectorImages(name, options)]


class DetectorImages(Tower):
    """Image-level class scores of a detector: (91,), 0 for a class without a box."""

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
            "pooling": f"highest score a class of boxes >= {CUT}, {BOXES} an image",
            "precision": options.precision,
        }
        super().__init__({"scores": spec})

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

    def prepare(self, item: Image) -> Any:
        from torchvision.transforms.functional import pil_to_tensor

        return pil_to_tensor(item)  # (3, h, w) uint8

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        best = np.zeros((len(batch), CLASSES), np.float32)
        with torch.inference_mode(), arithmetic(self.device, self._options.precision):
            for row, image in zip(best, batch, strict=True):
                # One at a time: in a batch torchvision pads to the largest image, which changes the scores.
                found = self._model([image.to(self.device).float() / 255])[0]
                np.maximum.at(row, found["labels"].cpu().numpy(), found["scores"].float().cpu().numpy())
        return {"scores": best}
