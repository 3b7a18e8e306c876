"""The row of each vector is found by ids, paths or file names; nothing is guessed silently."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import DataError, Table, UsageError, content_key, large_arrays
from encode_once.cache.keys import pack
from encode_once.extract.imports.joining import join
from encode_once.extract.imports.vector_files import VectorFile

FILE = Path("vectors.npy")


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Names are looked up by a few rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_arrays, "BLOCK", 2)
        yield


def table(ids, images=None, split="train", source="/d/train.csv"):
    keys = pack(content_key(f"{split}{row_id}".encode()) for row_id in ids)
    images = images or [""] * len(ids)
    return Table(source, ids, images, ids, None, image_keys=keys * 0, caption_keys=keys, split=split)


def vectors(n, **columns):
    return VectorFile(FILE, np.arange(n * 2, dtype=np.float32).reshape(n, 2), columns)


def pairs(joined, tables):
    """Row of the file → id of the row it belongs to."""
    of_key = {bytes(key): row_id for t in tables for key, row_id in zip(t.keys("row"), t.ids, strict=True)}
    return {row: of_key[bytes(key)] for row, key in zip(joined.rows.tolist(), joined.keys, strict=True)}


@given(
    st.permutations(["a", "b", "c", "d", "e"]), st.lists(st.sampled_from("abcdexyz"), unique=True, min_size=1)
)
def test_rows_are_joined_as_a_dictionary_would(order, names):
    tables = [table(list(order))]
    expected = {row: name for row, name in enumerate(names) if name in order}
    if not expected:
        with pytest.raises(DataError, match="no row belongs to a row of a table"):
            join(vectors(len(names), name=names), tables)
        return
    joined = join(vectors(len(names), name=names), tables)
    assert pairs(joined, tables) == expected
    assert joined.left_over == len(names) - len(expected)


@pytest.mark.parametrize(
    ("cells", "by"),
    [
        (["1", "2"], "ids"),
        (["/photos/p1.jpg", "/photos/p2.jpg"], "paths of the images"),
        (["p1.jpg", "p2.jpg"], "file names of the images"),
        (["/elsewhere/p1.jpg", "/elsewhere/p2.jpg"], "file names of the images"),
        (["p1", "p2"], "file names without suffix of the images"),
    ],
)
def test_what_joins_most_rows_is_taken(cells, by):
    tables = [table(["1", "2"], ["/photos/p1.jpg", "/photos/p2.jpg"])]
    joined = join(vectors(2, noise=["x", "1"], key=cells), tables)
    assert pairs(joined, tables) == {0: "1", 1: "2"}
    assert joined.by == f"column key = {by}"
    assert joined.unused == ["noise"]


def test_file_names_that_several_images_have_join_nothing():
    tables = [table(["1", "2", "3"], ["/a/p.jpg", "/b/p.jpg", "/b/q.jpg"])]
    joined = join(vectors(2, key=["p.jpg", "q.jpg"]), tables)
    assert pairs(joined, tables) == {1: "3"}
    assert joined.left_over == 1


def test_ids_of_several_tables_need_one_to_be_chosen():
    tables = [table(["1", "2"]), table(["2", "3"], split="test", source="/d/test.csv")]
    assert pairs(join(vectors(2, key=["1", "3"]), tables), tables) == {0: "1", 1: "3"}
    with pytest.raises(
        UsageError, match=r"'2' is in /d/train.csv and in /d/test.csv: choose one with --table"
    ):
        join(vectors(1, key=["2"]), tables)


def test_a_row_twice_with_equal_vectors_is_one():
    file = VectorFile(FILE, np.ones((2, 2), np.float32), {"key": ["1", "1"]})
    assert join(file, [table(["1"])]).rows.tolist() == [0]
    different = VectorFile(FILE, np.eye(2, dtype=np.float32), {"key": ["1", "1"]})
    with pytest.raises(DataError, match=r"rows 0 and 1 are both '1' in column key"):
        join(different, [table(["1"])])


def test_without_ids_the_order_counts_and_is_reported():
    tables = [table(["a", "b"]), table(["c"], split="test")]
    joined = join(vectors(2), tables)
    assert pairs(joined, tables) == {0: "a", 1: "b"}
    assert "has no ids: its rows are those of /d/train.csv in order" in joined.warnings[0]
    with pytest.raises(UsageError, match=r"3 vectors and no ids, for rows that are 2 in /d/train.csv; 1 in"):
        join(vectors(3), tables)


def test_the_message_shows_both_sides():
    with pytest.raises(
        DataError, match=r"key: x, y; ids of the tables are train.csv: a, b. --ids FILE names"
    ):
        join(vectors(2, key=["x", "y"]), [table(["a", "b"])])
