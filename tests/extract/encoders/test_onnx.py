"""An ONNX file's features equal those of onnxruntime for an image that numpy prepared."""

import builtins
import csv

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from encode_once.cache import Store, content_key
from encode_once.extract import encode
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import DECODING
from tests.conftest import SHARED, picture

YOLOX_NANO = (SHARED / "weights/yolox_nano.onnx").resolve()
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
IMAGES = [picture(seed, size) for seed, size in enumerate([(64, 48), (40, 90), (500, 375), (33, 33)])]


def tower(path):
    (onnx_tower,) = towers(f"onnx:{path}", Options())
    onnx_tower.load("cpu")
    return onnx_tower


def encoded(onnx_tower, images, batch):
    ready = [onnx_tower.prepare(image) for image in images]
    parts = [onnx_tower.encode(ready[i : i + batch]) for i in range(0, len(ready), batch)]
    (output,) = onnx_tower.specs
    return np.concatenate([part[output] for part in parts])


def model(path, shape, output, nodes, constants=(), metadata=None, **save):
    """Write a small ONNX file with the shapes of its input and output, and its nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(values, name) for name, values in dict(constants).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, metadata or {})
    onnx.save_model(proto, str(path), **save)
    return path


def embedding(path, size=32, batch="batch", **save):
    """Averages over 4 × 4 pixels, then a linear layer to 7 numbers: every pixel has an influence."""
    cells = 3 * (size // 4) ** 2
    constants = {"w": np.random.default_rng(0).normal(size=(cells, 7)).astype(np.float32)}
    nodes = [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["out"]),
    ]
    return model(path, [batch, 3, size, size], [batch, 7], nodes, constants, **save)


def detector(path, shape, size=64, offset=0.0, batch=1, metadata=None):
    """An untrained detector: each output is a sigmoid of a weighted sum over the image."""
    rows = (
        np.random.default_rng(1).normal(size=(3 * (size // 8) ** 2, int(np.prod(shape)))).astype(np.float32)
    )
    nodes = [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["sums"]),
        helper.make_node("Mul", ["sums", "scale"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["sure"]),
        helper.make_node("Add", ["sure", "offset"], ["moved"]),
        helper.make_node("Reshape", ["moved", "shape"], ["out"]),
    ]
    constants = {
        "w": rows,
        "scale": np.float32(0.02),
        "offset": np.float32(offset),
        "shape": np.array([0, *shape], np.int64),
    }
    return model(path, [batch, 3, size, size], [batch, *shape], nodes, constants, metadata)


def bilinear(image, height, width):
    """(h, w, 3) → (height, width, 3), between the four nearest pixels, rounded to whole values."""
    pixels = np.asarray(image, np.float64)

    def places(target, size):
        at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, size - 1), at - low

    top, bottom, v = places(height, pixels.shape[0])
    left, right, u = places(width, pixels.shape[1])
    rows = pixels[top] * (1 - v)[:, None, None] + pixels[bottom] * v[:, None, None]
    return rows[:, left] * (1 - u)[:, None] + rows[:, right] * u[:, None]


def letterboxed_by_hand(image, size, corner):
    """(size, size, 3) RGB of 0…255."""
    scale = min(size / image.width, size / image.height)
    w, h = image.width * scale, image.height * scale
    w, h = (int(w), int(h)) if corner else (round(w), round(h))
    y, x = (0, 0) if corner else ((size - h) // 2, (size - w) // 2)
    canvas = np.full((size, size, 3), 114.0)
    canvas[y : y + h, x : x + w] = bilinear(image, h, w)
    return canvas


def run(path, array):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array[None].astype(np.float32)})[0][0]


@pytest.mark.skipif(not YOLOX_NANO.exists(), reason="no shared weights")
@pytest.mark.parametrize("batch", [1, 4])
def test_yolox_equals_onnxruntime(batch):
    outputs = encoded(tower(YOLOX_NANO), IMAGES, batch)
    assert outputs.shape == (4, 80)
    assert outputs.dtype == np.float32
    for image, scores in zip(IMAGES, outputs, strict=True):
        boxes = run(YOLOX_NANO, np.round(letterboxed_by_hand(image, 416, True))[..., ::-1].transpose(2, 0, 1))
        np.testing.assert_allclose(scores, (boxes[:, 4:5] * boxes[:, 5:]).max(0), rtol=0.02, atol=1e-4)


@pytest.mark.skipif(not YOLOX_NANO.exists(), reason="no shared weights")
def test_yolox_in_a_store(folder, tmp_path):
    root, store = folder(3), Store(tmp_path / "store")
    name = "onnx:yolox_nano.onnx"
    encode(root, [name], store, weights={name: str(YOLOX_NANO)}, device="cpu")
    feature = store.feature(f"{name}/scores")
    assert feature.spec == {
        "modality": "image",
        "encoder": "onnx",
        "architecture": "YOLOX",
        "weights": f"blake2b:{content_key(YOLOX_NANO.read_bytes()).hex()}",
        "preprocess": f"{DECODING}|letterbox(416x416,bilinear,no antialias,round down,upper left,114)"
        "|bgr|0..255",
        "pooling": "highest objectness * class of all boxes",
        "precision": "as the file says",
    }
    assert "onnxruntime" in tower(YOLOX_NANO).provenance()
    (table,) = store.tables()
    with (root / "train.csv").open() as file:
        images = [Image.open(root / "data" / row["ImageID"]) for row in csv.DictReader(file)]
    expected = encoded(tower(YOLOX_NANO), images, 1)
    np.testing.assert_allclose(feature.read(table.keys("image")), expected, rtol=2e-3, atol=1e-4)


@pytest.mark.real
@pytest.mark.skipif(not YOLOX_NANO.exists(), reason="no shared weights")
def test_yolox_detects_zebras(shared):
    with (shared / "coco19-9k/train.csv").open() as file:
        named = [row["ImageID"] for row in csv.DictReader(file) if "zebra" in row["Caption"].lower()][:12]
    images = [Image.open(shared / "coco19-9k/data" / name).convert("RGB") for name in named]
    zebra = (SHARED / "weights/coco80.txt").read_text().split("\n").index("zebra")
    assert (encoded(tower(YOLOX_NANO), images, 1).argmax(1) == zebra).sum() >= 9


CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of strides 8, 16 and 32 on 64 × 64 pixels


@pytest.mark.parametrize(
    ("family", "shape"),
    [("YOLOX", (CELLS, 8)), ("YOLOv5", (3 * CELLS, 8)), ("YOLOv8", (7, CELLS)), ("YOLOv8", (100, CELLS))],
)
@pytest.mark.parametrize("batch", [1, "n"])
def test_families_of_detectors_are_recognised_by_their_shapes(tmp_path, family, shape, batch):
    path = detector(tmp_path / "yolo.onnx", shape, batch=batch)
    onnx_tower = tower(path)
    assert onnx_tower.specs["scores"]["architecture"] == family
    whole, single = encoded(onnx_tower, IMAGES, 4), encoded(onnx_tower, IMAGES, 1)
    np.testing.assert_allclose(whole, single, rtol=1e-5)
    for image, scores in zip(IMAGES, whole, strict=True):
        pixels = np.round(letterboxed_by_hand(image, 64, corner=family == "YOLOX"))
        pixels = pixels[..., ::-1] if family == "YOLOX" else pixels / 255
        boxes = run(path, pixels.transpose(2, 0, 1))
        expected = boxes[4:].max(1) if family == "YOLOv8" else (boxes[:, 4:5] * boxes[:, 5:]).max(0)
        np.testing.assert_allclose(scores, expected, rtol=1e-2, atol=1e-3)
    if family != "YOLOX":
        assert onnx_tower.specs["scores"]["preprocess"] == (
            f"{DECODING}|letterbox(64x64,bilinear,no antialias,round to nearest,center,114)|to_unit"
        )


@pytest.mark.parametrize("batch", [1, "n"])
def test_an_embedding_equals_onnxruntime(tmp_path, batch):
    path = embedding(tmp_path / "e.onnx", batch=batch)
    onnx_tower = tower(path)
    whole, single = encoded(onnx_tower, IMAGES, 4), encoded(onnx_tower, IMAGES, 1)
    np.testing.assert_allclose(whole, single, rtol=1e-5, atol=1e-5)
    for image, vector in zip(IMAGES, whole, strict=True):
        scale = 37 / min(image.size)  # 32 / 0.875
        size = [max(37, int(side * scale)) for side in image.size]
        small = image.resize(size, Image.Resampling.BILINEAR)
        x, y = round((small.width - 32) / 2), round((small.height - 32) / 2)
        pixels = (np.asarray(small.crop((x, y, x + 32, y + 32))) / 255 - MEAN) / STD
        np.testing.assert_allclose(vector, run(path, pixels.transpose(2, 0, 1)), rtol=1e-4, atol=1e-4)
    assert onnx_tower.specs["pooled"] == {
        "modality": "image",
        "encoder": "onnx",
        "architecture": "embedding",
        "weights": f"blake2b:{content_key(path.read_bytes()).hex()}",
        "preprocess": f"{DECODING}|resize(37,bilinear,antialias)|crop(center,32)"
        "|normalize((0.485, 0.456, 0.406),(0.229, 0.224, 0.225))",
        "pooling": "output out, as it is",
        "precision": "as the file says",
    }


IDENTITY = [helper.make_node("Identity", ["images"], ["out"])]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b"not a model"), "onnxruntime cannot read it"),
        (
            lambda path: model(path, [1, 3, "h", "w"], [1, 3, "h", "w"], IDENTITY),
            "its input is images .*fixed image size",
        ),
        (
            lambda path: model(path, [1, 32, 32, 3], [1, 32, 32, 3], IDENTITY),
            "its input is images .*fixed image size",
        ),
        (
            lambda path: model(path, [8, 3, 32, 32], [8, 3, 32, 32], IDENTITY),
            "its input is images .*fixed image size",
        ),
        (
            lambda path: model(path, [1, 3, 32, 32], [1, 3, 32, 32], IDENTITY),
            r"its output is out \[1, 3, 32, 32\]",
        ),
        (lambda path: detector(path, (300, 6)), r"\[1, 300, 6\], which does not fit YOLOX"),
        (lambda path: detector(path, (CELLS, 8), offset=1.0), "not probabilities"),
        (lambda path: detector(path, (40, CELLS), metadata={"task": "segment"}), "task segment"),
        (lambda path: embedding(path, save_as_external_data=True, size_threshold=0), "are in another file"),
    ],
)
def test_a_file_of_unknown_layout_is_refused_in_one_line(tmp_path, make, message):
    path = tmp_path / "m.onnx"
    make(path)
    with pytest.raises(WeightsError, match=message) as caught:
        tower(path)
    assert str(caught.value).startswith(f"onnx:{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_whose_objectness_is_always_one_is_not_yolox(tmp_path):
    shape = [1, CELLS, 8]
    values = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    values[..., 4] = 1
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["values", "nothing"], ["out"]),
    ]
    constants = {"values": values, "zero": np.float32(0)}
    path = model(tmp_path / "v6.onnx", [1, 3, 64, 64], shape, nodes, constants)
    with pytest.raises(WeightsError, match="YOLOv6"):
        tower(path)


def test_random_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="contains its weights"):
        towers(f"onnx:{embedding(tmp_path / 'e.onnx')}", Options(weights="random"))


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(WeightsError, match="pip install onnxruntime"):
        towers(f"onnx:{tmp_path}/e.onnx", Options())
