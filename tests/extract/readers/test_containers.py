"""The same samples give the same tables and the same keys in every container."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encode_once.cache.file_index import FileIndex
from encode_once.extract import readers
from encode_once.extract.images import hashing
from encode_once.extract.readers.missing import is_missing
from tests.conftest import examples
from tests.extract.readers.writers import WRITERS, Sample, captioned_images, csv_folder

SAMPLES = {
    "train": [
        Sample("0.jpg", b"\xff\xd8zero", ["a dog, "], ["dog", "traffic light"]),
        Sample("1.png", b"\x89PNGone", ['two "cats"', "ein Kätzchen", "three\ttabs"], ["cat"]),
        Sample("2.jpg", b"\xff\xd8zero", ["a dog, ", "again"], []),
        Sample("a3.webp", b"RIFF" + bytes(5000), [], ["dog"]),
        Sample("4.jpeg", b"four", ["::@1+2"], ["cat", "dog"]),
        Sample("5.jpg", b"five", ["a;b"], ["cat"]),
        Sample("10.jpg", b"ten", ["ten"], ["dog"]),
    ],
    "val": [
        Sample("6.jpg", b"\xff\xd8other", ["of another split"], ["dog"]),
        Sample("7.jpg", b"seven", ["x"], ["cat", "traffic light"]),
    ],
}


def with_keys(root, place):
    tables, warnings = readers.read(root)
    for table in tables.values():
        assert hashing.add_keys(table, FileIndex(place / "files.sqlite"), 4) == {}
    return tables, warnings


def rows(table):
    """The samples of a table as plain values."""
    captions = zip(table.captions, *table.more_captions, strict=True)
    keys = np.concatenate([*table.all_keys("image"), *table.all_keys("caption")], axis=1)
    labels = table.labels or [()] * len(table)
    return list(zip(table.ids, labels, captions, map(bytes, keys), strict=True))


def expected(samples):
    """The same values, from the samples themselves."""
    width = max(1, *(len(sample.captions) for sample in samples))

    def key(content):
        return hashlib.blake2b(content, digest_size=16).digest() if content else bytes(16)

    result = []
    for sample in samples:
        captions = (*sample.captions, *[""] * (width - len(sample.captions)))
        keys = key(sample.content) + b"".join(key(text.encode()) for text in captions)
        result.append((sample.name, tuple(sample.labels), captions, keys))
    return result


def written(tmp_path, name, splits):
    """The data in that container; in the plain folder the split "val" is called "test"."""
    if name == "csv_folder":
        return csv_folder(tmp_path / name, {"train": splits["train"], "test": splits["val"]})
    return WRITERS[name](tmp_path / name, splits)


@pytest.mark.parametrize("name", ["csv_folder", *WRITERS])
def test_every_container_gives_the_same_rows_and_keys(tmp_path, name):
    tables, warnings = with_keys(written(tmp_path, name, SAMPLES), tmp_path)
    assert list(tables) == ["train", "test" if name == "csv_folder" else "val"]
    for (split, table), samples in zip(tables.items(), SAMPLES.values(), strict=True):
        assert rows(table) == expected(samples)
        assert table.split == split
        assert not table.label_separator.isspace()  # "traffic light" comes back from predictions
        assert Path(table.source).is_relative_to(tmp_path / name)
    assert [line.split(":")[0] for line in warnings] == ["rows without a label", "rows with an empty caption"]


def test_a_folder_of_captioned_images_gives_the_same_rows_without_labels(tmp_path):
    samples = [Sample(s.name, s.content, s.captions) for s in SAMPLES["train"]]
    tables, warnings = with_keys(captioned_images(tmp_path / "photos", samples), tmp_path)
    assert list(tables) == ["train"]
    assert tables["train"].labels is None
    by_id = {row[0]: row for row in expected(samples)}
    natural = ["0.jpg", "1.png", "2.jpg", "4.jpeg", "5.jpg", "10.jpg", "a3.webp"]
    assert rows(tables["train"]) == [by_id[name] for name in natural]
    assert [line.split(":")[0] for line in warnings] == ["rows with an empty caption"]


# Text files and JSON strings can contain any text; a blank CSV cell, and so a blank caption, is ignored.
caption = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
caption = caption.filter(lambda text: not is_missing(text) and not text.endswith(("\n", "\r")))
label = st.text("abc äß1", min_size=1, max_size=6).map(str.strip).filter(bool)
samples = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=30),
        st.lists(caption, max_size=3, unique=True),
        st.lists(label, max_size=3, unique=True),
    ),
    min_size=2,
    max_size=5,
)


@pytest.mark.parametrize("name", WRITERS)
@settings(examples(10), suppress_health_check=[HealthCheck.differing_executors])
@given(samples)
def test_any_samples_are_read_as_from_the_plain_folder(tmp_path_factory, name, drawn):
    tmp_path = tmp_path_factory.mktemp(name)
    generated = [Sample(f"{n}.jpg", *sample) for n, sample in enumerate(drawn)]
    generated[0] = Sample("0.jpg", b"x", ["a"], ["b c", "d"])
    plain, _ = with_keys(csv_folder(tmp_path / "csv_folder", {"train": generated}), tmp_path)
    tables, _ = with_keys(WRITERS[name](tmp_path / name, {"train": generated}), tmp_path)
    assert rows(tables["train"]) == rows(plain["train"]) == expected(generated)


@pytest.mark.parametrize("name", ["csv_folder", *WRITERS])
def test_reading_takes_about_a_kilobyte_per_row(tmp_path, name):
    n = 1000
    text = "as long as captions are, some fifty characters"
    generated = [Sample(f"{row}.jpg", b"%d" % row, [f"{text} {row}"], ["dog", "cat"]) for row in range(n)]
    root = written(tmp_path, name, {"train": generated, "val": generated[:2]})
    readers.read(root)  # imports do not count
    held_whole = sum(path.stat().st_size for path in root.glob("annotations/*"))  # JSON, while it is parsed
    tracemalloc.start()
    try:
        readers.read(root)
        assert tracemalloc.get_traced_memory()[1] < 1200 * n + held_whole
    finally:
        tracemalloc.stop()
