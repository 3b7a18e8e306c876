"""The fast parser reads what the csv module reads, or nothing."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.extract.readers import csv_grammar, plain_csv, understand
from tests.conftest import examples

HEADER = "id,a,b,c,d,e\n"
digit = st.sampled_from("01")
odd = st.sampled_from(
    ["", " 1", "01", "1.0", "2", "+1", "-0", '"1"', "x", "1,0", "\n", "\r", "é", "1 ", "\0"]
)


@examples(300)
@given(
    st.lists(st.tuples(st.text("ab é0 ", max_size=3), st.lists(digit, min_size=5, max_size=5)), min_size=1),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), odd), max_size=2),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_it_reads_what_the_csv_module_reads_or_nothing(tmp_path_factory, rows, faults, end, ended):
    cells = [[text, *digits] for text, digits in rows]
    for row, column, text in faults:
        cells[row % len(cells)][column] = text
    body = end.join(",".join(row) for row in cells) + end * ended
    path = tmp_path_factory.mktemp("plain") / "x.csv"
    path.write_bytes((HEADER.replace("\n", end) + body).encode())
    read = plain_csv.read_plain(path, ",", HEADER.replace("\n", end), [["", *"01010"]])
    expected = list(csv.reader(io.StringIO(HEADER + body, newline="")))[1:]
    if not faults and body.strip():
        assert read is not None
    if read is not None:
        columns, n = read
        assert n == len(expected)
        assert [list(row) for row in zip(*columns, strict=True)] == expected


CELL = st.text('ab é",0 ;', max_size=4)


@examples(500)
@given(
    st.lists(st.tuples(CELL, st.lists(digit, min_size=5, max_size=5)), min_size=1),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 1), st.sampled_from(['"', ",", "\n", "\r", "a", ""])),
        max_size=2,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(1, 30),
)
def test_quoted_fields_are_those_of_strict_csv_or_nothing_is_read(
    tmp_path_factory, rows, faults, end, quoting, chunk
):
    """Faults replace a character of what the csv module wrote, or stand before it."""
    file = io.StringIO()
    csv.writer(file, lineterminator=end, quoting=quoting).writerows([text, *flags] for text, flags in rows)
    body = file.getvalue()
    for place, replaced, text in faults:
        place %= len(body)
        body = body[:place] + text + body[place + replaced :]
    path = tmp_path_factory.mktemp("plain") / "x.csv"
    header = HEADER.replace("\n", end)
    path.write_bytes((header + body).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_csv, "CHUNK", chunk)
        read = plain_csv.read_plain(path, ",", header, [["", *"01010"]])
    if not faults:
        assert read is not None
    if read is not None:
        expected = list(csv.reader(io.StringIO(body, newline=""), strict=True))
        columns, n = read
        assert n == len(expected)
        assert [list(row) for row in zip(*columns, strict=True)] == expected


@pytest.mark.parametrize(
    "cell", ['"x,"a', '"x""y,"a', '"x"a', 'a"x,y"', '"say "hi" now"', '"a" ', ' "a"', '"a']
)
def test_quotes_that_strict_csv_has_not_are_left_to_the_other_parser(tmp_path, cell):
    path = tmp_path / "x.csv"
    for text, is_read in (('"x, ""y"""', True), (cell, False)):
        path.write_text(f'{HEADER}"b, c",0,1,0,1,0\n{text},0,1,0,1,0\nd,0,1,0,1,0\n')
        assert (plain_csv.read_plain(path, ",", HEADER, [["", *"01010"]]) is not None) == is_read


@pytest.mark.parametrize("change", [None, (7_000, "1.0"), (6_000, ""), (6_500, '"1"')])
def test_a_large_table_has_the_same_labels_by_both_parsers(tmp_path, monkeypatch, change):
    n, classes = 8_000, [f"class {number}" for number in range(30)]
    rows = [
        [str(row), f"caption {row}", *("1" if (row * 7 + c) % 11 == 0 else "0" for c in range(30))]
        for row in range(n)
    ]
    if change:
        rows[change[0]][5] = change[1]
    path = tmp_path / "train.csv"
    text = ",".join(["id", "caption", *classes]) + "\n" + "".join(",".join(row) + "\n" for row in rows)
    path.write_text(text)
    monkeypatch.setattr(csv_grammar, "LARGE", csv_grammar.LARGE // 10)
    monkeypatch.setattr(plain_csv, "CHUNK", plain_csv.CHUNK // 10)
    assert path.stat().st_size > csv_grammar.LARGE
    fast = understand(path).tables["train"]
    monkeypatch.setattr(csv_grammar, "LARGE", 1 << 40)
    slow = understand(path).tables["train"]
    assert fast.labels == slow.labels
    assert (fast.ids, fast.captions) == (slow.ids, slow.captions)
    positive = {"1", "1.0", '"1"'}
    expected = [
        tuple(name for name, cell in zip(classes, row[2:], strict=True) if cell in positive) for row in rows
    ]
    assert fast.labels == expected
