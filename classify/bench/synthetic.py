"""Synthetic rows that can be learned in part, to measure without data."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from encode_once.cache import Store, Table
from encode_once.cache.keys import KEY_BYTES

CHUNK = 4096  # rows generated at a time
LATENTS = 64
CLASSES = 19
FREQUENCIES = (0.75, *np.geomspace(0.15, 0.01, CLASSES - 1))  # like persons and other things in MS-COCO
SEPARATION = 2.0  # mean deviate of a class's positives minus that of its negatives
PRODUCTS, NOISE = 0.5, 0.4  # weights in a class's score; the latent factors themselves have weight 1


@contextmanager
def synthetic_store(rows: int, dim: int, seed: int = 0) -> Iterator[Path]:
    """A temporary store with one feature (rows, dim) and a table with 19 skewed classes; yields its path.

    Vectors are normal, with variance 1/j along the j-th of their principal axes, which are rotated against
    the columns. The first 64 axes decide the labels: a row has a class if a mixture of them, plus a product
    of two such mixtures, which no linear head can learn, plus noise, is high enough.
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
                chunk = slice(start, min(start + CHUNK, rows))
                factors = rng.standard_normal((chunk.stop - start, dim), np.float32)
                writer.append(keys[chunk], (factors @ axes).astype(np.float16))
                linear, left, right = factors[:, :latents] @ mixtures  # (rows, classes) each
                scores[chunk] += linear + PRODUCTS * left * right
        thresholds = [np.quantile(of, 1 - share) for of, share in zip(scores.T, FREQUENCIES, strict=True)]
        labels = [tuple(map(str, np.flatnonzero(row))) for row in scores > thresholds]
        ids = [*map(str, range(rows))]
        store.save(Table(folder, ids, ids, ids, labels, image_keys=keys, caption_keys=keys))
        yield store.path


def synthetic_scores(rows: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores and labels (rows, classes) of a good model: of the rows with score s, a share s is positive.

    The classes' frequencies fall from one half to one in two hundred. Each row and class has a normal
    deviate, higher by `SEPARATION` for positives; its log-odds are `SEPARATION` times the deviate, plus
    those of the frequency.
    """
    rng = np.random.default_rng(seed)
    frequencies = np.geomspace(0.5, 0.005, classes)
    labels = rng.random((rows, classes)) < frequencies
    deviates = rng.standard_normal((rows, classes)) + SEPARATION * (labels - 0.5)
    return expit(SEPARATION * deviates + logit(frequencies)).astype(np.float32), labels
