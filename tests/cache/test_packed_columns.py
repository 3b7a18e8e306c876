"""A packed column is the list of its items, whatever is done with it."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import Table, content_key
from encode_once.cache import packed_columns as packing
from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.format import hdf5
from encode_once.cache.keys import pack
from encode_once.cache.packed_columns import LabelLists, Texts, joined, taken
from encode_once.cache.table import load_table, save_table

# Any text, with bytes of paths that are not UTF-8.
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.just("caf\udce9"), max_size=12)
labels = st.lists(st.lists(st.sampled_from("abcdef")).map(tuple), max_size=12)
columns = texts.map(lambda items: (Texts.of(items), items)) | labels.map(
    lambda items: (LabelLists.of(items), items)
)


def same(column, items):
    assert [*column] == items
    assert len(column) == len(items)
    assert bool(column) == bool(items)
    assert [column[row] for row in range(-len(items), len(items))] == 2 * items
    assert column == items
    assert items == column
    assert [column.index(item) for item in items] == [items.index(item) for item in items]
    assert column != [*items, "more"]
    assert [*column.lengths()] == [
        len(item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item) for item in items
    ]
    with pytest.raises(IndexError):
        column[len(items)]


@pytest.mark.parametrize("block_rows", [2, 4096])
@given(columns, st.data())
def test_a_packed_column_is_like_the_list(block_rows, columns, data):
    column, items = columns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_ROWS", block_rows)
        patch.setattr(packing, "BLOCK_VALUES", 3 * block_rows)
        check(column, items, data)


def check(column, items, data):
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=20)) if items else []
    part = data.draw(st.slices(len(items)))
    of_rows = data.draw(st.slices(len(rows)))
    same(column, items)
    same(column[part], items[part])
    same(column[::1][part], items[part])
    chosen = taken(column, np.array(rows, np.intp))
    same(chosen, [items[row] for row in rows])
    same(chosen[of_rows], [items[row] for row in rows][of_rows])
    for copied in (pickle.loads(pickle.dumps(chosen)), copy.deepcopy(chosen)):
        same(copied, [items[row] for row in rows])
    same(joined([column, chosen]), [*items, *chosen])
    assert taken(items, np.array(rows, np.intp)) == chosen
    if isinstance(column, LabelLists):
        assert chosen.distinct() == {name for row in chosen for name in row}


row_choices = (
    st.lists(st.integers(-7, 7))
    | st.lists(st.booleans(), max_size=7)
    | st.lists(st.integers(0, 6)).map(lambda rows: np.array(rows, np.uint8))
    | st.sampled_from([np.zeros(3), np.array([1], np.uint64)])
)


@given(row_choices, st.integers(0, 7))
def test_rows_are_taken_as_numpy_takes_them(rows, n):
    index = np.array(rows, np.asarray(rows).dtype if len(rows) else np.intp)
    items, keys = [str(row) for row in range(n)], pack(content_key(bytes([row])) for row in range(n))
    try:
        expected = [*map(str, np.arange(n)[index].tolist())]
    except IndexError:
        for column in (items, Texts.of(items)):
            with pytest.raises(IndexError):
                taken(column, index)
        return
    table = Table("/t.csv", Texts.of(items), items, items, None, image_keys=keys, caption_keys=keys)
    part = table.take(index)
    chosen = index.copy()
    index[:] = 0  # what becomes of the caller's array does not matter
    assert [*part.ids] == part.images == [*taken(Texts.of(items), chosen)] == expected
    assert part.image_keys.tolist() == keys[chosen].tolist()


@pytest.mark.parametrize("decode", [lambda column: [*column], lambda column: column.index("last")])
def test_all_rows_are_decoded_together(monkeypatch, decode):
    column, calls = taken(Texts.of(["text"] * 999 + ["last"]), np.arange(1000)), []
    decoded = Texts._decoded
    monkeypatch.setattr(Texts, "_decoded", lambda *args: calls.append(args) or decoded(*args))
    decode(column)
    assert len(calls) == 1


def test_an_item_that_differs_makes_columns_differ():
    assert Texts.of(["ab", "c"]) != Texts.of(["a", "bc"])
    assert LabelLists.of([("a",), ()]) != LabelLists.of([(), ("a",)])
    assert LabelLists.of([("a", "b")]) == LabelLists.of([("b",), ("a", "b")])[1:]
    assert Texts.of(["a"]) != "a"


def _saved(path, rows):
    names = [f"class {number}" for number in range(20)]
    table = Table(
        "/data/train.csv",
        [f"row {row}" for row in range(rows)],
        [""] * rows,
        [f"a photo of {row} dogs and {rows - row} cats on a lawn" for row in range(rows)],
        [(names[row % 20], names[row % 7]) for row in range(rows)],
        columns={"source": ["web"] * rows},
        image_keys=np.zeros((rows, 16), np.uint8),
        caption_keys=pack(content_key(str(row).encode()) for row in range(rows)),
    )
    save_table(table, path)


def _used(path):
    hdf5.MAPPED_BYTES = 0  # in this process, which is a new one
    table = load_table(path)
    kept = table.take(np.arange(len(table))[::-3])
    return len(table), kept.ids[1], sum(map(len, kept.labels)), kept.columns["source"][7]


@pytest.mark.slow
def test_a_saved_table_takes_a_few_bytes_a_row(tmp_path):
    rows = 100_000
    _saved(tmp_path / "t.h5", rows)
    (loaded, row_id, labels, source), grown = with_peak_memory(_used, tmp_path / "t.h5")
    assert (loaded, row_id, source) == (rows, f"row {rows - 4}", "web")
    assert labels == 2 * len(range(rows)[::-3])
    assert grown < 60 * rows
