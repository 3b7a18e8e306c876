"""Labels of which nobody knows whether a row has them, in every notation that has a way to say so."""

import csv
import json

import pytest

from encode_once.cache.errors import UsageError
from encode_once.extract import ReadOptions
from encode_once.extract.readers import Columns, understand
from encode_once.extract.readers.corrections import correct

NAMES = ["dog", "cat", "bird"]
# Row → what is known of each label: 1, 0, or None.
TRUTH = [(1, 0, None), (0, None, 1), (1, 1, 0), (None, 0, 0), (0, 1, 1), (0, 0, 0)]
LABELS = [tuple(name for name, entry in zip(NAMES, row, strict=True) if entry == 1) for row in TRUTH]
UNKNOWN = [tuple(name for name, entry in zip(NAMES, row, strict=True) if entry is None) for row in TRUTH]


def write(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", *header, "caption"], *([i, *row, f"a {i}"] for i, row in enumerate(rows))])
    return path


def one_hot(path, mark, zero="0"):
    cells = {None: mark, 0: zero, 1: "1"}
    return write(path, NAMES, [[cells[entry] for entry in row] for row in TRUTH])


def only(data, **options):
    reading = understand(data, ReadOptions(**options))
    (table,) = reading.tables.values()
    return table, reading


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("-1", {}),
        ("?", {}),
        ("", {"unknown": ["blank"]}),
        ("nan", {"unknown": ["blank"]}),
        ("nan", {"unknown": ["nan"]}),
        ("U", {"unknown": ["U", "X"]}),
    ],
)
def test_marked_cells_of_columns_of_0_and_1_are_unknown_and_counted(tmp_path, mark, options):
    table, reading = only(one_hot(tmp_path / "x.csv", mark), **options)
    assert (table.labels, table.unknown) == (LABELS, UNKNOWN)
    assert "unknown labels: 3 of 18 entries are unknown: " in reading.text()
    assert not any("rows without a label: 2" in line for line in reading.warnings)  # one is unknown


def test_blank_is_negative_by_default_and_a_warning_where_others_say_0(tmp_path):
    table, reading = only(one_hot(tmp_path / "x.csv", ""))
    assert (table.labels, table.unknown) == (LABELS, [])
    assert any(
        "3 of 18 label entries are blank" in line and "--unknown blank" in line for line in reading.warnings
    )
    table, reading = only(one_hot(tmp_path / "y.csv", "", zero=""))
    assert (table.labels, table.unknown) == (LABELS, [])
    assert not any("blank" in line for line in reading.warnings)


@pytest.mark.parametrize(("uncertain", "labels", "rows"), [
    ("negative", LABELS, 6),
    ("positive", [a + b for a, b in zip(LABELS, UNKNOWN, strict=True)], 6),
    ("missing", [names for names, unknown in zip(LABELS, UNKNOWN, strict=True) if not unknown], 3),
])  # fmt: skip
def test_minus_one_may_be_read_otherwise(tmp_path, uncertain, labels, rows):
    table, reading = only(one_hot(tmp_path / "x.csv", "-1"), uncertain=uncertain)
    assert len(table) == rows
    assert [set(names) for names in table.labels] == [set(names) for names in labels]
    assert table.unknown == []
    assert any("uncertain label, -1: 3" in line and "--uncertain" in line for line in reading.warnings)


@pytest.mark.parametrize("column", ["unknown_labels", "doubtful"])
def test_a_column_lists_unknown_labels_as_that_of_the_labels_does(tmp_path, column):
    rows = [[";".join(names), ";".join(unknown)] for names, unknown in zip(LABELS, UNKNOWN, strict=True)]
    data = write(tmp_path / "x.csv", ["labels", column], rows)
    columns = Columns(unknown=column if column == "doubtful" else None)
    table, reading = only(data, columns=columns)
    assert (table.labels, table.unknown) == (LABELS, UNKNOWN)
    assert f"unknown labels: column {column}" in reading.text()
    with pytest.raises(UsageError, match="doubtfull"):
        understand(data, ReadOptions(columns=Columns(unknown="doubtfull")))


def test_a_mark_precedes_the_name_of_an_unknown_label(tmp_path):
    rows = [
        ["|".join([*names, *(f"?{name}" for name in unknown)])]
        for names, unknown in zip(LABELS, UNKNOWN, strict=True)
    ]
    data = write(tmp_path / "x.csv", ["labels"], rows)
    table, _ = only(data, unknown=["?"])
    assert (table.labels, table.unknown) == (LABELS, UNKNOWN)
    plain, _ = only(data)
    assert plain.unknown == []
    assert ("dog", "?bird") in plain.labels


@pytest.mark.parametrize("form", ["vector", "null", "object", "lists"])
def test_json_has_null_minus_one_or_a_second_list(tmp_path, form):
    records = []
    for i, row in enumerate(TRUTH):
        record = {"id": str(i), "caption": f"a {i}"}
        if form == "vector":
            record["labels"] = [-1 if entry is None else entry for entry in row]
        elif form == "null":
            record["labels"] = list(row)
        elif form == "object":
            record["labels"] = {
                name: None if entry is None else bool(entry) for name, entry in zip(NAMES, row, strict=True)
            }
        else:
            record |= {"labels": LABELS[i], "unknown_labels": UNKNOWN[i]}
        records.append(json.dumps(record))
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(records))
    table, _ = only(path, classes=NAMES if form in ("vector", "null") else ())
    assert [sorted(names) for names in table.labels] == [sorted(names) for names in LABELS]
    assert [sorted(names) for names in table.unknown] == [sorted(names) for names in UNKNOWN]


def test_a_label_that_is_named_as_both_is_present_and_one_that_no_row_has_is_no_class(tmp_path):
    data = write(tmp_path / "x.csv", ["labels", "unknown labels"], [["dog", "dog;fish"], ["cat", ""]] * 3)
    table, reading = only(data)
    assert table.unknown == [("fish",), ()] * 3
    assert any("have a label and also name it as unknown: 3" in line for line in reading.warnings)
    assert any(
        "unknown in some rows and present in none" in line and "fish" in line for line in reading.warnings
    )


def test_corrections_settle_unknown_labels(tmp_path):
    _, reading = only(one_hot(tmp_path / "x.csv", "?"))
    (table,) = reading.tables.values()
    file = tmp_path / "corrections.csv"
    file.write_text("split,id,label,decision\nx,0,bird,add\nx,1,cat,remove\nx,3,dog,keep\n")
    correct(reading, file)
    assert table.unknown == [(), (), (), ("dog",), (), ()]
    assert table.labels[0] == ("dog", "bird")
    assert table.labels[1] == ("bird",)
    assert "added 1, removed 1, already so 0, kept 1" in reading.text()


@pytest.mark.parametrize(
    ("cell", "mark"), [("?", "?"), ("", "blank"), ("nan", "blank"), ("NA", "NA"), ("unsure", "unsure")]
)
def test_a_cell_that_is_only_a_mark_makes_every_class_of_the_row_unknown(tmp_path, cell, mark):
    rows = [[";".join(names)] for names in LABELS[:3]]
    table, reading = only(write(tmp_path / "x.csv", ["labels"], [*rows, [cell]]), unknown=[mark])
    assert table.labels == [*LABELS[:3], ()]
    assert table.unknown == [*[()] * 3, ("bird", "cat", "dog")]
    assert not any("without a label" in line or "no label is marked" in line for line in reading.warnings)
    assert "1 rows are marked as unknown (--unknown)" in reading.text()


def test_a_bare_mark_among_names_makes_the_other_classes_unknown(tmp_path):
    data = write(tmp_path / "x.csv", ["labels"], [["dog;?"], ["cat;bird"], ["?bird;cat"]])
    table, _ = only(data, unknown=["?"])
    assert table.labels == [("dog",), ("cat", "bird"), ("cat",)]
    assert table.unknown == [("bird", "cat"), (), ("bird",)]


def test_a_row_that_fills_some_of_several_columns_is_not_blank(tmp_path):
    data = write(
        tmp_path / "x.csv", ["label1", "label2"], [["dog", ""], ["cat", "bird"], ["", ""], ["dog", "?"]]
    )
    table, _ = only(data, unknown=["blank", "?"])
    assert table.labels == [("dog",), ("cat", "bird"), (), ("dog",)]
    assert [set(names) for names in table.unknown] == [set(), set(), {*NAMES}, {"cat", "bird"}]


def test_a_mark_that_is_a_word_is_no_beginning_of_a_name(tmp_path):
    data = write(tmp_path / "x.csv", ["labels"], [["NAcat;umbrella"], ["umbrella"], ["NAcat"], ["u"]])
    table, _ = only(data, unknown=["NA", "u"])
    assert table.labels == [("NAcat", "umbrella"), ("umbrella",), ("NAcat",), ()]
    assert table.unknown == [(), (), (), ("NAcat", "umbrella")]


def test_a_mark_without_effect_is_a_warning_and_an_empty_one_an_error(tmp_path):
    data = write(tmp_path / "x.csv", ["labels"], [["dog"], ["cat"]])
    assert any("no label is marked as unknown by ?" in line for line in only(data, unknown=["?"])[1].warnings)
    with pytest.raises(UsageError, match="blank cells are marked by the word blank"):
        understand(data, ReadOptions(unknown=[""]))


def test_a_column_of_unknown_labels_adds_to_those_of_columns_of_0_and_1(tmp_path):
    rows = [["1", "0", "0", "bird"], ["?", "1", "0", ""], ["0", "0", "1", "cat;dog"]]
    data = write(tmp_path / "x.csv", [*NAMES, "maybe"], rows)
    table, _ = only(data, columns=Columns(labels=("dog:bird",), unknown="maybe"))
    assert table.labels == [("dog",), ("cat",), ("bird",)]
    assert table.unknown == [("bird",), ("dog",), ("cat", "dog")]


def test_a_single_named_column_of_0_and_1_is_one_class_unless_it_has_a_name_of_labels(tmp_path):
    rows = [["1"], ["0"], ["-1"], ["?"], ["1"]]
    table, reading = only(write(tmp_path / "x.csv", ["boat"], rows), columns=Columns(labels=("boat",)))
    assert table.labels == [("boat",), (), (), (), ("boat",)]
    assert table.unknown == [(), (), ("boat",), ("boat",), ()]
    assert "0 and 1 say whether a row is boat, one class" in reading.text()
    for name, cells in (("label", "01"), ("boat", "12"), ("boat", "11")):
        data = write(tmp_path / "y.csv", [name], [[cell] for cell in cells])
        assert only(data, columns=Columns(labels=(name,)))[0].labels == [(cell,) for cell in cells]
