"""Real photographs and captions are read from every container as from the plain folder."""

from pathlib import Path

import pytest

from encode_once.cache.file_index import FileIndex
from encode_once.extract import readers
from encode_once.extract.images import hashing
from tests.extract.readers.test_containers import rows
from tests.extract.readers.writers import WRITERS, Sample, captioned_images

pytestmark = pytest.mark.real
ROWS = 300


@pytest.fixture(scope="module")
def real(shared):
    """The plain folder's first rows with their keys, and the same as samples."""
    table = readers.read(shared / "coco19-9k")[0]["train"]
    for column in (table.ids, table.images, table.captions, table.labels):
        del column[ROWS:]
    samples = [
        Sample(name, Path(path).read_bytes(), [caption], list(labels))
        for name, path, caption, labels in zip(
            table.ids, table.images, table.captions, table.labels, strict=True
        )
    ]
    return table, samples


@pytest.mark.parametrize("name", [*WRITERS, "captioned_images"])
def test_real_samples_are_read_as_from_the_plain_folder(real, tmp_path, name):
    table, samples = real
    if name == "captioned_images":
        root = captioned_images(tmp_path / name, samples)
    else:
        root = WRITERS[name](tmp_path / name, {"train": samples})
    converted = readers.read(root)[0]["train"]
    for read_table in (table, converted):
        assert hashing.add_keys(read_table, FileIndex(tmp_path / "files.sqlite"), 2) == {}
    if name == "captioned_images":
        converted.labels = table.labels  # captioned folders have no labels
    assert rows(converted) == rows(table)
    assert converted.label_separator == " " or name in ("tsv", "parquet_bytes", "plain_tar")
