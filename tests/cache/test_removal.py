"""Contents of named rows are removed from features, failures, the index and tables; those of others stay."""

import itertools
import shutil

import numpy as np
import pytest

from encode_once.cache import DataError, Failure, Store, StoreBusyError, StoreError, Table, removal
from encode_once.cache.absence import search
from encode_once.cache.captions import join, text_keys
from encode_once.cache.maintenance import verify
from encode_once.cache.removal import content_of, keys_of_files, remove_rows, remove_vectors
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


def test_keys_are_found_by_the_names_of_files(store):
    assert [*keys_of_files(store, ["7.png"])] == [KEYS[7].tobytes()]
    assert [*keys_of_files(store, ["7"])] == [KEYS[7].tobytes()]
    assert [*keys_of_files(store, ["/images/7.png"])] == [KEYS[7].tobytes()]
    assert [*keys_of_files(store, [".png"])] == []


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
    assert found_names("row") == {table}
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
