"""A store reports the files that vanish from it, and nothing that the program removed itself."""

import json
import shutil

import pytest

from encode_once.cache import Store, StoreError, describe
from encode_once.cache.maintenance import compact, drop_unreferenced, repair, verify
from encode_once.cache.merge import merge
from tests.cache.rows import KEYS, SPEC, VALUES, fill, save_table
from tests.classify.conftest import filled

__all__ = ["filled"]


@pytest.fixture
def store(tmp_path):
    """A store with a feature in three parts, and another feature."""
    store = Store(tmp_path / "store")
    fill(store, range(12))
    fill(store, range(4), "f/o")
    save_table(store, range(12))
    assert verify(store) == []
    return store


def listed(store):
    return describe.listing(describe.contents(store))


def part_of(store, name="e/o"):
    return sorted((store.path / "features" / name).glob("*.h5"))[0]


def test_a_lost_part_is_reported_until_it_is_acknowledged(store):
    part = part_of(store)
    part.unlink()
    (line,) = verify(Store(store.path))
    assert str(part) in line
    assert "4 rows" in line
    assert str(part) in listed(Store(store.path))
    (line,) = repair(Store(store.path))
    assert str(part) in line
    assert verify(Store(store.path)) == []
    assert len(Store(store.path).feature("e/o")) == 8


def test_a_lost_part_is_reported_after_its_rows_are_encoded_again(store):
    part = part_of(store)
    part.unlink()
    fill(store, range(12))
    compact(store)
    assert [str(part) in line for line in verify(store)] == [True]
    assert len(repair(store)) == 1
    assert verify(store) == []
    assert Store(store.path).feature("e/o").read(KEYS[:12]).tolist() == VALUES[:12].tolist()


def test_a_lost_spec_is_reported_and_restored(store):
    spec = store.path / "features/e/o/spec.json"
    content = spec.read_text()
    spec.unlink()
    assert store.features() == ["f/o"]
    (line,) = verify(Store(store.path))
    assert str(spec.parent) in line
    assert str(spec.parent) in listed(Store(store.path))
    repair(Store(store.path))
    assert spec.read_text() == content
    assert verify(Store(store.path)) == []
    assert len(Store(store.path).feature("e/o")) == 12


def test_a_lost_spec_is_restored_by_the_next_extract_which_cannot_replace_it(store):
    (store.path / "features/e/o/spec.json").unlink()
    with pytest.raises(StoreError, match="another spec"):
        Store(store.path).declare("e/o", SPEC | {"weights": "others"})
    assert len(Store(store.path).declare("e/o", SPEC)) == 12


def test_a_damaged_spec_is_restored(store):
    spec = store.path / "features/e/o/spec.json"
    spec.write_text("{")
    assert len(verify(Store(store.path))) == 1
    repair(Store(store.path))
    assert verify(Store(store.path)) == []
    assert len(Store(store.path).feature("e/o")) == 12


def test_a_lost_feature_is_reported_until_it_is_acknowledged(store):
    shutil.rmtree(store.path / "features/e/o")
    (line,) = verify(Store(store.path))
    assert "features/e/o" in line
    repair(Store(store.path))
    assert verify(Store(store.path)) == []


def test_a_store_without_inventory_is_brought_up_to_date_by_the_next_writer(store):
    shutil.rmtree(store.path / "inventory")
    assert verify(Store(store.path)) == []
    with store.feature("e/o").writer(0):
        pass
    part_of(store).unlink()
    assert len(verify(Store(store.path))) == 1


def test_parts_that_the_program_removes_are_not_reported(store, tmp_path):
    compact(store)
    assert verify(Store(store.path)) == []
    save_table(store, range(3))
    assert [change.rows for change in drop_unreferenced(store, delete=True)] == [9, 1]
    assert verify(Store(store.path)) == []
    other = Store(tmp_path / "other")
    fill(other, range(3, 8))
    merge(store, other)
    assert verify(Store(store.path)) == []
    assert len([*(store.path / "inventory/e/o").glob("*.h5.json")]) == 3


def test_a_merge_reports_what_the_other_store_lost(store, tmp_path):
    part = part_of(store)
    part.unlink()
    target = Store(tmp_path / "target")
    (line,) = merge(target, store).notes
    assert str(part) in line
    assert len(target.feature("e/o")) == 8


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rows": "x"}', "[" * 10_000, None])
def test_a_damaged_note_still_counts(store, content):
    part = part_of(store)
    note = store.path / "inventory/e/o" / f"{part.name}.json"
    if content is None:
        note.unlink()
        note.symlink_to("/dev/zero")
    else:
        note.write_text(content)
    assert verify(Store(store.path)) == []
    part.unlink()
    assert len(verify(Store(store.path))) == 1
    repair(Store(store.path))
    assert verify(Store(store.path)) == []


def test_the_inventory_is_not_written_through_a_link(store, tmp_path):
    (store.path / "inventory").rename(tmp_path / "elsewhere")
    (store.path / "inventory").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.glob("elsewhere/**/*"))
    with pytest.raises(StoreError, match="symbolic link"):
        fill(Store(store.path), range(12, 16))
    assert sorted(tmp_path.glob("elsewhere/**/*")) == before
    assert any("symbolic link" in line for line in verify(Store(store.path)))


@pytest.mark.usefixtures("fit_once")
def test_fit_and_sweep_warn_of_lost_features(filled, run, tmp_path):
    filled(40)
    assert "has no spec.json" not in run("fit", "--head", "linear", "--run", "a").stderr
    shutil.rmtree("store/features/e/text")
    result = run("fit", "--head", "linear", "--run", "b")
    assert "e/text has no spec.json" in result.stderr
    assert "on e/image" in result.stderr
    warnings = json.loads((tmp_path / "b/run.json").read_text())["warnings"]
    assert any("e/text" in line for line in warnings)
    result = run("sweep", "--head", "linear", "--folder", "s")
    assert result.stderr.count("warning: store/features/e/text has no spec.json") == 1
