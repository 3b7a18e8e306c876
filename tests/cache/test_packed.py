"""Compressed tables, spreadsheets, and what other programs leave next to tables."""

import contextlib
import gzip
import json
import re
import zipfile

import pandas as pd
import pytest

from encode_once.cache import packed
from encode_once.cache.errors import DataError
from encode_once.extract.readers import read

ROWS = [("0", "red", "a caption"), ("001", "", "=1+1, and “more”"), ("x", "green", "line\nbreak")]
FRAME = pd.DataFrame(ROWS, columns=["id", "labels", "caption"])


def content(table):
    return list(zip(table.ids, (" ".join(row) for row in table.labels), table.captions, strict=True))


@pytest.mark.parametrize("name", ["photos.csv.gz", "photos.tsv.gz", "photos.jsonl.gz", "train.csv.gz"])
def test_compressed_tables(tmp_path, name):
    if "jsonl" in name:
        FRAME.to_json(tmp_path / name, orient="records", lines=True)
    else:
        FRAME.to_csv(tmp_path / name, index=False, sep="\t" if "tsv" in name else ",")
    for data in (tmp_path / name, tmp_path):
        tables, _ = read(data)
        assert list(tables) == [name.split(".")[0]]
        assert content(*tables.values()) == ROWS


def test_a_damaged_or_exploding_archive_is_an_error(tmp_path, monkeypatch):
    packed_bytes = gzip.compress(FRAME.to_csv(index=False).encode())
    (tmp_path / "x.csv.gz").write_bytes(packed_bytes[:-10])
    with pytest.raises(DataError, match=r"x\.csv\.gz: "):
        read(tmp_path / "x.csv.gz")
    monkeypatch.setattr(packed, "ENOUGH", 1000)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"id,caption\n0," + b"a" * 10**6))
    with pytest.raises(DataError, match="becomes far larger than a table does"):
        read(tmp_path / "x.csv.gz")


def test_excel_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"needs openpyxl: pip install 'encode-once\[excel\]', or save it as CSV"
    ):
        read(tmp_path / "x.xlsx")


def test_excels_first_sheet_without_its_empty_rows_and_columns(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append([])
    book.active.append(["id", "labels", "caption", None, None])
    for row in ROWS:
        book.active.append([*row, None])
        book.active.cell(book.active.max_row, 3).data_type = "s"  # a text, though it begins with =
        book.active.append([None, "", None])
    book.active.append([7, "red", 12.5, None, "a note"])
    book.create_sheet("notes")
    book.save(tmp_path / "x.xlsx")
    tables, warnings = read(tmp_path / "x.xlsx")
    assert content(tables["x"]) == [*ROWS, ("7", "red", "12.5")]
    assert any("1 column without a name in x.xlsx" in line for line in warnings)
    assert any("1 further sheets of x.xlsx (notes)" in line for line in warnings)
    (tmp_path / "x.xlsx").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"x\.xlsx: not an \.xlsx file"):
        read(tmp_path / "x.xlsx")


def test_a_spreadsheet_of_damaged_styles_prints_nothing(tmp_path, capsys):
    """openpyxl prints a line for a style that is not there, which would end up in the JSON on stdout."""
    whole, damaged = tmp_path / "whole.xlsx", tmp_path / "x.xlsx"
    FRAME.to_excel(whole, index=False)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(damaged, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "xl/styles.xml":
                content = re.sub(rb"<cellStyleXfs.*</cellStyleXfs>", b'<cellStyleXfs count="0"/>', content)
            copy.writestr(name, content)
    with contextlib.suppress(DataError):
        read(damaged)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_what_macos_and_kaggle_leave_next_to_tables_is_reported(tmp_path):
    FRAME.to_csv(tmp_path / "photos.csv", index=False)
    (tmp_path / "._photos.csv").write_bytes(b"\0\5\26\7")
    (tmp_path / "sample_submission.csv").write_text("id,labels\n0,red\n")
    tables, warnings = read(tmp_path)
    assert {split: content(table) for split, table in tables.items()} == {"photos": ROWS}
    for name in ("._photos.csv", "sample_submission.csv"):
        assert any(line.startswith("not used: ") and name in line for line in warnings)


def test_a_tab_separated_file_keeps_what_json_lines_keep(tmp_path):
    records = [dict(zip(FRAME.columns, row, strict=True)) for row in ROWS]
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    FRAME.to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    assert content(read(tmp_path / "x.jsonl.gz")[0]["x"]) == content(read(tmp_path / "x.tsv")[0]["x"])
