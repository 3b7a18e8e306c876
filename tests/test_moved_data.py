"""Data that was renamed or moved is the same table at a new place."""

from dataclasses import replace

import pytest

from encode_once.cache import Store, Table
from encode_once.cache.maintenance import verify
from encode_once.cache.merge import merge
from tests.cache.rows import KEYS


@pytest.fixture
def place(tmp_path):
    """A function that makes a table whose source is in a folder of that name."""

    def table(name, rows=range(4), split="train"):
        source = tmp_path / name / f"{split}.csv"
        source.parent.mkdir(exist_ok=True)
        source.touch()
        ids, keys = [str(row) for row in rows], KEYS[list(rows)]
        labels = [(row,) for row in ids]
        return Table(str(source), ids, ids, ids, labels, image_keys=keys, caption_keys=keys * 0, split=split)

    return table


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def move(table, tmp_path, name):
    """The table after its folder was renamed."""
    folder = tmp_path / name
    (tmp_path / table.source).parent.rename(folder)
    return replace(table, source=str(folder / f"{table.split}.csv"))


def places(store):
    assert verify(store) == []
    return {header.source: [*header.moved_from] for header in store.headers()}


def test_each_place_of_a_table_that_moves_is_recorded(store, place, tmp_path):
    table = place("a")
    store.save(table)
    sources = [table.source]
    for name in ("b", "c"):
        table = move(table, tmp_path, name)
        assert store.save(table, replace_moved=True) == sources[-1:]
        assert places(store) == {table.source: sources}
        sources.append(table.source)
    assert store.save(table, replace_moved=True) == []
    assert places(store) == {table.source: sources[:-1]}
    back = move(table, tmp_path, "a")
    store.save(back, replace_moved=True)
    assert places(store) == {back.source: sources[1:]}
    assert store.tables()[0].has_rows_of(back)


def test_tables_that_are_still_there_or_differ_stay(store, place, tmp_path):
    kept = [place("a"), place("b", range(5)), place("c", range(4), "val")]
    for table in kept:
        store.save(table)
    (tmp_path / "b" / "train.csv").unlink()
    (tmp_path / "c" / "val.csv").unlink()
    new = place("d")
    assert store.save(new, replace_moved=True) == []
    assert set(places(store)) == {table.source for table in (*kept, new)}
    relabelled = replace(place("e", range(5)), labels=[("x",)] * 5)
    assert store.save(relabelled, replace_moved=True) == []


def test_only_extract_replaces_tables(store, place, tmp_path):
    table = place("a")
    store.save(table)
    other = Store(tmp_path / "other")
    moved = move(table, tmp_path, "b")
    other.save(moved)
    merge(store, other)  # its paths may be those of another machine
    assert set(places(store)) == {table.source, moved.source}


def test_a_damaged_table_is_left_to_verify(store, place, tmp_path):
    table = place("a")
    store.save(table)
    (damaged,) = store.table_files()
    damaged.write_bytes(b"")
    assert store.save(move(table, tmp_path, "b"), replace_moved=True) == []
    assert damaged in store.table_files()


def test_after_a_rename_the_same_commands_go_on_and_say_what_they_take(folder, run, fit_once):
    root = folder(30)
    run("extract", "--encoder", "glove-50")
    run("fit", "--head", "linear", "--split", "tail:10")
    before = run("audit", "runs/linear").stderr.splitlines()
    photos = root.rename(root.with_name("photos"))
    report = run("extract", "--encoder", "glove-50", "--data", "photos")
    assert f"{photos}/train.csv has the rows of {root}/train.csv, which is gone" in report.stderr
    assert "encoded 0, already there 30" in report.stderr
    assert "of photos/train.csv, " in run("fit", "--head", "knn").stderr
    assert "of photos/train.csv, " in run("fit", "--head", "knn", "--data", "input").stderr
    moved, *after = run("audit", "runs/linear").stderr.splitlines()
    assert moved == f"warning: {root}/train.csv was moved: {photos}/train.csv has its rows, and is audited"
    assert after == before
    assert str(root) not in (root.with_name("audit.csv")).read_text()
