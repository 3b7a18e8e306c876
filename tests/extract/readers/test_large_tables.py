"""A table that is read in pieces is the table that is read as a whole."""

import csv
import gzip
import io
import json
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from encode_once.cache import DataError, UsageError, large_arrays
from encode_once.extract.readers import ReadOptions, large_tables, understand
from encode_once.extract.readers.options import Columns
from tests.conftest import examples

FIELDS = ("ids", "captions", "more_captions", "labels", "unknown", "columns", "images", "id_column", "split",
          "label_separator", "source")  # fmt: skip
names = st.lists(st.sampled_from(["cat", "dog", "red car", "bird"]), max_size=3, unique=True)
words = st.text(st.sampled_from('ab ,"\né{'), max_size=6)


@st.composite
def rows(draw):
    """Rows of a caption dataset; those of one image follow each other."""
    groups = draw(
        st.lists(st.lists(st.tuples(words, names, words), min_size=1, max_size=3), min_size=1, max_size=9)
    )
    return [
        {"id": f"r{number}", "caption": caption, "labels": labels, "note": note}
        for number, group in enumerate(groups)
        for caption, labels, note in group
    ]


def write(path, rows, separator=";"):
    flat = [row | {"labels": separator.join(row["labels"])} for row in rows]
    if path.suffix == ".parquet":
        texts = {name: pa.string() for name in ("id", "caption", "note")}
        schema = pa.schema({**texts, "labels": pa.list_(pa.string())})
        parquet.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=4)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, flat[0], delimiter="\t" if ".tsv" in path.name else ",")
        writer.writeheader()
        writer.writerows(flat)
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def in_pieces(path, rows, earlier=(), **options):
    """Read a table with so many rows in a piece, all arrays in files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_tables, "LARGE_BYTES", 0)
        patch.setattr(large_tables, "LARGE_ROWS", 0)
        patch.setattr(large_tables, "PIECE_ROWS", rows)
        patch.setattr(large_arrays, "BLOCK", rows)
        patch.setattr(large_arrays, "IN_MEMORY", 0)
        return understand(path, ReadOptions(**options), earlier_label_sets=earlier)


def read(path, rows=None, **options):
    """The reading, or the error of one line."""
    try:
        return in_pieces(path, rows, **options) if rows else understand(path, ReadOptions(**options))
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("name", ["train.csv", "train.tsv.gz", "train.jsonl", "train.parquet"])
@examples(50)
@given(rows(), st.integers(1, 7), st.booleans())
def test_pieces_of_any_size_give_the_table(tmp_path_factory, name, rows, size, keep_text):
    path = tmp_path_factory.mktemp("data") / name
    write(path, rows)
    # The separator is given, as few rows do not show it.
    options = {"label_separator": ";", "keep_text": keep_text, "columns": Columns(captions=("caption",))}
    whole, pieced = read(path, **options), read(path, size, **options)
    if isinstance(whole, str):
        assert isinstance(pieced, str)
        return
    if isinstance(pieced, str):
        assert "neither captions nor" in pieced  # in the first piece
        return
    (table,), (other,) = whole.tables.values(), pieced.tables.values()
    for field in FIELDS:
        assert getattr(other, field) == getattr(table, field), field
    assert sorted(pieced.warnings) == sorted(whole.warnings)
    assert sorted(re.split("[;\n] *", pieced.text())) == sorted(re.split("[;\n] *", whole.text()))


def lines(path, rows):
    """A table with an id, a caption and these labels in each row."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows(
        [("id", "caption", "labels"), *((f"r{i}", "a cat", cell) for i, cell in enumerate(rows))]
    )
    path.write_text(text.getvalue())
    return path


def test_labels_that_a_later_piece_separates_otherwise_are_reported(tmp_path):
    first = ["cat;dog", "dog", "cat", "dog;cat"]
    path = lines(tmp_path / "train.csv", [*first, "cat|bird", "bird", "cat", "bird|cat"])
    reading = in_pieces(path, 4)
    assert reading.tables["train"].labels[4:] == [("cat|bird",), ("bird",), ("cat",), ("bird|cat",)]
    (warning,) = [line for line in reading.warnings if "--label-separator" in line]
    assert "separated by '|': 3 rows; all are read as separated by ';'" in warning


def test_cells_that_a_later_piece_writes_otherwise_are_refused(tmp_path):
    path = lines(tmp_path / "train.csv", ["cat", "dog", "['cat', 'dog']", "['dog']"])
    with pytest.raises(DataError, match=r":3: from here on the cells of the column 'labels' are lists"):
        in_pieces(path, 2)


@pytest.mark.parametrize("size", [1, 3])
def test_rows_of_one_id_that_do_not_follow_each_other_are_refused(tmp_path, size):
    path = lines(tmp_path / "train.csv", ["cat"] * 8)
    path.write_text(path.read_text().replace("r7", "r1"))
    with pytest.raises(DataError, match="'r1' is in rows 2 and 8; rows of one id are joined if they follow"):
        in_pieces(path, size)


def test_names_that_first_occur_in_a_later_piece_are_reported(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"id": str(row), "caption": "a"} | ({"note": "b"} if row > 3 else {}) for row in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = in_pieces(path, 3)
    assert reading.tables["train"].columns == {}
    assert any("note, in 2 rows; they are not read" in line for line in reading.warnings)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('r4,"a" b,cat\n', ":6: not well-formed CSV"),
        ("r4,a\n", ":6: not well-formed CSV"),
        (b"r4,\xff,cat\n", "byte 0xff is not UTF-8"),
    ],
)
def test_a_later_row_that_cannot_be_read_is_an_error_of_one_line(tmp_path, content, error):
    path = lines(tmp_path / "train.csv", ["cat"] * 4)
    with path.open("ab") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=error) as raised:
        in_pieces(path, 2)
    assert "\n" not in str(raised.value)


def test_bad_rows_are_counted_and_left_out(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [json.dumps({"id": str(row), "caption": "a cat"}) for row in range(6)]
    path.write_text("\n".join([*rows[:2], "no", *rows[2:5], "no", rows[5]]))
    with pytest.raises(DataError, match=r"train\.jsonl:3: not JSON"):
        in_pieces(path, 2)
    reading = in_pieces(path, 2, skip_bad_rows=True)
    assert len(reading.tables["train"]) == 6
    assert any(line.startswith("rows that cannot be read: 2 (first: ") for line in reading.warnings)


def test_images_and_marks_are_read_in_pieces(tmp_path):
    for row in (0, 2, 3, 5):
        (tmp_path / f"{row}.jpg").touch()
    cells = ["cat", "NA", "?dog;cat", "dog", "NA", "cat;dog"]
    path = tmp_path / "train.csv"
    path.write_text("image,labels\n" + "".join(f"{row}.jpg,{cell}\n" for row, cell in enumerate(cells)))
    options = {"unknown": ("NA", "?"), "label_separator": ";"}
    whole = understand(tmp_path, ReadOptions(**options))
    for size in (1, 2, 5):
        pieced = in_pieces(tmp_path, size, **options)
        for field in FIELDS:
            table, other = whole.tables["train"], pieced.tables["train"]
            assert getattr(other, field) == getattr(table, field), field
        assert sorted(pieced.warnings) == sorted(whole.warnings)


def test_label_sets_of_a_table_in_pieces_are_refused_and_earlier_ones_reported(tmp_path):
    path = lines(tmp_path / "train.csv", ["cat"] * 4)
    with pytest.raises(UsageError, match=r"--label-set more: .* --label-column reads these labels instead"):
        in_pieces(path, 2, label_sets=["more=labels"])
    reading = in_pieces(path, 2, earlier=["more=labels"])
    assert any("label sets of an earlier extract are left out: more" in line for line in reading.warnings)


def test_only_large_files_are_read_in_pieces(tmp_path, monkeypatch):
    path = lines(tmp_path / "train.csv", ["cat"])
    assert not large_tables.is_large([path])
    monkeypatch.setattr(large_tables, "LARGE_BYTES", 2 * path.stat().st_size)
    assert not large_tables.is_large([path])
    assert large_tables.is_large([path, path])
