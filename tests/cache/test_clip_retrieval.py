"""The folder of clip-retrieval: three files of the same rows, as its own commands write and read them."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from encode_once.cache import DataError, Store, Table, UsageError, content_key
from encode_once.cache.clip_retrieval import select_pairs, write
from encode_once.cache.format import part as parts_module
from encode_once.cache.keys import NO_KEY, pack

N = 12
IMAGES = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float16)
TEXTS = np.random.default_rng(1).normal(size=(2 * N, 4)).astype(np.float16)
IMAGES[3] = 0  # without a direction
NO_IMAGE, NO_TEXT = 5, 7  # rows whose encoding failed


def keys(kind, rows):
    return pack(content_key(f"{kind} {row}".encode()) for row in rows)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Twelve rows of an image and a caption; those of even number have a second caption."""
    monkeypatch.setattr(parts_module, "COPY_BYTES", 40)  # several chunks
    store = Store(tmp_path / "store")
    for name, modality, values, failed in (
        ("clip/image", "image", IMAGES, NO_IMAGE), ("clip/text", "caption", TEXTS, NO_TEXT),
    ):  # fmt: skip
        rows = [row for row in range(len(values)) if row != failed]
        with store.declare(name, {"modality": modality}).writer(len(rows)) as writer:
            writer.append(keys(modality, rows), values[rows])
    second = keys("caption", range(N, 2 * N)).copy()
    second[1::2] = np.frombuffer(NO_KEY, np.uint8)
    store.save(
        Table(
            "/d/train.csv",
            [f"id {row}" for row in range(N)],
            [f"/d/{row}.jpg" for row in range(N)],
            [f"caption {row}" for row in range(N)],
            None,
            image_keys=keys("image", range(N)),
            caption_keys=keys("caption", range(N)),
            more_captions=[["" if row % 2 else f"caption {N + row}" for row in range(N)]],
            more_caption_keys=[second],
        )
    )
    return store


def unit(values):
    values = values.astype(np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def written(store, tmp_path, *names):
    """The arrays and the metadata of an exported folder, and the number of rows left out."""
    pairs = select_pairs([store.feature(name) for name in names], store.table())
    write(pairs, tmp_path / "out")
    arrays = {path.stem: np.load(path) for path in (tmp_path / "out").glob("*_emb/*_emb_0.npy")}
    metadata = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet").to_pylist()
    return arrays, metadata, pairs.without


def test_images_alone(store, tmp_path):
    arrays, metadata, without = written(store, tmp_path, "clip/image")
    rows = [row for row in range(N) if row != NO_IMAGE]
    assert [*arrays] == ["img_emb_0"]
    assert arrays["img_emb_0"].dtype == np.float16
    np.testing.assert_allclose(arrays["img_emb_0"], unit(IMAGES[rows]), atol=1e-3)
    assert metadata == [
        {"image_path": f"/d/{row}.jpg", "caption": f"caption {row}", "id": f"id {row}"} for row in rows
    ]
    assert without == 1


def test_every_caption_has_its_image_and_rows_stay_aligned(store, tmp_path):
    arrays, metadata, without = written(store, tmp_path, "clip/text", "clip/image")
    first = [(row, row) for row in range(N) if row not in (NO_IMAGE, NO_TEXT)]
    pairs = first + [(row, N + row) for row in range(0, N, 2) if row != NO_IMAGE]
    np.testing.assert_allclose(arrays["img_emb_0"], unit(IMAGES[[image for image, _ in pairs]]), atol=1e-3)
    np.testing.assert_allclose(arrays["text_emb_0"], unit(TEXTS[[text for _, text in pairs]]), atol=1e-3)
    assert [line["image_path"] for line in metadata] == [f"/d/{image}.jpg" for image, _ in pairs]
    assert [line["caption"] for line in metadata] == [f"caption {text}" for _, text in pairs]
    assert without == 2


def test_captions_alone(store, tmp_path):
    arrays, metadata, without = written(store, tmp_path, "clip/text")
    assert [*arrays] == ["text_emb_0"]
    assert len(metadata) == len(arrays["text_emb_0"]) == N - 1 + N // 2
    assert without == 1


def test_what_does_not_fit_the_layout_is_refused(store, tmp_path):
    with store.declare("glove/tokens", {"modality": "caption"}).writer(1) as writer:
        writer.append(keys("caption", [0]), TEXTS[:2], np.array([2]))
    store.declare("own/imported", {"modality": "row"})
    for names in (("clip/image", "clip/image"), ("own/imported",), ("clip/image", "own/imported")):
        with pytest.raises(UsageError, match="a feature of images, one of captions, or one of each"):
            select_pairs([store.feature(name) for name in names], store.table())
    with pytest.raises(DataError, match="glove/tokens has a sequence per row"):
        select_pairs([store.feature("glove/tokens")], store.table())
    with pytest.raises(DataError, match=r"no row of /d/train\.csv has a vector of empty/image"):
        select_pairs([store.declare("empty/image", {"modality": "image"})], store.table())
    pairs = select_pairs([store.feature("clip/image")], store.table())
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists"):
        write(pairs, tmp_path / "out")
