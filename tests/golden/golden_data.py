"""The data of the golden files: thirty small images with captions and labels, and two small encoders.

They must stay as they are, to the byte: the stores know the images by their bytes.
"""

import csv
from pathlib import Path

import numpy as np

TRAIN, TEST = 24, 6
WORDS = ("red", "green", "blue", "sky", "grass", "apple")
CLASSES = ("1", "2", "3")
SIZE = 8  # of an image, in pixels


def write_input(folder: Path) -> None:
    """Write train.csv, test.csv and the images. The last caption of each table has no known word."""
    (folder / "data").mkdir(parents=True)
    draw = np.random.default_rng(2026)
    for split, rows in (("train", TRAIN), ("test", TEST)):
        labelled = split == "train"
        lines = [["ImageID", *(["Labels"] if labelled else []), "Caption"]]
        for row in range(rows):
            labels = draw.random(len(CLASSES)) < 0.5
            labels[row % len(CLASSES)] = True
            colour = np.where(labels, 200, 40) + draw.integers(-40, 41, (SIZE, SIZE, 3))
            words = [WORDS[c] for c in np.flatnonzero(labels)] + [WORDS[3 + draw.integers(3)]]
            caption = "xyzzy" if row == rows - 1 else " ".join(words)
            name = f"{split}{row}.bmp"
            (folder / "data" / name).write_bytes(bitmap(colour.astype(np.uint8)))
            names = " ".join(CLASSES[c] for c in np.flatnonzero(labels))
            lines.append([name, *([names] if labelled else []), caption])
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)


def bitmap(pixels: np.ndarray) -> bytes:
    """A BMP file of pixels (height, width, 3) uint8; without any library, whose next version may differ."""
    height, width, _ = pixels.shape

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    head = b"BM" + number(54 + pixels.size) + number(0) + number(54)
    shape = number(40) + number(width) + number(height) + number(1, 2) + number(24, 2) + number(0) * 6
    return head + shape + pixels[::-1, :, ::-1].tobytes()


def write_encoders(folder: Path) -> None:
    """Write glove.txt, vectors of the words, and image.onnx, a network from images to 6 numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(7)
    vectors = draw.normal(size=(len(WORDS), 50)).round(2)
    lines = (f"{word} {' '.join(map(str, row.tolist()))}" for word, row in zip(WORDS, vectors, strict=True))
    (folder / "glove.txt").write_text("\n".join(lines) + "\n")
    weights = draw.normal(size=(3, 6)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["vectors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "image.onnx")
