"""Object detectors through torchvision: for each class, the score of its best box and the number of boxes."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from encode_once.extract.encoders.base import RANDOM, Options, Tower, Vectors, identity
from encode_once.extract.encoders.catalogue import model_name
from encode_once.extract.encoders.torchvision_models import build
from encode_once.extract.images.decode import DECODING

TAG = "COCO_V1"
CLASSES = 91  # COCO's category ids 0 (background) to 90; some never occur
# torchvision's defaults for Faster R-CNN: minimum score of a box, maximum number of boxes
MIN_SCORE, BOXES = 0.05, 100
COUNTED = 0.5  # minimum score of a box that is counted


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a detector."""
    return [DetectorImages(name, options)]


class DetectorImages(Tower):
    """Three outputs with a value per class, each (91,), from one pass of the detector.

    `scores`: the score of the best box that is kept, 0 for a class without boxes. `dense-scores`: the score
    of the best box before any is dropped, 0 for the background (class 0). `counts`: the number of kept boxes
    that score .5 or more.
    """

    modality = "image"
    parallel = True
    libraries = ("torch", "torchvision", "pillow")
    backend = "torch"
    cpu_batch = 2
    gpu_batch = 8

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        spec = {
            "encoder": "torchvision",
            "architecture": model_name(name),
            "weights": identity(options.weights, f"torchvision:{TAG}"),
            "preprocess": f"{DECODING}|to_unit|as the model's own transform says",
            "precision": options.precision,
        }
        boxes = f"boxes >= {MIN_SCORE}, {BOXES} an image"
        pooling = {
            "scores": f"highest score a class of {boxes}",
            "dense-scores": "highest score a class of all proposals or anchors, no cut, no NMS; background 0",
            "counts": f"number a class of those >= {COUNTED} among {boxes}, after NMS",
        }
        super().__init__({output: {**spec, "pooling": text} for output, text in pooling.items()})

    def load(self, device: str) -> None:
        from torch.nn import BatchNorm2d

        weights = self._options.weights
        box = "box_" if self._name.startswith("frcnn") else ""
        limits = {f"{box}score_thresh": MIN_SCORE, f"{box}detections_per_img": BOXES}
        settings = {"num_classes": CLASSES, "weights_backbone": None, **limits}
        model = build(self._name, model_name(self._name), TAG, weights, **settings)
        if self._name in ("frcnn", "retinanet") and weights not in (None, RANDOM):
            # The published weights were trained with this; torchvision sets it when it downloads them.
            for module in model.modules():
                if isinstance(module, BatchNorm2d):
                    module.eps = 0.0
        self._model = model.to(device)
        self.device = device
        # The head's output during a call of the model, per thread.
        self._seen = threading.local()
        head = model.roi_heads.box_predictor if self._name.startswith("frcnn") else model.head
        head.register_forward_hook(self._keep_best)

    def _keep_best(self, _head: Any, _inputs: Any, output: Any) -> None:
        """Save the best score of each class over all proposals or anchors, computed from the logits."""
        if self._name.startswith("frcnn"):
            scores = output[0].softmax(-1)
        elif self._name == "ssd":
            scores = output["cls_logits"][0].softmax(-1)
        else:
            scores = output["cls_logits"][0].sigmoid()
        if self._name == "fcos":
            scores = (scores * output["bbox_ctrness"][0].sigmoid()).sqrt()
        # (n, 91) → (91,); 0 if there are no proposals
        self._seen.best = scores.amax(0) if len(scores) else scores.new_zeros(CLASSES)

    def prepare(self, item: Image) -> Any:
        from torchvision.transforms.functional import pil_to_tensor

        return pil_to_tensor(item)  # (3, h, w) uint8

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        values = {output: np.zeros((len(batch), CLASSES), np.float32) for output in self.specs}
        with torch.inference_mode(), self.arithmetic():
            for row, image in enumerate(batch):
                # Image by image: in a batch torchvision pads to the largest image, which changes the scores.
                boxes = self._model([image.to(self.device).float() / 255])[0]
                labels, scores = boxes["labels"].cpu().numpy(), boxes["scores"].float().cpu().numpy()
                np.maximum.at(values["scores"][row], labels, scores)
                np.add.at(values["counts"][row], labels[scores >= COUNTED], 1)
                values["dense-scores"][row, 1:] = self._seen.best[1:].float().cpu().numpy()
        return values
