import gzip

import numpy as np
import pytest

from encode_once.cache import DataError, MissingDataError
from encode_once.classify.bench.published import (
    published_names,
    published_store,
    read_published,
)
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.tables import choose_table
from tests.arff_samples import DENSE, SPARSE

pytest.importorskip("arff", reason="liac-arff is not installed")


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"tiny-{part}.arff").write_text(DENSE)
        (tmp_path / f"words-{part}.arff.gz").write_bytes(gzip.compress(SPARSE.encode()))
    (tmp_path / "alone-train.arff").write_text(DENSE)
    return tmp_path


def test_a_set_has_its_train_rows_first_and_its_labels_last(folder):
    assert published_names(folder) == ["tiny", "words"]
    (folder / "tiny-test.arff").write_text(DENSE.replace("1,3,0,1", "7,8,1,1"))
    data = read_published(folder, "tiny")
    assert (data.name, data.train, data.labels) == ("tiny", 2, ["red", "a tag"])
    assert data.X.tolist() == [[0.5, -20], [1, 3], [0.5, -20], [7, 8]]
    assert data.Y.tolist() == [[True, False], [False, True], [True, False], [True, True]]


def test_the_number_of_labels_must_be_clear(folder):
    with pytest.raises(DataError, match="--labels words=NUMBER"):
        read_published(folder, "words")
    assert read_published(folder, "words", labels=1).labels == ["TAG_x"]
    with pytest.raises(DataError, match="last 3 columns are not all 0/1"):
        read_published(folder, "tiny", labels=3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("red", "green", "different columns"),
        ("{0, 1}", "{0,1,maybe}", "neither numeric"),
        ("0.5,", "?,", "missing values"),
        ("@data", "", "tiny-test.arff"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder, old, new, message):
    (folder / "tiny-test.arff").write_text(DENSE.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_published(folder, "tiny")


def test_a_missing_file_is_named(folder):
    with pytest.raises(MissingDataError, match="no alone-test"):
        read_published(folder, "alone")


def test_a_store_of_a_set_has_its_rows_and_its_split(folder):
    data = read_published(folder, "words", labels=2)
    with published_store(data) as store:
        table = choose_table(store, None)
        samples = load_samples(store, (), table)
    assert table.columns["split"] == ["train"] * 3 + ["test"] * 3
    assert samples.classes == ["TAG_x", "b"]
    assert np.array_equal(samples.X[:], data.X)
    assert np.array_equal(samples.Y, data.Y[:, ::-1])
