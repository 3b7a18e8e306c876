"""Made-up rows that can be learned, though not wholly: to measure where there are no data."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from encode_once.cache import Store, Table
from encode_once.cache.keys import KEY_BYTES

CHUNK = 4096  # rows made at a time
LATENTS = 64
CLASSES = 19
FREQUENCIES = (0.75, *np.geomspace(0.15, 0.01, CLASSES - 1))  # as of MS-COCO's persons beside other things
APART = (
    2.0  # how far the scores of a class's positives lie from those of its negatives, in deviations of either
)
PRODUCTS, NOISE = 0.5, 0.4  # shares of a class's score, that of the latent factors themselves being 1


@contextmanager
def made_up(rows: int, dim: int, seed: int = 0) -> Iterator[Path]:
    """The path of a temporary store of one feature of so many rows (rows, dim), with 19 skewed classes.

    Vectors are normal, with variance 1/j along the j-th of their principal axes, which lie askew to the
    columns. The first 64 of these decide the labels: a row has a class where a mixture of them, plus a
    product of two such mixtures, which no linear head sees, plus noise, is high enough.
    """
    rng = np.random.default_rng(seed)
    latents = min(LATENTS, dim)
    axes, _ = np.linalg.qr(rng.standard_normal((dim, dim), np.float32))
    axes *= np.arange(1, dim + 1, dtype=np.float32)[:, None] ** -0.5
    mixtures = rng.standard_normal((3, latents, CLASSES), np.float32)
    mixtures /= np.linalg.norm(mixtures, axis=1, keepdims=True)
    scores = NOISE * rng.standard_normal((rows, CLASSES), np.float32)
    keys = rng.integers(0, 256, (rows, KEY_BYTES), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        with store.declare("synthetic/image", {"modality": "image"}).writer(rows) as writer:
            for start in range(0, rows, CHUNK):
                some = slice(start, min(start + CHUNK, rows))
                factors = rng.standard_normal((some.stop - start, dim), np.float32)
                writer.append(keys[some], (factors @ axes).astype(np.float16))
                alone, one, other = factors[:, :latents] @ mixtures  # (rows, classes) each
                scores[some] += alone + PRODUCTS * one * other
        cuts = [np.quantile(of, 1 - often) for of, often in zip(scores.T, FREQUENCIES, strict=True)]
        labels = [tuple(map(str, np.flatnonzero(row))) for row in scores > cuts]
        ids = [*map(str, range(rows))]
        store.save(Table(folder, ids, ids, ids, labels, image_keys=keys, caption_keys=keys))
        yield store.path


def scored(rows: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores and labels (rows, classes) as of a good model: of a score s, a share of s is positive.

    The classes' frequencies fall from one half to one in two hundred. A normal deviate, higher by `APART` in
    the positives, tells them apart by log-odds of `APART` times itself, to which those of the frequency add.
    """
    rng = np.random.default_rng(seed)
    frequencies = np.geomspace(0.5, 0.005, classes)
    labels = rng.random((rows, classes)) < frequencies
    deviates = rng.standard_normal((rows, classes)) + APART * (labels - 0.5)
    return expit(APART * deviates + logit(frequencies)).astype(np.float32), labels
