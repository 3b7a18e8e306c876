"""Stores of learnable rows whose vectors, captions and labels a test can change row by row."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from encode_once.cache import Store, Table, content_key
from encode_once.cache.keys import pack

CLASSES = ["ant", "bee", "cow", "dog"]
WORDS = [
    ["six legs", "tiny worker"],
    ["yellow wings", "honey hive"],
    ["green meadow", "milk"],
    ["bark", "bone"],
]
OTHERS = ["photo", "table", "street", "cloud", "window", "river", "stone", "paper"]


@dataclass
class Data:
    """n rows; image `i` has vector `image[i]` and caption `i` vector `text[i]`, both (n, d)."""

    labels: np.ndarray  # (n, 4) bool
    image: np.ndarray
    text: np.ndarray
    captions: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, seed=0, n=160):
        rng = np.random.default_rng(seed)
        labels = rng.random((n, 4)) < [0.5, 0.4, 0.3, 0.25]
        image, text = rng.normal(size=(2, n, 6)).astype(np.float32)
        image[:, :4] += 1.2 * labels
        text[:, 2:] += 1.2 * labels
        data = cls(
            labels, image, text, [], {"part": ["val" if row % 4 == 0 else "train" for row in range(n)]}
        )
        data.captions = [data.caption(row, rng) for row in range(n)]
        return data

    def caption(self, row, rng):
        """Words that depend on the labels of the row, among random ones; every caption is different."""
        telling = [rng.choice(WORDS[c]) for c in np.flatnonzero(self.labels[row])]
        return " ".join([*rng.permutation([*telling, *rng.choice(OTHERS, 4)]), f"number{row}"])

    def save(self, folder, order=None, names=CLASSES):
        """The store of these rows and their table, in this order, with these names of the classes."""
        source = folder / "data" / "train.csv"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.touch()
        order = np.arange(len(self.labels)) if order is None else order
        captions = [self.captions[row] for row in order]
        keys = {
            "image": pack(content_key(f"image {row}".encode()) for row in order),
            "caption": pack(content_key(caption.encode()) for caption in captions),
        }
        store = Store(folder / "store")
        for name, modality, vectors in (("e/image", "image", self.image), ("e/text", "caption", self.text)):
            with store.declare(name, {"modality": modality}).writer(len(order)) as writer:
                writer.append(keys[modality], vectors[order].astype(np.float16))
        store.save(
            Table(
                source=str(source),
                ids=[f"{row}.jpg" for row in order],
                images=[f"{row}.jpg" for row in order],
                captions=captions,
                labels=[tuple(np.array(names)[self.labels[row]].tolist()) for row in order],
                columns={name: [values[row] for row in order] for name, values in self.columns.items()},
                image_keys=keys["image"],
                caption_keys=keys["caption"],
            )
        )
        return store


@pytest.fixture
def data():
    return Data.drawn()
