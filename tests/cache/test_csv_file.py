"""Cells keep their exact text in CSV files; for a spreadsheet, formulas can be made harmless."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache.csv_file import write_csv

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1), st.booleans())
def test_every_text_is_read_back_exactly(tmp_path_factory, rows, excel_safe):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write_csv(path, ["a", "b"], rows, excel_safe=excel_safe)
    with path.open(newline="", encoding="utf-8") as file:
        header, *cells = csv.reader(file)
    assert header == ["a", "b"]
    if not excel_safe:
        assert cells == [list(row) for row in rows]
    else:
        begins = ("=", "+", "-", "@", "\t", "\r")
        assert cells == [["'" + text if text.startswith(begins) else text for text in row] for row in rows]


def test_pandas_reads_the_same(tmp_path):
    texts = ["=1+1", "001", "1e5", "a\rb", 'say "x"', "a,b\nc", " x "]
    write_csv(tmp_path / "x.csv", ["id"], [[text] for text in texts])
    assert pd.read_csv(tmp_path / "x.csv", dtype=str)["id"].tolist() == texts


@pytest.mark.parametrize("excel_safe", [False, True])
def test_numbers_and_bytes_of_names_that_are_not_utf8_stay_as_they_are(tmp_path, excel_safe):
    write_csv(tmp_path / "x.csv", ["id", "score"], [["\udcff.jpg", -0.5]], excel_safe=excel_safe)
    assert (tmp_path / "x.csv").read_bytes() == b"id,score\n\xff.jpg,-0.5\n"
