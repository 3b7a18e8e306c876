"""Any network in an ONNX file, through onnxruntime: a YOLO detector's class scores, or an embedding.

What a file is for is not written in it. It is told by the shapes of what goes in and comes out:

- one image goes in: float32 (batch, 3, height, width);
- of a detector with strides 8, 16 and 32, whose grids have n cells together, comes (1, n, 5 + classes) out of
  YOLOX, (1, 3n, 5 + classes) out of YOLOv5 and YOLOv7, (1, 4 + classes, n) out of YOLOv8 and YOLO11, each box
  (and objectness) first. Each of these families has its own preprocessing, which the spec spells out;
- of anything else, one output (batch, d) is an embedding of an image preprocessed as ImageNet's networks are.

What fits neither is refused. A file that fits by its shapes but was trained with another preprocessing cannot
be told: YOLOX before version 0.1.1 normalised its input, embeddings may have any mean and std. The spec says
what was done.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from encode_once.cache.errors import brief
from encode_once.extract.encoders import runtime as backends
from encode_once.extract.encoders.base import RANDOM, Options, Tower, Vectors, file_identity
from encode_once.extract.encoders.catalogue import Card
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import DECODING

NAMES: dict[str, str] = {}
PREFIX = "onnx:"  # then the file, or any name and the file with --weights

STRIDES = (8, 16, 32)
GREY = 114  # what YOLO detectors are trained to see around a picture
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
# A tensor (its field 13) whose values are in another file, which would not count in this one's identity.
ELSEWHERE = re.compile(rb"\x6a.{1,2}\n\x08location\x12", re.DOTALL)


class Layout(NamedTuple):
    """How a family of detectors takes its image and gives its boxes."""

    family: str
    corner: bool  # the picture in the upper left corner, else in the middle
    bgr_255: bool  # BGR of 0 … 255, else RGB of 0 … 1
    boxes_last: bool  # (1, 4 + classes, boxes), else (1, boxes, 5 + classes)


YOLOX = Layout("YOLOX", corner=True, bgr_255=True, boxes_last=False)
YOLOV5 = Layout("YOLOv5", corner=False, bgr_255=False, boxes_last=False)
YOLOV8 = Layout("YOLOv8", corner=False, bgr_255=False, boxes_last=True)


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a file."""
    if options.weights == RANDOM:
        raise WeightsError(f"{name}: an ONNX file carries its weights, there are no random ones")
    return [OnnxImages(options.weights or name.removeprefix(PREFIX))]


class OnnxImages(Tower):
    """`scores` (classes,) of a detector, without a cut, or the `pooled` (d,) vector of any other network."""

    modality = "image"
    parallel = True
    libraries = ("onnxruntime", "torchvision", "torch", "pillow")

    def __init__(self, file: str) -> None:
        self._file = file
        self._session = _session(file, "cpu")
        self._height, self._width, self._one_by_one = self._input()
        self._output, self._layout = self._look()
        spec = {
            "encoder": "onnx",
            "architecture": self._layout.family if self._layout else "embedding",
            "weights": file_identity(file),
            "preprocess": self._preprocess(),
            "precision": "as the file says",
        }
        if self._layout is None:
            super().__init__({"pooled": {**spec, "pooling": f"output {self._output}, as it is"}})
        else:
            score = "class" if self._layout.boxes_last else "objectness * class"
            super().__init__({"scores": {**spec, "pooling": f"highest {score} of all boxes"}})

    def _input(self) -> tuple[int, int, bool]:
        """Height and width of the model's image, and whether it takes one image at a time."""
        inputs = self._session.get_inputs()
        shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        shape = inputs[0].shape
        if (
            len(inputs) != 1
            or inputs[0].type != "tensor(float)"
            or len(shape) != 4
            or shape[1] != 3
            or not all(isinstance(size, int) for size in shape[2:])
            or (isinstance(shape[0], int) and shape[0] != 1)
        ):
            raise self._refused(
                f"it takes {shapes}; export it for one size of images: float (1 or batch, 3, height, width)"
            )
        return shape[2], shape[3], shape[0] == 1

    def _look(self) -> tuple[str, Layout | None]:
        """The output to keep, and the layout if it is a detector's: told by what a grey picture gives."""
        task = self._session.get_modelmeta().custom_metadata_map.get("task", "detect")
        names = [output.name for output in self._session.get_outputs()]
        found = dict(zip(names, self._run(names, [self._grey()]), strict=True))
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in found.items())
        flat = [name for name, values in found.items() if values.ndim == 2 and len(values) == 1]
        solid = [name for name, values in found.items() if values.ndim == 3]
        if len(flat) == 1:
            if self._height != self._width:
                raise self._refused(
                    f"it embeds {self._height} × {self._width} pixels; how to crop is not told"
                )
            return flat[0], None
        if flat or len(solid) != 1 or task != "detect":
            raise self._refused(
                f"it gives {shapes} (task {task}); one (1, d) or one detector's output is wanted"
            )
        values = found[solid[0]]
        layout = self._told_by(values.shape)
        if layout is None:
            raise self._refused(f"it gives {shapes}, which is no output of YOLOX, YOLOv5 or YOLOv8")
        parts = values[:, 4:] if layout.boxes_last else values[..., 4:]
        if parts.min() < 0 or parts.max() > 1:
            raise self._refused(f"its scores are no probabilities ({parts.min():.2g} to {parts.max():.2g})")
        if layout is YOLOX and (values[..., 4] == 1).all():
            raise self._refused("it has YOLOX's shape, but its objectness is always 1, as of YOLOv6")
        return solid[0], layout

    def _told_by(self, shape: tuple[int, ...]) -> Layout | None:
        cells = sum((self._height // stride) * (self._width // stride) for stride in STRIDES)
        if shape[1] == cells and shape[2] > 5:
            return YOLOX
        if shape[1] == 3 * cells and shape[2] > 5:
            return YOLOV5
        if shape[2] == cells and shape[1] > 4:
            return YOLOV8
        return None

    def _preprocess(self) -> str:
        if self._layout is None:
            return (
                f"{DECODING}|resize({self._shorter},bilinear,antialias)|crop(center,{self._height})"
                f"|normalize({MEAN},{STD})"
            )
        where = "round down,upper left" if self._layout.corner else "round to nearest,center"
        return (
            f"{DECODING}|letterbox({self._height}x{self._width},bilinear,no antialias,{where},{GREY})"
            f"|{'bgr|0..255' if self._layout.bgr_255 else 'to_unit'}"
        )

    @property
    def _shorter(self) -> int:
        return round(self._height / 0.875)  # 256 for ImageNet's 224

    def _grey(self) -> Vectors:
        return np.full((3, self._height, self._width), 0.5, np.float32)

    def _refused(self, why: str) -> WeightsError:
        return WeightsError(f"{PREFIX}{self._file}: {why}")

    def load(self, device: str) -> None:
        if device.startswith("cuda"):
            self._session = _session(self._file, device)
        self.device = device

    def prepare(self, item: Image) -> Vectors:
        from torchvision.transforms import functional

        if self._layout is not None:
            return letterboxed(item, self._height, self._width, self._layout)
        resized = functional.center_crop(
            functional.resize(item, [self._shorter]), [self._height, self._width]
        )
        image: Vectors = functional.normalize(functional.to_tensor(resized), MEAN, STD).numpy()
        return image  # (3, size, size)

    def encode(self, batch: Sequence[Vectors]) -> dict[str, Vectors]:
        (values,) = self._run([self._output], batch)
        if self._layout is None:
            if values.ndim != 2 or len(values) != len(batch):
                raise self._refused(f"{len(batch)} images gave {list(values.shape)}, not one vector each")
            return {"pooled": values}
        if self._layout.boxes_last:
            return {"scores": values[:, 4:].max(axis=2)}
        return {"scores": (values[..., 4:5] * values[..., 5:]).max(axis=1)}

    def _run(self, names: list[str], batch: Sequence[Vectors]) -> list[Vectors]:
        """Each of the outputs for the whole batch, float32."""
        (given,) = self._session.get_inputs()
        size = 1 if self._one_by_one else len(batch)
        try:
            parts = [
                self._session.run(names, {given.name: np.stack(batch[start : start + size])})
                for start in range(0, len(batch), size)
            ]
        except Exception as error:  # onnxruntime's own, which have no common class
            raise self._refused(f"it does not run ({brief(error)})") from error
        whole: list[Vectors] = [np.concatenate(one, dtype=np.float32) for one in zip(*parts, strict=True)]
        return whole


def letterboxed(item: Image, height: int, width: int, layout: Layout) -> Vectors:
    """The picture at its own proportions within (3, height, width), the rest grey.

    Resized as OpenCV does it for all these detectors: linear between the four nearest pixels, without
    antialiasing. Their scores depend on it.
    """
    import torch
    from torchvision.transforms import functional

    scale = min(height / item.height, width / item.width)
    fit = int if layout.corner else round
    h, w = max(1, fit(item.height * scale)), max(1, fit(item.width * scale))
    top, left = (0, 0) if layout.corner else (round((height - h) / 2 - 0.1), round((width - w) / 2 - 0.1))
    canvas = torch.full((3, height, width), GREY, dtype=torch.uint8)
    canvas[:, top : top + h, left : left + w] = functional.resize(
        functional.pil_to_tensor(item), [h, w], antialias=False
    )
    image: Vectors = canvas.numpy().astype(np.float32)
    if layout.bgr_255:
        return np.ascontiguousarray(image[::-1])
    image /= 255
    return image


def _session(file: str, device: str) -> Any:
    """onnxruntime at work on a file.

    Raises:
        WeightsError: it is not installed, or cannot read the file; or the weights are in another file.
    """
    try:
        import onnxruntime  # noqa: F401 — without it no file is of use
    except ImportError as error:
        raise WeightsError(f"{PREFIX}… needs: pip install onnxruntime") from error
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise WeightsError(f"{PREFIX}{file}: {error.strerror}") from error
    if ELSEWHERE.search(content):
        raise WeightsError(f"{PREFIX}{file}: its weights are in another file; save all in one")
    try:
        return backends.session(content, device)
    except Exception as error:  # onnxruntime's own, which have no common class
        raise WeightsError(f"{PREFIX}{file}: onnxruntime cannot read it ({brief(error)})") from error


def card(name: str) -> Card:
    """What is known of any file."""
    return Card(
        "scores, or pooled",
        "as the file says",
        "its own",
        "--weights FILE",
        False,
        "onnxruntime",
        "onnxruntime",
    )
