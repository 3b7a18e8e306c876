"""Label sets: further labels of the same rows, read as if their columns were named as the labels."""

import re

import pytest

from encode_once.cache import DataError, UsageError
from encode_once.extract import ReadOptions
from encode_once.extract.readers import Columns, understand
from encode_once.extract.readers.label_sets import NamedColumns

HEADER = "id,labels,genre,Red,Blue,caption"
ROWS = [
    ("1", "dog cat", "drama;black comedy", "1", "0", "one"),
    ("2", "dog", "drama", "0", "1", "two"),
    ("3", "cat", "black comedy;western", "1", "1", "three"),
    ("4", "", "", "0", "0", "four"),
    ("5", "cat dog", "western", "0", "1", "five"),
]


@pytest.fixture
def data(tmp_path):
    def write(rows=ROWS, name="train.csv", header=HEADER):
        (tmp_path / name).write_text("\n".join([header, *map(",".join, rows)]) + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("genre", "genre"),
        ("g=genre", "genre"),
        ("colours=Red,Blue", "Red,Blue"),
        ("colours=Red:Blue", "Red:Blue"),
    ],
)
def test_a_label_set_has_the_labels_that_its_columns_give_as_labels(data, text, columns):
    reading = understand(data(), ReadOptions(label_sets=[text]))
    expected = understand(data(), ReadOptions(columns=Columns(labels=(columns,)))).tables["train"]
    table = reading.tables["train"]
    name = text.partition("=")[0]
    assert {*table.label_sets} == {name}
    assert table.label_sets[name].labels == expected.labels
    assert table.label_sets[name].separator == expected.label_separator
    assert table.label_sets[name].columns == [columns]
    assert table.labels == understand(data()).tables["train"].labels  # they are not changed
    decision = (
        understand(data(), ReadOptions(columns=Columns(labels=(columns,)))).understood[0].decisions["labels"]
    )
    shown = reading.understood[0].decisions[f"label set {name}"]
    assert shown == decision.replace("(--label-column)", "(--label-set)")


def test_a_column_of_a_label_set_does_not_compete_for_the_labels(data):
    header = HEADER.replace("genre", "tags")
    with pytest.raises(UsageError, match="'labels' and 'tags' have equivalent names"):
        understand(data(header=header))
    table = understand(data(header=header), ReadOptions(label_sets=["tags"])).tables["train"]
    assert (table.labels[0], table.label_sets["tags"].labels[0]) == (
        ("dog", "cat"),
        ("drama", "black comedy"),
    )
    again = understand(
        data(header=header),
        ReadOptions(label_sets=["more=labels", "tags"], columns=Columns(labels=("tags",))),
    )
    assert again.tables["train"].labels[0] == ("drama", "black comedy")


def test_unknown_labels_of_a_set_are_those_of_its_own_columns(data):
    rows = [(*row[:3], "-1" if row[0] == "2" else row[3], *row[4:], "cat") for row in ROWS]
    reading = understand(data(rows, header=f"{HEADER},UnknownLabels"), ReadOptions(label_sets=["c=Red:Blue"]))
    table = reading.tables["train"]
    assert "unknown labels of c: 1 of 10 entries are unknown: Red 1" in reading.text()
    assert table.unknown[1] == ("cat",)
    assert table.label_sets["c"].unknown == [(), ("Red",), (), (), ()]
    assert table.label_sets["c"].labels == [("Red",), ("Blue",), ("Red", "Blue"), (), ("Blue",)]


def test_each_label_set_has_a_separator_of_its_own(data):
    table = understand(data(), ReadOptions(label_sets=["genre:;", "whole=genre:|"])).tables["train"]
    assert table.label_sets["genre"].labels[0] == ("drama", "black comedy")
    assert table.label_sets["whole"].labels[0] == ("drama;black comedy",)


def test_rows_of_one_image_are_joined_in_label_sets_too(data):
    rows = [*ROWS, ("2", "dog", "western", "0", "1", "two again")]
    table = understand(data(rows), ReadOptions(label_sets=["genre"])).tables["train"]
    assert table.ids == ["1", "2", "3", "4", "5"]
    assert table.label_sets["genre"].labels[1] == ("drama", "western")


def test_a_split_without_the_columns_has_no_label_set(data):
    data([row[:1] + row[5:] for row in ROWS], "test.csv", "id,caption")
    tables = understand(data(), ReadOptions(label_sets=["genre"])).tables
    assert ({*tables["train"].label_sets}, {*tables["test"].label_sets}) == ({"genre"}, set())


def test_warnings_of_the_rows_are_not_repeated_and_those_of_the_set_name_it(data):
    rows = [(*row[:5], row[5] if row[0] != "2" else "") for row in ROWS]
    warnings = understand(data(rows), ReadOptions(label_sets=["genre"])).warnings
    assert sum("empty caption" in line for line in warnings) == 1
    assert [line for line in warnings if line.startswith("label set genre: ")] == []
    rows[0] = ("1", "dog cat", "", "1", "0", "one")
    warnings = understand(data(rows), ReadOptions(label_sets=["genre"])).warnings
    (line,) = [line for line in warnings if line.startswith("label set genre: ")]
    assert "rows without a label: 2" in line


def test_a_row_that_cannot_be_read_is_an_error_or_without_labels(data):
    rows = [(*row[:3], "maybe" if row[0] == "2" else row[3], *row[4:]) for row in ROWS]
    rows += [("6", "dog", "drama", "1", "0", "six"), ("7", "dog", "drama", "0", "0", "seven")]
    wide = [(*row[:4], row[4], row[4], row[5]) for row in rows]
    path = data(wide, header="id,labels,genre,Red,Blue,Green,caption")
    with pytest.raises(DataError, match="'maybe', where classes have 0, 1"):
        understand(path, ReadOptions(label_sets=["colours=Red:Green"]))
    reading = understand(path, ReadOptions(label_sets=["colours=Red:Green"], skip_bad_rows=True))
    table = reading.tables["train"]
    assert table.ids == [row[0] for row in rows]  # the labels themselves can be read
    assert table.label_sets["colours"].labels[1] == ()
    assert any("1 rows cannot be read for the label set colours" in line for line in reading.warnings)


@pytest.mark.parametrize("text", ["", "=genre", ":;"])
def test_a_text_without_a_column_is_refused(text):
    with pytest.raises(UsageError, match="--label-set"):
        NamedColumns.parse(text)


def test_names_are_unique_and_columns_exist(data):
    with pytest.raises(UsageError, match="the name is used twice"):
        understand(data(), ReadOptions(label_sets=["a=genre", "a=Red,Blue"]))
    with pytest.raises(UsageError, match=re.escape("unknown column of")):
        understand(data(), ReadOptions(label_sets=["a=gnre"]))


def test_the_column_of_unknown_labels_is_of_the_own_labels_only():
    columns = Columns(labels=("Red:Blue",), unknown="")
    names = columns.as_names()
    assert names == {"labels": ["Red:Blue"], "unknown": [""]}
    assert Columns.preferring(names).present(["Red", "Blue", "unknown_labels"]).unknown == ""
