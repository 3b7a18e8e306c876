import numpy as np
import pytest

from encode_once.cache import Store, Table, content_key
from encode_once.cache.keys import pack
from tests.browser import browsing

CLASSES = ["cat", "dog", "traffic light", "10", "9"]


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of pages; they carry the mark `xdist_group("browser")`."""
    with browsing() as launched:
        yield launched


@pytest.fixture
def filled(tmp_path):
    """A function that fills a store with a learnable table: two features, each of several classes."""

    def make(n=400, missing=(), name="store", source="data/train.csv", seed=0):
        rng = np.random.default_rng(seed)
        Y = rng.random((n, 5)) < [0.5, 0.3, 0.2, 0.3, 0.15]
        labels = [tuple(np.array(CLASSES)[row].tolist()) for row in Y]
        names = [f"{seed}-{row}" for row in range(n)]
        keys = pack(content_key(name.encode()) for name in names)
        source = tmp_path / source
        source.parent.mkdir(exist_ok=True)
        source.touch()
        table = Table(
            source=str(source),
            ids=[f"{name}.jpg" for name in names],
            images=names,
            captions=names,
            labels=labels,
            label_separator=";",
            columns={"part": ["val" if row % 4 == 0 else "train" for row in range(n)]},
            image_keys=keys,
            caption_keys=keys,
        )
        store = Store(tmp_path / name)
        for feature_name, modality, learnable in (("e/image", "image", 3), ("e/text", "caption", 5)):
            X = rng.normal(size=(n, 8)).astype(np.float32)
            X[:, :learnable] += 2.5 * Y[:, :learnable]
            feature = store.declare(feature_name, {"modality": modality})
            has_vector = np.array([row not in missing or modality == "caption" for row in range(n)])
            with feature.writer(n) as writer:
                writer.append(keys[has_vector], X[has_vector].astype(np.float16))
        store.save(table)
        return store

    return make
