"""What is wrong with a store is reported without reading its vectors, and nothing in it changes."""

import pytest

from encode_once.cache import Store, maintenance
from encode_once.cache.doctor import stored
from encode_once.cache.format.header import STAMP_BYTES
from encode_once.cache.table import Table
from tests.cache.rows import KEYS, fill, flip
from tests.conftest import files_of


@pytest.fixture
def store(tmp_path):
    store, source = Store(tmp_path / "store"), tmp_path / "train.csv"
    fill(store, range(8), part_rows=8)
    source.write_text("content")
    ids, keys = [str(row) for row in range(8)], KEYS[:8]
    store.save(Table(str(source), ids, ids, ids, None, image_keys=keys, caption_keys=keys * 0))
    return store


def part_of(store):
    (part,) = store.feature_folder("e/o").glob("*.h5")
    return part


def place(store, dataset):
    """Where a dataset of the part begins."""
    return store.feature("e/o").parts[0].stamp.places[dataset]


def checks_of(store):
    before = files_of(store.path)
    checks = [(check.state, check.subject, check.finding) for check in stored.checks(store.path)]
    assert files_of(store.path) == before
    return checks


def test_a_sound_store_passes(store):
    assert checks_of(store) == [("PASS", "store", f"{store.path}: 1 features, 1 tables, no problems")]


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda store: flip(part_of(store), place(store, "keys")), "damaged"),
        (lambda store: flip(store.table_files()[0], STAMP_BYTES), "damaged"),
        (lambda store: (store.path / "store.json").write_text("{}"), "store.json"),
        (lambda store: (store.feature_folder("e/o") / "spec.json").unlink(), "no spec.json"),
        (lambda store: part_of(store).unlink(), "is gone"),
        (lambda store: part_of(store).write_bytes(part_of(store).read_bytes()[:-100]), "damaged"),
    ],
    ids=["keys", "table", "store", "spec", "no part", "cut off"],
)
def test_damage_of_headers_and_missing_files_fail(store, break_it, problem):
    break_it(store)
    state, subject, finding = checks_of(store)[0]
    assert (state, subject) == ("FAIL", "store")
    assert problem in finding


def test_damaged_vectors_are_left_to_verify(store):
    flip(part_of(store), place(store, "values"))
    assert maintenance.verify(Store(store.path), quick=True) == []
    assert maintenance.verify(Store(store.path)) != []


def test_random_features_and_tables_without_their_source_are_warnings(store, tmp_path):
    store.declare("toy/pooled", {"modality": "image", "weights": "RANDOM(seed=0)"})
    (tmp_path / "train.csv").unlink()
    random, gone, _ = checks_of(store)
    assert random == ("WARN", "feature", "toy/pooled has RANDOM weights")
    assert gone[:2] == ("WARN", "table")
    assert gone[2].endswith("train.csv is gone")


def test_a_table_whose_source_changed_is_a_warning(store, tmp_path):
    (tmp_path / "train.csv").write_text("other content")
    state, subject, finding = checks_of(store)[0]
    assert (state, subject) == ("WARN", "table")
    assert "changed since it was extracted" in finding


def test_a_store_that_is_not_there(tmp_path):
    (check,) = stored.checks(tmp_path / "none")
    assert (check.state, check.remedy) == ("PASS", "extract creates it")
