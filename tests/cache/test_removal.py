"""Contents of named rows are removed from features, failures, the index and tables; those of others stay."""

import itertools
import json
import shutil

import numpy as np
import pytest

from encode_once.cache import DataError, Failure, Store, StoreBusyError, StoreError, Table, removal
from encode_once.cache.absence import search
from encode_once.cache.captions import join, text_keys
from encode_once.cache.maintenance import verify
from encode_once.cache.removal import RowNames, content_of, files_named, remove_rows, remove_vectors
from tests.cache.rows import KEYS, VALUES, fill
from tests.conftest import files_of

TEXTS = [f"caption {row}" for row in range(12)]


@pytest.fixture
def store(tmp_path):
    """Twelve rows in several parts, with captions, another caption, and captions that a captioner wrote."""
    store = Store(tmp_path / "store")
    fill(store, range(12), "e/image", {"modality": "image"})
    texts = [f"generated {row}".encode() for row in range(12)]
    written = store.declare("c/text", {"modality": "image", "output": "text"})
    with written.writer(12) as writer:
        lengths = np.array([len(text) for text in texts])
        writer.append(KEYS[:12], np.frombuffer(b"".join(texts), np.uint8)[:, None], lengths)
    generated = [text.decode() for text in texts]
    captions = store.declare("e/text", {"modality": "caption"})
    columns = [TEXTS, [f"more {row}" for row in range(12)], generated]
    columns.append([join(own, other) for own, other in zip(TEXTS, generated, strict=True)])
    with captions.writer(48) as writer:
        for column in columns:
            writer.append(text_keys(column), VALUES[:12])
    ids = [f"row-{row}" for row in range(12)]
    store.save(
        Table(
            "/t/train.csv", ids, [f"/images/{row}.png" for row in range(12)], TEXTS, [("a",)] * 12,
            columns={"place": [f"p{row}" for row in range(12)]},
            image_keys=KEYS[:12], caption_keys=text_keys(TEXTS),
            more_captions=[columns[1]], more_caption_keys=[text_keys(columns[1])],
        )
    )  # fmt: skip
    store.files.remember((f"/images/{row}.png", (1, 1), KEYS[row].tobytes()) for row in range(12))
    return store


def all_keys(row):
    texts = [TEXTS[row], f"more {row}", f"generated {row}", join(TEXTS[row], f"generated {row}")]
    return [KEYS[row].tobytes(), *(key.tobytes() for key in text_keys(texts))]


def forget(store, *ids, **options):
    content = content_of(store, ids, **options)
    removed = remove_vectors(store, content)
    removed.tables = remove_rows(store, content)
    return removed


def test_no_content_of_a_row_is_left_in_any_file(store):
    store.feature("e/image").record_failures(
        [Failure(KEYS[15].tobytes().hex(), "broken", "", "/images/3.png")]
    )
    content = b"".join(files_of(store.path).values())
    assert all(key in content for key in all_keys(3))
    removed = forget(store, "row-3")
    assert removed.features == {"c/text": 1, "e/image": 1, "e/text": 4}
    assert (removed.failures, removed.paths) == (1, 1)
    assert [*removed.tables.values()] == [1]
    content = b"".join(files_of(store.path).values())
    for key in all_keys(3):
        assert key not in content
        assert key.hex().encode() not in content
    for text in ("row-3", "caption 3", "more 3", "generated 3", "/images/3.png"):
        assert text.encode() not in content
    assert verify(Store(store.path)) == []


def test_all_other_rows_are_as_they_were(store):
    before = Store(store.path).table()
    forget(store, "row-3", "row-11")
    others = np.array([row for row in range(12) if row not in (3, 11)])
    store = Store(store.path)
    assert store.table().has_rows_of(before.take(others))
    assert store.headers()[0].source == "/t/train.csv"
    assert (store.feature("e/image").read(KEYS[others]) == VALUES[others]).all()
    for row in others:
        keys = np.frombuffer(b"".join(all_keys(row)[1:]), np.uint8).reshape(-1, 16)
        assert (store.feature("e/text").read(keys) == VALUES[row]).all()
    assert dict(store.files.entries()).keys() == {f"/images/{row}.png" for row in others}


def test_after_an_end_at_any_change_the_same_call_removes_the_rest(store, tmp_path, monkeypatch):
    class Ended(BaseException):
        pass

    for count in itertools.count(1):
        place = shutil.copytree(store.path, tmp_path / f"copy-{count}")
        changes, steps = itertools.count(1), ("keep_rows", "write_failures", "save_table")

        def ending(change, changes=changes, count=count):
            def end(*args):
                if next(changes) == count:
                    raise Ended
                return change(*args)

            return end

        with monkeypatch.context() as patch:
            for step in steps:
                patch.setattr(removal, step, ending(getattr(removal, step)))
            try:
                forget(Store(place), "row-3", "row-5")
                break
            except Ended:
                pass
        assert verify(Store(place)) == []
        forget(Store(place), "row-3", "row-5")
        content = b"".join(files_of(place).values())
        assert not [key for row in (3, 5) for key in all_keys(row) if key in content]
        assert len(Store(place).table()) == 10
    assert count > 4  # three features and a table


def test_contents_that_other_rows_have_stay(store):
    table = store.table().take(np.array([3, 4]))
    table.source, table.ids = "/other/train.csv", ["x", "y"]
    store.save(table)
    with pytest.raises(DataError, match="1 other rows have the same images, such as x"):
        content_of(store, ["row-3"])
    content = content_of(store, ["row-3"], "keep")
    assert (len(content.all_keys), content.equal) == (1, [])  # of the row itself, not of its contents
    removed = forget(store, "row-3", equal_images="keep")
    assert removed.features == {}
    assert [*removed.tables.values()] == [1]
    removed = forget(store, "row-4", equal_images="forget")
    assert {*removed.tables.values()} == {1}
    assert sorted(name for table in store.tables() for name in table.ids if name in "xy") == ["x"]


def test_a_table_without_other_rows_is_deleted(store):
    forget(store, *store.table().ids)
    assert store.table_files() == []
    assert len(Store(store.path).feature("e/image")) == 0
    assert verify(Store(store.path)) == []


def test_an_unknown_row_removes_nothing(store):
    before = {path: content for path, content in files_of(store.path).items() if path.suffix == ".h5"}
    content = content_of(store, ["row-99"])
    assert (content.unknown, len(content.all_keys)) == (["row-99"], 0)
    removed = forget(store, "row-99")
    assert (removed.tables, removed.features, removed.paths) == ({}, {}, 0)
    assert {path: c for path, c in files_of(store.path).items() if path.suffix == ".h5"} == before


def test_files_are_found_by_their_paths_and_other_names(store):
    def paths(*names, others=()):
        return files_named([store], RowNames(frozenset(names)), others)

    expected = {"/images/7.png": KEYS[7].tobytes()}
    assert paths("/images/7.png") == expected
    assert paths(others=["7.png"]) == paths(others=["7"]) == expected
    assert paths("7.png", "7") == paths(others=[".png"]) == {}  # ids of rows are no names of files
    store.files.remember([("/other/7.jpg", (1, 1), KEYS[7].tobytes())])
    assert {*paths(others=["7"])} == {"/images/7.png", "/other/7.jpg"}  # the same image
    store.files.remember([("/other/7.jpg", (1, 1), KEYS[8].tobytes())])
    assert paths(others=["7.png"]) == expected
    with pytest.raises(DataError, match=r"7 is the name of 2 different files.*/images/7.png, /other/7.jpg"):
        paths(others=["7"])


@pytest.mark.parametrize("name", ["/images/3.png", "/images/../images/3.png", "image", "caption", "more"])
def test_a_row_is_named_by_the_path_of_its_image_or_a_key(store, name):
    if not name.startswith("/"):
        name = all_keys(3)[["image", "caption", "more"].index(name)].hex()
    content = content_of(store, [name])
    assert (content.unknown, content.shared) == ([], 0)
    assert {*content.rows.values()} == {frozenset({"row-3"})}
    forget(store, name)
    joined = b"".join(files_of(store.path).values())
    assert not [key for key in all_keys(3) if key in joined]
    assert len(store.table()) == 11


def test_ids_are_meant_in_the_named_tables(store):
    other = store.table().take(np.array([3, 4]))
    other.source, other.image_keys = "/other/train.csv", KEYS[13:15]
    store.save(other)
    content = content_of(store, RowNames(frozenset({"row-3"}), frozenset({other.name})))
    assert content.rows == {other.name: {"row-3"}}
    assert (content.unknown, content.staying) == ([], ["row-3"])
    assert remove_rows(store, content) == {other.name: 1}


def test_a_store_that_is_written_or_only_read_is_refused(store):
    content = content_of(store, ["row-3"])
    with store.feature("e/image").writer(1), pytest.raises(StoreBusyError):
        remove_vectors(Store(store.path), content)
    with pytest.raises(StoreError):
        remove_vectors(Store(store.path, read_only=True), content)
    with pytest.raises(StoreError):
        remove_rows(Store(store.path, read_only=True), content)


def test_the_search_finds_ids_and_keys_in_every_kind_of_file_and_no_part_of_longer_names(store, tmp_path):
    def found_names(*names):
        return {path.name for path in search([store.path], names)}

    table = store.table_files()[0].name
    assert found_names("row-1") == {table}  # and not row-10 and row-11
    assert found_names("row-2", "no row") == {table}
    assert found_names("row") == set()  # neither in row-1, nor in the words of a caption
    assert found_names("more") == set()
    assert found_names("p3") == {table}  # a cell of a column
    assert found_names("ow-1") == set()
    assert found_names("1.png") == {table, "files.sqlite"}
    parts = {part.path.name for part in store.feature("e/image").parts if part.keys.shape[0]}
    holding = found_names(KEYS[5].tobytes().hex())
    assert holding & parts
    assert {table, "files.sqlite"} <= holding
    (store.path / "x.json").write_text('{"12": "ab", "x": 34, "ä1": "\\u00e42"}')
    assert found_names("12") == {"x.json"}
    assert found_names("34") == set()
    assert "x.json" in found_names("ä2")
    assert "x.json" in found_names("ä1")
    (store.path / "x.csv").write_text("id,n\n56,78\n")
    assert found_names("56") == {"x.csv"}
    assert found_names("78") == set()
    with pytest.raises(DataError):
        search([store.path], [])


def test_a_name_of_a_class_is_no_id(store, tmp_path):
    def found_names(name, **content):
        path = tmp_path / "runs" / "run.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return [*search([path.parent], [name])] == [path]

    for name in ("17", "seventeen"):
        assert not found_names(name, classes=[name], per_class=[{"label": name}], thresholds={name: 0.5})
        assert not found_names(name, features={"a/b": {"spec": {"preprocess": f"{name}|1/{name}, 3"}}})
        assert found_names(name, classes=[name], warnings=[f"a/{name}"])
        assert found_names(name, classes=["x"], table=f"/data/{name}.csv")
        (tmp_path / "runs" / "run.json").write_text(f'damaged "{name}"')
        assert [*search([tmp_path / "runs"], [name])]
    table = store.table().take(np.arange(3))
    table.labels = [("17",), (), ()]
    store.save(table)
    assert search([store.path], ["17"]) == {}
