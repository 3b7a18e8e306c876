"""The data of the golden files: thirty small images with captions and labels.

glove.txt has random vectors of the words, and image.onnx is a random layer on an image's mean colour.
All of it must stay as it is, to the byte: the stores know images and weights by their bytes.
"""

import csv
from pathlib import Path

import numpy as np

TRAIN, TEST = 24, 6
WORDS = ("red", "green", "blue", "sky", "grass", "apple")
CLASSES = ("1", "2", "3")
SIZE = 8  # of an image, in pixels


def write_input(folder: Path, unknown: bool = False) -> None:
    """Write train.csv, test.csv and the images. The last caption of each table has no known word.

    unknown: whether the train table also names labels of which it is not known whether a row has them.
    """
    (folder / "data").mkdir(parents=True)
    draw = np.random.default_rng(2026)
    for split, rows in (("train", TRAIN), ("test", TEST)):
        labelled = split == "train"
        header = ["Labels", *(["unknown_labels"] if unknown else [])] if labelled else []
        lines = [["ImageID", *header, "Caption"]]
        for row in range(rows):
            labels = draw.random(len(CLASSES)) < 0.5
            labels[row % len(CLASSES)] = True
            colour = np.where(labels, 200, 40) + draw.integers(-40, 41, (SIZE, SIZE, 3))
            words = [WORDS[c] for c in np.flatnonzero(labels)] + [WORDS[3 + draw.integers(3)]]
            caption = "xyzzy" if row == rows - 1 else " ".join(words)
            name = f"{split}{row}.bmp"
            (folder / "data" / name).write_bytes(bitmap(colour.astype(np.uint8)))
            cells = [" ".join(CLASSES[c] for c in np.flatnonzero(labels))]
            cells += [" ".join(CLASSES[c] for c in np.flatnonzero(~labels)[: row % 2])] if unknown else []
            lines.append([name, *(cells if labelled else []), caption])
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
