"""Tables as users have them: labels, columns, rows and delimiters of many forms."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from encode_once.cache import Store
from encode_once.cache.errors import DataError, UsageError
from encode_once.extract import ReadOptions
from encode_once.extract.readers import Columns, understand
from encode_once.extract.readers.label_notation import class_list
from encode_once.extract.readers.separators import decide

COLOURS = ["red", "green", "blue"]
# Row → its labels: all eight combinations, three times.
SETS = [[name for bit, name in enumerate(COLOURS) if (row + 1) % 8 >> bit & 1] for row in range(24)]
CAPTIONS = [
    f"a picture of {' and '.join(names) or 'nothing'}, number {row}" for row, names in enumerate(SETS)
]
BINARY = MultiLabelBinarizer(classes=COLOURS).fit_transform(SETS)


def frame(**columns):
    return pd.DataFrame({"id": [str(row) for row in range(24)], **columns, "caption": CAPTIONS})


def one_hot(**changes):
    return frame(**{name: BINARY[:, c] for c, name in enumerate(COLOURS)}, **changes)


def write(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, **options)
    return path


def only(data, **options):
    """The only table, its row's labels as lists, and the reading."""
    reading = understand(data, ReadOptions(**options))
    (table,) = reading.tables.values()
    labels = None if table.labels is None else [list(names) for names in table.labels]
    return table, labels, reading


def error(data, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        understand(data, ReadOptions(**options))
    message = str(caught.value)
    assert len(message) <= 300 + len(str(data))
    assert "\n" not in message
    return message


# -------------------------------------------------------------------------------- one column for each class


def test_a_cell_that_is_no_flag_in_a_class_column_is_an_error_with_its_line(tmp_path):
    odd = one_hot()
    odd["red"] = odd["red"].astype(str)
    odd.loc[4, "red"] = "2"
    write(tmp_path / "train.csv", odd)
    message = error(tmp_path / "train.csv", columns=Columns(labels=["red:blue"]))
    assert "train.csv:6" in message
    assert "'red' has '2'" in message
    _, labels, reading = only(
        tmp_path / "train.csv", columns=Columns(labels=["red:blue"]), skip_bad_rows=True
    )
    assert labels == [sorted(names, key=COLOURS.index) for row, names in enumerate(SETS) if row != 4]
    assert any("left out" in warning for warning in reading.warnings)


def test_a_test_table_is_not_read_by_the_trains_classes_where_its_cells_are_none(tmp_path):
    write(tmp_path / "train.csv", one_hot())
    odd = one_hot()
    odd["blue"] = "maybe"
    write(tmp_path / "test.csv", odd)
    assert "'blue' has 'maybe'" in error(tmp_path)


def test_labels_of_a_later_split_count_where_the_train_table_has_none(tmp_path):
    write(tmp_path / "train.csv", frame())
    write(tmp_path / "val.csv", frame(labels=[" ".join(names) for names in SETS]))
    reading = understand(tmp_path)
    assert [list(names) for names in reading.tables["val"].labels] == SETS


def test_columns_of_0_and_1_are_classes(tmp_path):
    table, labels, reading = only(write(tmp_path / "x.csv", one_hot()))
    assert labels == SETS
    assert table.captions == CAPTIONS
    assert table.columns == {}
    assert "3 classes (blue, green, red), 1.5 a row, 3 rows without" in reading.text()


def test_roboflows_names_with_blanks_are_classes(tmp_path):
    text = "filename, red, green, blue\n" + "".join(
        f"{i}.jpg,{a},{b},{c}\n" for i, (a, b, c) in enumerate(BINARY)
    )
    (tmp_path / "_classes.csv").write_text(text)
    for row in range(24):
        (tmp_path / f"{row}.jpg").touch()
    table, labels, _ = only(tmp_path)
    assert labels == SETS
    assert table.ids == [f"{row}.jpg" for row in range(24)]


@pytest.mark.parametrize(
    "chosen", [("red,green,blue",), ("red:blue",), ("red", "green", "blue"), ("red,green", "blue")]
)
def test_classes_may_be_named_as_a_list_a_range_or_one_by_one(tmp_path, chosen):
    path = write(tmp_path / "x.csv", one_hot(width=range(24)))
    _, labels, _ = only(path, columns=Columns(labels=chosen))
    assert labels == SETS
    message = error(path, UsageError, columns=Columns(labels=("red:bleu",)))
    assert "red:bleu" in message


def test_columns_that_may_be_classes_beside_others_are_named_with_the_option(tmp_path):
    _, labels, reading = only(write(tmp_path / "x.csv", one_hot(price=np.arange(24) / 7)))
    assert labels is None
    assert "--label-columns 'red:blue' reads them" in reading.text()


@pytest.mark.parametrize(
    ("uncertain", "positives", "rows"),
    [("negative", {"1.0"}, 24), ("positive", {"1.0", "-1.0"}, 24), ("missing", {"1.0"}, 12)],
)
def test_minus_one_beside_0_is_uncertain_and_blank_is_negative(tmp_path, uncertain, positives, rows):
    """As CheXpert has it; the expected labels are those that pandas sees."""
    cells = [
        ["1.0", "0.0", "-1.0", ""][(row * 5 + c) % 4 if row % 4 else 3 * (c == 1)]
        for row in range(24)
        for c in range(3)
    ]
    table = frame(**{name: cells[c::3] for c, name in enumerate(COLOURS)}, Sex="Female", Age=range(24))
    expected = [
        [name for name in COLOURS if row[name] in positives]
        for _, row in table.iterrows()
        if uncertain != "missing" or not (row[COLOURS] == "-1.0").any()
    ]
    assert len(expected) == rows
    _, labels, reading = only(write(tmp_path / "x.csv", table), uncertain=uncertain)
    assert labels == expected
    assert any("uncertain label, -1" in line and "--uncertain" in line for line in reading.warnings)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [("Positive", "Negative"), ("✓", ""), ("checked", ""), ("Present", "Absent"), ("☑", "☐"), (None, "")],
)
def test_a_column_of_a_class_may_say_yes_in_other_words(tmp_path, positive, negative):
    """None: surveys write the name of the choice itself."""
    cells = {c: [(positive or c) if c in names else negative for names in SETS] for c in COLOURS}
    assert only(write(tmp_path / "x.csv", frame(**cells)))[1] == SETS


def test_columns_that_are_called_0_and_1_are_read_by_their_cells(tmp_path):
    table = frame(**{str(c): BINARY[:, c] for c in range(3)})
    assert only(write(tmp_path / "x.csv", table))[1] == [
        [str(COLOURS.index(name)) for name in names] for names in SETS
    ]


@pytest.mark.parametrize("name", ["Unlabeled", "N/A", "none"])
def test_a_column_that_says_that_there_is_no_label_is_no_class(tmp_path, name):
    """Roboflow's column, and that of the movie posters of Kaggle."""
    table = one_hot(**{name: [int(not names) for names in SETS]})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == SETS
    assert f"{name} is no class, but says that a row has none" in reading.text()


def test_whole_numbers_with_a_fraction_are_the_same_classes_as_without(tmp_path):
    write(tmp_path / "train.csv", frame(label=[None, *(row % 3 for row in range(23))]))
    write(tmp_path / "val.csv", frame(label=[row % 3 for row in range(24)]))
    assert "1.0" in (tmp_path / "train.csv").read_text()
    reading = understand(tmp_path)
    assert reading.tables["train"].labels == [(), *((str(row % 3),) for row in range(23))]
    assert reading.tables["val"].labels == [(str(row % 3),) for row in range(24)]
    assert "numbers such as 1.0 are read as 1" in reading.text()


def test_minus_one_without_0_is_negative(tmp_path):
    table = one_hot().replace({name: {0: -1} for name in COLOURS})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == SETS
    assert "-1 is negative" in reading.text()


# ----------------------------------------------------------------------------------- names in one cell


@pytest.mark.parametrize(
    ("cells", "expected", "separator"),
    [
        (["golden retriever", "siamese cat", "cat"], [["golden retriever"], ["siamese cat"], ["cat"]], None),
        (["traffic light", "stop sign"], [["traffic light"], ["stop sign"]], None),
        (["red", "green", "red green"], [["red"], ["green"], ["red", "green"]], " "),
        (["hot dog, cat", "cat", "hot dog"], [["hot dog", "cat"], ["cat"], ["hot dog"]], ","),
        (["R&B", "Rock", "Pop"], [["R&B"], ["Rock"], ["Pop"]], None),
        (["C++", "C", "C++ + C", "Go"], [["C++"], ["C"], ["C++", "C"], ["Go"]], "+"),
        (["/m/01", "/m/02", "/m/01"], [["/m/01"], ["/m/02"], ["/m/01"]], None),
        (["1 19", "3", "2 3"], [["1", "19"], ["3"], ["2", "3"]], " "),
        (["<a><b c>", "<a>", "<b c>"], [["a", "b c"], ["a"], ["b c"]], None),
        (["Portland, OR", "Salem, OR", "Boise, ID", "Austin, TX", "Dallas, TX"] * 2, None, None),
        (["American Robin", "European Robin", "American Crow", "Hooded Crow"] * 3, None, None),
        (["a/b", "a", "b"], [["a", "b"], ["a"], ["b"]], "/"),
        (["TV/monitor", "sofa", "TV/monitor"], [["TV/monitor"], ["sofa"], ["TV/monitor"]], None),
        (["a-b", "a", "b", "c", "b-c"], [["a", "b"], ["a"], ["b"], ["c"], ["b", "c"]], "-"),
        (["a_b", "a", "b", "c", "b_c"], [["a", "b"], ["a"], ["b"], ["c"], ["b", "c"]], "_"),
        (["a and b", "a", "b", "c", "b and c"], [["a", "b"], ["a"], ["b"], ["c"], ["b", "c"]], " and "),
        (["T-shirt", "hat", "bow-tie"], [["T-shirt"], ["hat"], ["bow-tie"]], None),
        (["hot", "dog", "hot_dog"], [["hot"], ["dog"], ["hot_dog"]], None),
        (["犬、猫", "犬", "猫"], [["犬", "猫"], ["犬"], ["猫"]], "、"),
        (["红，绿 色", "红", "绿 色"], [["红", "绿 色"], ["红"], ["绿 色"]], "，"),
        (["Red (bright, warm), Blue", "Blue", "Red (bright, warm)"],
         [["Red (bright, warm)", "Blue"], ["Blue"], ["Red (bright, warm)"]], ","),
        (["R&amp;B;Rock", "Rock", "R&amp;B"], [["R&amp;B", "Rock"], ["Rock"], ["R&amp;B"]], ";"),
        (["#a#b", "#a", "#b #a"], [["#a", "#b"], ["#a"], ["#b", "#a"]], None),
        (["😀 🚗", "😀", "🚗"], [["😀", "🚗"], ["😀"], ["🚗"]], " "),
        (["'a', 'b c'", "'a'", "'b c'"], [["a", "b c"], ["a"], ["b c"]], None),
        (['"a", "b"', '"a"', '"b"'], [["a", "b"], ["a"], ["b"]], None),
        (["a; b; ", "b; ", "a;"], [["a", "b"], ["b"], ["a"]], ";"),
    ],
)  # fmt: skip
def test_the_separator_is_decided_by_the_whole_column(tmp_path, cells, expected, separator):
    table = pd.DataFrame({"id": range(len(cells)), "labels": cells, "caption": "a"})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == (expected or [[cell] for cell in cells])
    if separator:
        assert f"separated by {separator!r}" in reading.text()


def test_a_doubtful_separator_is_a_warning_with_the_option(tmp_path):
    cells = ["black cat", "black dog", "white cat", "white dog"]
    table = pd.DataFrame({"id": range(4), "labels": cells, "caption": "a"})
    path = write(tmp_path / "x.csv", table)
    _, labels, reading = only(path)
    assert labels == [[cell] for cell in cells]
    (line,) = reading.warnings
    assert "'black cat' may be 'black' and 'cat'; if so, use --label-separator" in line
    assert only(path, label_separator=" ")[1] == [cell.split() for cell in cells]


@pytest.mark.parametrize("odd", ["red;green", "red | green", "red,green", "red/green"])
def test_one_odd_cell_is_named_by_line_and_leaves_the_others_as_they_are(tmp_path, odd):
    cells = [" ".join(names) for names in SETS]
    cells[18] = odd
    _, labels, reading = only(write(tmp_path / "x.csv", frame(labels=cells)))
    assert labels == [*SETS[:18], ["red", "green"], *SETS[19:]]
    assert any("x.csv:20" in line and "separated by ' '" in line for line in reading.warnings)


@pytest.mark.parametrize(
    ("train", "val", "separator"),
    [
        (["red;green", "red", "green"] * 5, ["red green", "green", "red"], " "),
        (["red green", "red", "green"] * 5, ["violet, red", "violet", "red, green, blue"], ","),
        (["hot dog|cat", "cat", "hot dog"] * 5, ["hot dog,cat", "ox,hot dog"], ","),
        (["red|green", "red", "green"] * 5, ["pink,rose", "rose,lilac", "lilac"], ","),
        (["red", "green"] * 5, ["red,green", "green"], ","),
        (["hot dog,red", "red", "hot dog"] * 5, ["hot dog", "hot dog", "red"], ","),
        (["red green", "red", "green"] * 5, ["R&B", "red green"], " "),
    ],
)
def test_a_table_may_have_another_separator_than_the_train_table(tmp_path, train, val, separator):
    tables = {"train": train, "val": val}
    for split, cells in tables.items():
        write(
            tmp_path / f"{split}.csv", pd.DataFrame({"id": range(len(cells)), "labels": cells, "text": "a"})
        )
    reading = understand(tmp_path)
    shared = next((s for s in ";|, " if any(s in cell for cell in train)), separator)
    for split, of_split in (("train", shared), ("val", separator)):
        names = pd.Series(tables[split]).str.split(of_split, regex=False)
        labels = [list(names_of_row) for names_of_row in reading.tables[split].labels]
        assert labels == [[name.strip() for name in names_of_row] for names_of_row in names]
    differs = any("val.csv: labels are separated by" in line for line in reading.warnings)
    assert differs == (separator != shared)


def test_each_table_has_its_own_separator():
    assert decide({"a b": 3, "a": 1, "b": 1}).text == " "
    assert decide({"a b;c": 3, "a b": 1, "c": 1}).text == ";"
    assert decide({}).text is None


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "N/A", "[]", "<NA>"])
def test_words_for_missing_values_are_no_labels_and_no_captions_unless_kept(tmp_path, word):
    table = pd.DataFrame({"id": range(3), "labels": ["red", word, "green"], "caption": ["a", "b", word]})
    path = write(tmp_path / "x.csv", table)
    rows, labels, reading = only(path)
    assert labels == [["red"], [], ["green"]]
    assert rows.captions == ["a", "b", ""]
    assert reading.text().count("1 cells such as nan, None or []") == 2
    rows, labels, _ = only(path, keep_text=True)
    assert rows.captions == ["a", "b", word]
    assert labels == [["red"], [word], ["green"]] or word == "[]"


def test_label_studios_cells_are_names_or_objects(tmp_path):
    cells = ["Cat", '{"choices":["Cat","Big Dog"]}', "Big Dog", '{"choices": ["Cat"]}']
    table = pd.DataFrame({"id": range(4), "choice": cells, "text": "a b"})
    assert only(write(tmp_path / "x.csv", table))[1] == [["Cat"], ["Cat", "Big Dog"], ["Big Dog"], ["Cat"]]


def test_a_cell_that_is_no_list_among_lists_is_named(tmp_path):
    table = pd.DataFrame({"id": range(4), "labels": ["['a']", "['b', 'a']", "b", "[]"], "caption": "x"})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == [["a"], ["b", "a"], ["b"], []]
    assert any(
        "no lists in a column of lists, each read as one name: 1 (first: " in line and "x.csv:4" in line
        for line in reading.warnings
    )


# ------------------------------------------------------------------------------------- vectors and columns


@pytest.mark.parametrize("written", [lambda v: " ".join(map(str, v)), str, lambda v: "".join(map(str, v))])
def test_vectors_of_0_and_1_need_the_names_of_the_classes(tmp_path, written):
    path = write(tmp_path / "x.csv", frame(labels=[written(row) for row in BINARY.tolist()]))
    message = error(path)
    assert "vectors of 3 numbers, each 0 or 1" in message
    assert "--classes FILE" in message
    assert only(path, classes=("red", "green", "blue"))[1] == SETS
    assert "--classes has 2 names, and the labels are vectors of 3" in error(path, classes=("red", "green"))


def test_labels_that_numpy_shortened_are_refused(tmp_path):
    vectors = np.eye(24, 1200, dtype=int)
    path = write(tmp_path / "x.csv", frame(labels=[str(row) for row in vectors]))
    assert "labels were shortened when they were written, such as [1 0 0 ... 0 0 0]" in error(path)


def test_dots_in_a_quoted_name_are_a_part_of_it(tmp_path):
    rows = [["and so on..."], ["red", "a ... b"], ["red"]] * 8
    assert only(write(tmp_path / "x.csv", frame(labels=[*map(str, rows)])))[1] == rows


def test_class_names_without_vectors_are_an_error(tmp_path):
    path = write(tmp_path / "x.csv", frame(labels=[" ".join(names) for names in SETS]))
    assert "the labels are not" in error(path, classes=("a", "b"))


@pytest.mark.parametrize(
    "name", ["genres", "target", "Finding Labels", "LabelName", "hashtags", "image_tags"]
)
def test_label_columns_of_less_common_names_are_taken_if_their_cells_recur(tmp_path, name):
    path = write(tmp_path / "x.csv", frame(**{name: [" ".join(names) for names in SETS]}))
    assert only(path)[1] == SETS
    unique = write(tmp_path / "y.csv", frame(**{name: [f"word{row} of{row}" for row in range(24)]}))
    table, labels, reading = only(unique)
    assert labels is None
    assert name in table.columns
    assert f"--label-column names a column; not used as labels: {name}" in reading.text()


def test_a_column_of_a_name_that_nobody_knows_is_read_with_the_option(tmp_path):
    path = write(tmp_path / "x.csv", frame(farben=[" ".join(names) for names in SETS]))
    _, labels, reading = only(path)
    assert labels is None
    assert "--label-column names a column; not used as labels: farben" in reading.text()
    assert only(path, columns=Columns(labels=("farben",)))[1] == SETS


def test_several_label_columns_are_joined(tmp_path):
    cells = {f"label{i + 1}": [names[i] if i < len(names) else "" for names in SETS] for i in range(3)}
    path = write(tmp_path / "x.csv", frame(**cells))
    assert only(path)[1] == SETS
    two = [names[:1] + names[2:] for names in SETS]
    assert only(path, columns=Columns(labels=("label1", "label3")))[1] == two


# ------------------------------------------------------------------------------------------ rows of an image


def test_five_captions_of_an_image_are_one_row(tmp_path):
    rows = [(f"{image}.jpg", f"caption {n} of {image}") for image in range(4) for n in range(5)]
    table = pd.DataFrame(rows, columns=["image", "caption"])
    table["comment_number"] = [n for _ in range(4) for n in range(5)]
    read, _, reading = only(write(tmp_path / "x.csv", table))
    assert read.ids == [f"{image}.jpg" for image in range(4)]
    for image in range(4):
        columns = [read.captions, *read.more_captions]
        assert [column[image] for column in columns] == [f"caption {n} of {image}" for n in range(5)]
    assert read.columns == {}
    assert "20 rows are of 4 images, by image: joined" in reading.text()
    assert "comment_number differs between rows of an image: not kept" in reading.text()


def test_a_row_for_each_label_and_verified_absent_ones(tmp_path):
    rows = [(row, name, int(name in names)) for row, names in enumerate(SETS) for name in COLOURS]
    table = pd.DataFrame(rows, columns=["ImageID", "LabelName", "Confidence"])
    table["caption"] = table["ImageID"].map(dict(enumerate(CAPTIONS)))
    read, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == SETS
    assert read.captions == CAPTIONS
    assert "36 rows with Confidence 0 say that their label is absent" in reading.text()


def test_one_id_of_two_images_is_refused_with_both_lines(tmp_path):
    (tmp_path / "x.csv").write_text("id,image,caption\n0,a.jpg,x\n1,b.jpg,y\n0,c.jpg,z\n")
    message = error(tmp_path / "x.csv")
    assert "x.csv:4: the id '0' is already used by" in message
    assert "x.csv:2, for another image" in message


# ---------------------------------------------------------------------------------- delimiters, leftovers


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "train.csv"), ("\t", "train.csv"), ("|", "x.csv"), ("\t", "x.tsv")]
)
def test_delimiters_are_those_of_header_and_first_row(tmp_path, delimiter, name):
    write(tmp_path / "d" / name, frame(labels=[" ".join(names) for names in SETS]), sep=delimiter)
    table, labels, _ = only(tmp_path / "d")
    assert (labels, table.captions) == (SETS, CAPTIONS)


def test_excels_first_line_of_the_delimiter_is_no_header(tmp_path):
    text = frame(labels=[" ".join(names) for names in SETS]).to_csv(index=False, sep=";")
    (tmp_path / "train.csv").write_text("sep=;\n" + text)
    assert only(tmp_path)[1] == SETS


@pytest.mark.parametrize(
    "before",
    [["# exported, by a tool", "# 2024"], ["My labels;;"], ["Labels of 2024", "", ";;"], ["", "a title"]],
)
def test_comments_and_titles_before_the_header_are_skipped_and_reported(tmp_path, before):
    text = frame(labels=[",".join(names) for names in SETS]).to_csv(index=False, sep=";")
    (tmp_path / "train.csv").write_text("\n".join([*before, text]))
    table, labels, reading = only(tmp_path)
    assert (labels, table.captions) == (SETS, CAPTIONS)
    number = sum(bool(line.strip(";")) or line == ";;" for line in before)
    assert any(f"train.csv: lines before the header: {number} (" in line for line in reading.warnings)
    assert any(f"train.csv:{len(before) + 9}, id '7'" in line for line in reading.warnings)


def test_a_first_line_that_may_be_a_header_is_never_skipped(tmp_path):
    (tmp_path / "x.csv").write_text('caption\n"a cat, image"\na dog\n')
    assert only(tmp_path / "x.csv")[0].captions == ["a cat, image", "a dog"]
    (tmp_path / "y.csv").write_text("my id;farben\n0;red, tags\nimage;label\n")
    assert only(tmp_path / "y.csv", columns=Columns(captions=("farben",)))[0].captions == [
        "red, tags",
        "label",
    ]


def test_titles_above_a_spreadsheets_header_are_skipped_and_reported(tmp_path):
    table = frame(labels=[",".join(names) for names in SETS])
    with pd.ExcelWriter(tmp_path / "x.xlsx") as writer:
        table.to_excel(writer, index=False, startrow=2)
        writer.book.active["A1"] = "Labels of 2024"
    read, labels, reading = only(tmp_path / "x.xlsx")
    assert (labels, read.captions) == (SETS, CAPTIONS)
    assert any("rows before the header: 1 ('Labels of 2024')" in line for line in reading.warnings)


def test_a_first_row_in_place_of_a_header_is_named(tmp_path):
    (tmp_path / "x.tsv").write_text(
        "a cat, here\thttps://a.example/0.jpg\na dog, there\thttps://a.example/1.jpg\n"
    )
    assert "the first line is no header, as it has 'https://a.example/0.jpg'" in error(tmp_path / "x.tsv")


def test_a_blank_after_each_delimiter_belongs_to_it(tmp_path):
    (tmp_path / "x.csv").write_text(
        "image_name| comment_number| comment\n0.jpg| 0| a dog , here\n1.jpg| 0| a cat\n"
    )
    assert only(tmp_path / "x.csv")[0].captions == ["a dog , here", "a cat"]


def test_a_missing_header_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("0,red,a red box\n1,blue,a blue box\n")
    message = error(tmp_path / "x.csv")
    assert "no column has a known name" in message
    assert "if the first line is no header, add one" in message


def test_quotes_at_the_start_of_a_field_of_tabs_are_text(tmp_path):
    rows = ['0\tred\t"Hello" she said', '1\tred\ta "nice" cat', "2\tred\tplain"]
    (tmp_path / "x.tsv").write_text("id\tlabels\ttext\n" + "\n".join(rows) + "\n")
    table, _, reading = only(tmp_path / "x.tsv")
    assert table.captions == ['"Hello" she said', 'a "nice" cat', "plain"]
    assert any("x.tsv:2: not well-formed CSV" in line for line in reading.warnings)


@pytest.mark.parametrize(
    ("change", "unused"),
    [
        (lambda text: text.replace("\n", ",,\n"), False),  # empty columns
        (lambda text: text + ",,\n,,\n", False),  # empty rows
        (
            lambda text: "\n".join(f"{line}," if n else line for n, line in enumerate(text.splitlines())),
            False,
        ),
        (
            lambda text: "\n".join(
                f"{n - 1 if n else ''},{line}," for n, line in enumerate(text.splitlines())
            ),
            True,
        ),
    ],
)
def test_what_a_spreadsheet_leaves_behind_is_ignored(tmp_path, change, unused):
    table = frame(labels=[" ".join(names) for names in SETS])
    table["caption"] = [caption.replace(",", "") for caption in CAPTIONS]
    (tmp_path / "train.csv").write_text(change(table.to_csv(index=False)))
    read, labels, reading = only(tmp_path)
    assert labels == SETS
    assert read.captions == [caption.replace(",", "") for caption in CAPTIONS]
    assert any("1 column without a name in train.csv" in line for line in reading.unused) == unused


def test_a_row_with_a_fault_leaves_the_captions_of_the_others_as_they_are(tmp_path):
    good = 'a "nice" cat, sitting'
    file = io.StringIO()
    csv.writer(file).writerows([("ImageID", "Labels", "Caption"), *((row, "red", good) for row in range(30))])
    lines = file.getvalue().splitlines()
    lines[21] = "20,red,a cat, sitting"
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    table, _, reading = only(tmp_path)
    assert table.captions == [good] * 20 + ["a cat, sitting"] + [good] * 9
    (line,) = reading.warnings
    assert "train.csv:22: not well-formed CSV" in line
    assert "read literally: 1 (first: line 22)" in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_say_the_encoding(tmp_path, encoding):
    table = frame(labels=[" ".join(names) for names in SETS])
    table["caption"] = [f"café {row}" for row in range(24)]
    read, labels, _ = only(write(tmp_path / "x.csv", table, encoding=encoding))
    assert labels == SETS
    assert read.captions == [f"café {row}" for row in range(24)]


def test_files_beside_the_tables_are_reported_with_what_reads_them(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path / f"{split}.csv", frame(labels="red"))
    (tmp_path / "_annotations.coco.json").write_text(json.dumps({"images": []}))
    write(tmp_path / "prices.csv", frame())
    reading = understand(tmp_path)
    assert list(reading.tables) == ["train", "test", "val"]
    text = reading.text()
    assert "not used: _annotations.coco.json, prices.csv" in text
    assert "--data " in text


def test_a_table_of_something_else_is_reported_beside_others(tmp_path):
    """As Open Images has its class descriptions."""
    write(tmp_path / "annotations.csv", frame(labels="red"))
    (tmp_path / "class-descriptions.csv").write_text("/m/01,Tortoise\n/m/02,Person\n")
    reading = understand(tmp_path)
    assert list(reading.tables) == ["annotations"]
    assert any("class-descriptions.csv: no column has a known name; --data" in x for x in reading.unused)
    (tmp_path / "annotations.csv").rename(tmp_path / "train.csv")
    (tmp_path / "class-descriptions.csv").rename(tmp_path / "val.csv")
    assert "val.csv: no column has a known name" in error(tmp_path)


def test_columns_of_one_name_are_named(tmp_path):
    (tmp_path / "x.csv").write_text("id,label,label,caption\n0,red,green,a\n")
    assert "two columns share the name 'label'" in error(tmp_path / "x.csv")


# ------------------------------------------------------------------------------------------ the command line


def test_a_dry_run_prints_what_was_understood_and_writes_nothing(run, tmp_path):
    write(tmp_path / "input" / "train.csv", one_hot())
    done = run("extract", "--dry-run", "--data", "input", "--json")
    content = json.loads(done.stdout)
    (table,) = content["tables"]
    assert table["labels"] == SETS
    assert table["captions"] == [[caption] for caption in CAPTIONS]
    assert table["ids"] == [str(row) for row in range(24)]
    assert table["split"] == "train"
    assert "3 classes (blue, green, red)" in table["decisions"]["labels"]
    assert "labels: columns red, green, blue" in done.stderr
    assert not Store("store").exists
    assert "labels: columns red" in run("extract", "--dry-run", "--data", "input").stdout


def test_extract_reports_what_it_understood_and_fit_names_the_option_for_labels(run, tmp_path):
    write(tmp_path / "input" / "train.csv", frame(farben=[" ".join(names) for names in SETS]))
    done = run("extract", "--encoder", "glove-50", "--json")
    assert "not used as labels: farben" in done.stderr
    assert "not used as labels: farben" in json.loads(done.stdout)["tables"][0]["decisions"]["labels"]
    assert "--label-column" in run("fit", "--head", "linear", status=1).stderr
    run("extract", "--encoder", "glove-50", "--label-column", "farben")
    assert [list(names) for names in Store("store").tables()[0].labels] == SETS


def test_classes_may_be_a_file(run, tmp_path):
    (tmp_path / "names.txt").write_text("red\ngreen\n\nblue\n")
    write(tmp_path / "x.csv", frame(labels=[str(row) for row in BINARY.tolist()]))
    for classes in ("names.txt", "red,green,blue"):
        done = run("extract", "--dry-run", "--data", "x.csv", "--classes", classes, "--json")
        assert json.loads(done.stdout)["tables"][0]["labels"] == SETS


def test_small_splits_are_read_as_the_train_table_is(tmp_path):
    write(tmp_path / "train.csv", frame(genres=[" ".join(names) for names in SETS]))
    few = pd.DataFrame({"id": ["a", "b"], "genres": ["red", "violet green"], "caption": ["x", "y"]})
    write(tmp_path / "test.csv", few)
    tables = understand(tmp_path).tables
    assert tables["test"].labels == [("red",), ("violet", "green")]
    assert understand(tmp_path / "test.csv").tables["test"].labels is None


def test_names_on_lines_of_their_own_are_separated(tmp_path):
    table = pd.DataFrame({"id": range(3), "labels": ["hot dog\ncat", "cat\n", "hot dog"], "caption": "a"})
    assert only(write(tmp_path / "x.csv", table))[1] == [["hot dog", "cat"], ["cat"], ["hot dog"]]


def test_lists_among_names_are_read_as_lists_and_named(tmp_path):
    cells = ["red green", "['red']", "red", "green"] * 3
    table = pd.DataFrame({"id": range(12), "labels": cells, "caption": "x"})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == [["red", "green"], ["red"], ["red"], ["green"]] * 3
    assert any(
        "cells that are lists in a column of names" in line and "x.csv:3" in line for line in reading.warnings
    )


def test_rare_names_between_commas_are_separated_as_no_cell_recurs(tmp_path):
    cells = [f"tag {row}, common {row % 3}" for row in range(40)]
    table = pd.DataFrame({"id": range(40), "labels": cells, "caption": "x"})
    assert only(write(tmp_path / "x.csv", table))[1] == [
        [f"tag {row}", f"common {row % 3}"] for row in range(40)
    ]


def test_names_of_several_words_that_do_not_recur_are_a_warning(tmp_path):
    cells = [f"tag{row} common{row % 3}" for row in range(40)]
    table = pd.DataFrame({"id": range(40), "labels": cells, "caption": "x"})
    _, labels, reading = only(write(tmp_path / "x.csv", table))
    assert labels == [[cell] for cell in cells]
    assert any(
        "40 different names are in 40 rows" in line and "--label-separator" in line
        for line in reading.warnings
    )


def test_names_of_splits_may_be_in_any_case(tmp_path):
    for name in ("Train.csv", "VAL.csv"):
        write(tmp_path / name, frame(labels="red"))
    assert list(understand(tmp_path).tables) == ["train", "val"]


def test_other_data_is_read_with_its_own_separator(run, tmp_path):
    write(tmp_path / "input" / "train.csv", frame(labels=[" ".join(names) for names in SETS]))
    other = frame(labels=["|".join(names) for names in SETS])
    other["caption"] = [f"another {caption}" for caption in CAPTIONS]
    write(tmp_path / "other.csv", other)
    run("extract", "--encoder", "glove-50")
    run("fit", "--head", "linear")
    done = run("evaluate", "runs/linear", "--data", "other.csv", "--json")
    support = {row["label"]: row["support"] for row in json.loads(done.stdout)["per_class"]}
    assert support == {name: sum(name in names for names in SETS) for name in COLOURS}
    assert "does not know" not in done.stderr


def test_a_test_table_may_lack_the_label_column_that_the_user_names(tmp_path):
    write(tmp_path / "train.csv", frame(farben=[" ".join(names) for names in SETS]))
    write(tmp_path / "test.csv", frame())
    tables = understand(tmp_path, ReadOptions(columns=Columns(labels=("farben",)))).tables
    assert [list(names) for names in tables["train"].labels] == SETS
    assert tables["test"].labels is None
    assert "farbe" in error(tmp_path, UsageError, columns=Columns(labels=("farbe",)))


def test_eighty_class_names_on_the_command_line_are_no_file(tmp_path):
    names = [f"a class of a long name {number}" for number in range(40)]
    cells = [str([int(row == c) for c in range(40)]) for row in range(24)]
    path = write(tmp_path / "train.csv", frame(labels=cells))
    _, labels, _ = only(path, classes=class_list(",".join(names)))
    assert labels == [[names[row]] for row in range(24)]


def test_class_names_do_not_require_labels_in_every_split(tmp_path):
    write(tmp_path / "train.csv", frame(labels=[str(row) for row in BINARY.tolist()]))
    write(tmp_path / "test.csv", frame(labels=""))
    reading = understand(tmp_path, ReadOptions(classes=tuple(COLOURS)))
    assert [list(names) for names in reading.tables["train"].labels] == SETS
    assert not any(reading.tables["test"].labels)


def test_a_class_called_e_is_no_number(tmp_path):
    path = write(tmp_path / "train.csv", frame(labels=["[A]", "[E]", "[B, E]"] * 8))
    assert only(path)[1] == [["A"], ["E"], ["B", "E"]] * 8


def test_an_empty_column_of_a_labels_name_is_none_of_several(tmp_path):
    path = write(tmp_path / "train.csv", frame(genres="", target=[";".join(names) for names in SETS]))
    assert only(path)[1] == SETS


def test_objects_that_hold_no_names_are_no_labels(tmp_path):
    lines = [
        json.dumps({"id": str(row), "caption": text, "objects": {"bbox": [[0, 1]], "categories": [3]}})
        for row, text in enumerate(CAPTIONS)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    _, labels, reading = only(tmp_path / "train.jsonl")
    assert labels is None
    assert "objects" in reading.text()
