"""Any network in an ONNX file, through onnxruntime: a YOLO detector's class scores, or an embedding.

ONNX files do not record their purpose. It is inferred from the shapes of input and output:

- the input is one image, float32 (batch, 3, height, width);
- a detector with strides 8, 16 and 32, whose grids have n cells in total, returns (1, n, 5 + classes) if it
  is YOLOX, (1, 3n, 5 + classes) if YOLOv5 or YOLOv7, (1, 4 + classes, n) if YOLOv8 or YOLO11; box (and
  objectness) come first. Each family has its own preprocessing, which the spec records;
- any other network must have one output (batch, d): an embedding of an image preprocessed as for ImageNet.

Other files are refused. A file with these shapes that was trained with another preprocessing cannot be
recognised: YOLOX before version 0.1.1 normalised its input, and embeddings may have any mean and std. The
spec records the preprocessing used.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from encode_once.cache import UsageError
from encode_once.cache.input_files import read_regular
from encode_once.cache.views import OWN_VIEW, View
from encode_once.extract.encoders import runtime
from encode_once.extract.encoders.base import RANDOM, Options, Tower, Vectors, file_identity
from encode_once.extract.encoders.image_network import of_view
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import DECODING
from encode_once.extract.images.framing import framing

PREFIX = "onnx:"

STRIDES = (8, 16, 32)
GREY = 114  # the padding that YOLO detectors are trained with
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
# A tensor whose values are in another file (field 13), which the content key would not cover.
EXTERNAL_DATA = re.compile(rb"\x6a.{1,2}\n\x08location\x12", re.DOTALL)


class Layout(NamedTuple):
    """Input and output format of a family of detectors."""

    family: str
    corner: bool  # whether the image is placed in the upper left corner, not in the middle
    bgr_255: bool  # whether the input is BGR in 0 … 255, not RGB in 0 … 1
    boxes_last: bool  # whether the output is (1, 4 + classes, boxes), not (1, boxes, 5 + classes)


YOLOX = Layout("YOLOX", corner=True, bgr_255=True, boxes_last=False)
YOLOV5 = Layout("YOLOv5", corner=False, bgr_255=False, boxes_last=False)
YOLOV8 = Layout("YOLOv8", corner=False, bgr_255=False, boxes_last=True)


def towers(name: str, options: Options) -> list[Tower]:
    """The tower for a file."""
    if options.weights == RANDOM:
        raise WeightsError(f"{name}: an ONNX file contains its weights; random weights are not possible")
    return [OnnxImages(options.weights or name.removeprefix(PREFIX), options.view)]


class NetworkFile(NamedTuple):
    """The network of an embedding, for other programs to run."""

    file: str
    input: str  # (batch, 3, size, size) float32, normalised by MEAN and STD
    output: str  # (batch, d)
    size: int
    single: bool  # whether it takes one image at a time


class OnnxImages(Tower):
    """Detector `scores` (classes,), not thresholded, or the vector `pooled` (d,) of another network."""

    modality = "image"
    parallel = True
    libraries = ("onnxruntime", "torchvision", "torch", "pillow")

    def __init__(self, file: str, view: View = OWN_VIEW) -> None:
        self._file, self.view = file, view
        self._session = _session(file, "cpu")
        self._height, self._width, self._single = self._input()
        self._output, self._layout = self._infer_output()
        if view.size:
            raise UsageError(
                f"{PREFIX}{file} takes images of {self._height} pixels only: leave out the size of @{view}"
            )
        if view and self._layout:
            raise UsageError(f"{PREFIX}{file} is a detector, which has no views: leave out @{view}")
        self.framing = framing(view, self._height, "bilinear", MEAN)
        spec = {
            "encoder": "onnx",
            "architecture": self._layout.family if self._layout else "embedding",
            "weights": file_identity(file),
            "preprocess": self._preprocess(),
            "precision": "as the file says",
        }
        if self._layout is None:
            pooling = {"pooling": f"output {self._output}, as it is", **of_view(view, "pooled")}
            super().__init__({"pooled": {**spec, **pooling}})
        else:
            score = "class" if self._layout.boxes_last else "objectness * class"
            super().__init__({"scores": {**spec, "pooling": f"highest {score} of all boxes"}})

    def _input(self) -> tuple[int, int, bool]:
        """Height and width of the input, and whether the batch size is fixed to 1."""
        inputs = self._session.get_inputs()
        shapes = ", ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in inputs)
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
                f"its input is {shapes}; export it for a fixed image size: "
                "float (1 or batch, 3, height, width)"
            )
        return shape[2], shape[3], shape[0] == 1

    def _infer_output(self) -> tuple[str, Layout | None]:
        """The output to keep, and its layout if it is a detector's, inferred from a grey image's output."""
        task = self._session.get_modelmeta().custom_metadata_map.get("task", "detect")
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._run(names, [self._grey()]), strict=True))
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
        vectors = [name for name, values in outputs.items() if values.ndim == 2 and len(values) == 1]
        boxes = [name for name, values in outputs.items() if values.ndim == 3]
        if len(vectors) == 1:
            if self._height != self._width:
                raise self._refused(
                    f"it embeds {self._height} × {self._width} pixels; only square images can be cropped"
                )
            return vectors[0], None
        if vectors or len(boxes) != 1 or task != "detect":
            raise self._refused(
                f"its output is {shapes} (task {task}); expected one (1, d) or a detector's output"
            )
        values = outputs[boxes[0]]
        layout = self._layout_of(values.shape)
        if layout is None:
            raise self._refused(f"its output is {shapes}, which does not fit YOLOX, YOLOv5 or YOLOv8")
        parts = values[:, 4:] if layout.boxes_last else values[..., 4:]
        if parts.min() < 0 or parts.max() > 1:
            raise self._refused(f"its scores are not probabilities ({parts.min():.2g} to {parts.max():.2g})")
        if layout is YOLOX and (values[..., 4] == 1).all():
            raise self._refused("its output has YOLOX's shape, but its objectness is always 1, as in YOLOv6")
        return boxes[0], layout

    def _layout_of(self, shape: tuple[int, ...]) -> Layout | None:
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
            own = f"resize({self.resized_side},bilinear,antialias)|crop(center,{self._height})"
            return f"{DECODING}|{self.framing or own}|normalize({MEAN},{STD})"
        where = "round down,upper left" if self._layout.corner else "round to nearest,center"
        return (
            f"{DECODING}|letterbox({self._height}x{self._width},bilinear,no antialias,{where},{GREY})"
            f"|{'bgr|0..255' if self._layout.bgr_255 else 'to_unit'}"
        )

    @property
    def resized_side(self) -> int:
        """Pixels of the shorter side of an embedding's images, before they are cropped."""
        return round(self._height / 0.875)  # 256 for ImageNet's 224

    @property
    def network_file(self) -> NetworkFile | None:
        """The network of an embedding; None of a detector."""
        (tensor,) = self._session.get_inputs()
        network = NetworkFile(self._file, tensor.name, self._output, self._height, self._single)
        return None if self._layout else network

    def _grey(self) -> Vectors:
        return np.full((3, self._height, self._width), 0.5, np.float32)

    def _refused(self, reason: str) -> WeightsError:
        return WeightsError(f"{PREFIX}{self._file}: {reason}")

    def load(self, device: str) -> None:
        if device.startswith("cuda"):
            self._session = _session(self._file, device)
        self.device = device

    def prepare(self, item: Image) -> Vectors:
        from torchvision.transforms import functional

        if self._layout is not None:
            return letterboxed(item, self._height, self._width, self._layout)
        if self.framing:
            squares = self.framing.squares(item)
        else:
            resized = functional.resize(item, [self.resized_side])
            squares = [functional.center_crop(resized, [self._height, self._width])]
        images = [functional.normalize(functional.to_tensor(square), MEAN, STD).numpy() for square in squares]
        if self.view.flip:
            images += [np.ascontiguousarray(image[..., ::-1]) for image in images]
        return np.concatenate(images)  # (3, size, size), or one behind the other, those that are averaged

    def encode(self, batch: Sequence[Vectors]) -> dict[str, Vectors]:
        if self._layout is None:
            parts = [
                self._encoded(squares)
                for squares in zip(*(np.split(x, len(x) // 3) for x in batch), strict=True)
            ]
            return {"pooled": np.mean(parts, axis=0)}
        (values,) = self._run([self._output], batch)
        if self._layout.boxes_last:
            return {"scores": values[:, 4:].max(axis=2)}
        return {"scores": (values[..., 4:5] * values[..., 5:]).max(axis=1)}

    def _encoded(self, images: Sequence[Vectors]) -> Vectors:
        (vectors,) = self._run([self._output], images)
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise self._refused(f"{len(images)} images gave {list(vectors.shape)}, not a vector for each")
        return vectors

    def _run(self, names: list[str], batch: Sequence[Vectors]) -> list[Vectors]:
        """The outputs `names` for the whole batch, float32."""
        (tensor,) = self._session.get_inputs()
        size = 1 if self._single else len(batch)
        with weights_errors(f"{PREFIX}{self._file}: it does not run"):
            parts = [
                self._session.run(names, {tensor.name: np.stack(batch[start : start + size])})
                for start in range(0, len(batch), size)
            ]
        outputs: list[Vectors] = [
            np.concatenate(batches, dtype=np.float32) for batches in zip(*parts, strict=True)
        ]
        return outputs


def letterboxed(item: Image, height: int, width: int, layout: Layout) -> Vectors:
    """The image resized into (3, height, width) with its aspect ratio kept, padded with grey.

    Resized as these detectors do it with OpenCV: bilinear, without antialiasing. Their scores depend on it.
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
    """An onnxruntime session for a file.

    Raises:
        WeightsError: onnxruntime is missing or cannot read the file, or the weights are in another file.
    """
    try:
        import onnxruntime  # noqa: F401 — to fail before the file is read
    except ImportError as error:
        raise WeightsError(f"{PREFIX}… needs: pip install onnxruntime") from error
    try:
        content = read_regular(file)
    except OSError as error:
        raise WeightsError(f"{PREFIX}{file}: {error.strerror}") from error
    if EXTERNAL_DATA.search(content):
        raise WeightsError(f"{PREFIX}{file}: its weights are in another file; save everything in one file")
    with weights_errors(f"{PREFIX}{file}: onnxruntime cannot read it"):
        return runtime.session(content, device)
