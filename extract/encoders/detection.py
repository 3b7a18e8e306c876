"""Object detectors through torchvision: for each class, the score of its best box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from extract.encoders.base import RANDOM, Options, Tower, Vectors, arithmetic, brief, identity, seed_weights
from extract.errors import WeightsError
from extract.images import DECODING

ABOUT = "torchvision: a score a class of the best box"
NAMES = {"frcnn": "fasterrcnn_resnet50_fpn"}  # name → torchvision's
PREFIX = None
CLASSES = 91  # COCO's category ids 0 (background) to 90; some never occur
CUT, BOXES = 0.05, 100  # torchvision's own: boxes below the score are dropped, the best so many are kept


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a detector."""
    return [DetectorImages(name, options)]


class DetectorImages(Tower):
    """Image-level class scores of a detector: (91,), 0 for a class without a box."""

    modality = "image"
    libraries = ("torch", "torchvision", "pillow")
    cpu_batch = 2
    gpu_batch = 8

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        spec = {
            "encoder": "torchvision",
            "architecture": NAMES[name],
            "weights": identity(options.weights, "torchvision:COCO_V1"),
            "preprocess": f"{DECODING}|to_unit|as the model's own transform says",
            "pooling": f"highest score a class of boxes >= {CUT}, {BOXES} an image",
            "precision": options.precision,
        }
        super().__init__({"scores": spec})

    def load(self, device: str) -> None:
        import torch
        from torchvision.models import get_model

        seed_weights()
        weights = self._options.weights
        how = {"box_score_thresh": CUT, "box_detections_per_img": BOXES, "num_classes": CLASSES}
        try:
            if weights is None:
                model = get_model(NAMES[self._name], weights="COCO_V1", progress=False, **how)
            else:
                model = get_model(NAMES[self._name], weights=None, weights_backbone=None, **how)
                if weights != RANDOM:
                    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # hubs, files and state dicts fail in many ways; each means: no weights
            raise WeightsError(
                f"{self._name}: no weights ({brief(error)}); give torchvision's file with --weights PATH"
            ) from error
        self._model = model.eval().to(device)
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
