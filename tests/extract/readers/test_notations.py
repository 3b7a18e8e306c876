"""The same label sets and captions come back from every notation that people write them in."""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import parquet

from encode_once.extract import ReadOptions
from encode_once.extract.readers import Columns, understand
from encode_once.extract.readers.missing import MISSING
from tests.conftest import examples

SEPARATORS = ["|", ";", ",", "/", "&", "+", " ", " | ", "; ", ", ", " / ", " & ", " + "]
FLAGS = {
    "1/0": ("1", "0"),
    "1.0/0.0": ("1.0", "0.0"),
    "true/false": ("true", "false"),
    "True/False": ("True", "False"),
    "yes/no": ("yes", "no"),
    "1/-1": ("1", "-1"),
    "x/blank": ("x", ""),
    "1/blank": ("1", ""),
}


def names(without=""):
    """Class names: texts of one or several words, which are no numbers."""
    letters = st.text(
        st.sampled_from([c for c in "abcXYZéß犬-_.:' " if c not in without]), min_size=1, max_size=9
    )
    return letters.map(str.strip).filter(
        lambda text: text and any(map(str.isalpha, text)) and text not in MISSING
    )


@st.composite
def label_sets(draw, without=""):
    """Two to five classes, and for each row some of them; each class is alone in a row."""
    classes = draw(st.lists(names(without), min_size=2, max_size=5, unique=True))
    rows = draw(st.lists(st.sets(st.sampled_from(classes)), min_size=1, max_size=12))
    return classes, [[name] for name in classes] + [[c for c in classes if c in row] for row in rows]


def are_composed(classes, separator):
    """Whether several names are others with this character between them, so that they are read as several."""
    return sum(separator in name and {*name.split(separator)} <= {*classes} for name in classes) > 1


def read_back(frame, classes=(), columns=None, **options):
    """The labels, from the CSV that pandas writes."""
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "table.csv", index=False)
        reading = understand(
            Path(folder) / "table.csv", ReadOptions(columns or Columns(), classes=tuple(classes), **options)
        )
    (table,) = reading.tables.values()
    assert table.labels is not None
    return [list(names) for names in table.labels]


def frame_of(cells):
    return pd.DataFrame({"id": range(len(cells)), "labels": cells, "caption": "a caption"})


NOTATIONS = {
    "Python's list": repr,
    "Python's tuple": lambda names: repr(tuple(names)),
    "Python's set": lambda names: "{" + ", ".join(map(repr, names)) + "}",
    "JSON": json.dumps,
    "JSON in ASCII": lambda names: json.dumps(names, ensure_ascii=True),
    "NumPy": lambda names: str(np.array(names, dtype=object)),
    "NumPy's repr": lambda names: repr(np.array(names, dtype=object)),
    "Label Studio's choices": lambda names: json.dumps({"choices": names}),
    "Label Studio's regions": lambda names: json.dumps([{"label": name} for name in names]),
}


@pytest.mark.parametrize("notation", NOTATIONS)
@examples(40)
@given(label_sets(without="{}[]"))
def test_lists_that_were_written_as_text(notation, drawn):
    _, rows = drawn
    assert read_back(frame_of([NOTATIONS[notation](row) for row in rows])) == rows


@examples(40)
@given(label_sets())
def test_an_object_of_flags(drawn):
    classes, rows = drawn
    cells = [str({name: int(name in row) for name in classes}) for row in rows]
    assert read_back(frame_of(cells)) == rows
    assert read_back(frame_of([json.dumps({name: name in row for name in classes}) for row in rows])) == rows


@pytest.mark.parametrize("separator", SEPARATORS)
@examples(40)
@given(label_sets(without="|;,/&+ "))
def test_names_between_separators(separator, drawn):
    classes, rows = drawn
    assume(not any(are_composed(classes, rare) for rare in "-_:"))
    assert read_back(frame_of([separator.join(row) for row in rows])) == rows


@pytest.mark.parametrize("separator", ["|", ";", ", "])
@examples(40)
@given(label_sets(without="|;,/&+"))
def test_names_of_several_words_between_separators(separator, drawn):
    _, rows = drawn
    cells = [separator.join(row) for row in rows]
    if any(len(row) > 1 for row in rows):
        assert read_back(frame_of(cells)) == rows


@pytest.mark.parametrize("flags", FLAGS)
@examples(30)
@given(label_sets(without=":,."))
def test_one_column_for_each_class(flags, drawn):
    classes, rows = drawn
    yes, no = FLAGS[flags]
    cells = {name: [yes if name in row else no for row in rows] for name in classes}
    others = {"id", "caption", *"abcXYZ"}
    if others.isdisjoint(classes):
        frame = pd.DataFrame({"id": range(len(rows)), **cells, "caption": "a caption"})
        columns = Columns(labels=(f"{classes[0]}:{classes[-1]}",))
        assert read_back(frame, columns=columns) == rows
        assert read_back(frame, columns=Columns(labels=tuple(classes))) == rows


@examples(30)
@given(label_sets())
def test_several_label_columns(drawn):
    _, rows = drawn
    cells = {
        f"label{i + 1}": [row[i] if i < len(row) else "" for row in rows] for i in range(max(map(len, rows)))
    }
    frame = pd.DataFrame({"id": range(len(rows)), **cells, "caption": "a caption"})
    assert read_back(frame) == rows


@pytest.mark.parametrize(
    "written", [str, json.dumps, lambda v: " ".join(map(str, v)), lambda v: str(np.array(v))]
)
@examples(30)
@given(label_sets(without=","))
def test_vectors_of_0_and_1_with_named_classes(written, drawn):
    classes, rows = drawn
    cells = [written([int(name in row) for name in classes]) for row in rows]
    assert read_back(frame_of(cells), classes) == rows


@examples(30)
@given(label_sets())
def test_lists_of_parquet_and_json_lines(drawn):
    _, rows = drawn
    frame = frame_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        parquet.write_table(pa.Table.from_pandas(frame), Path(folder) / "a.parquet")
        frame.to_json(Path(folder) / "a.jsonl", orient="records", lines=True)
        frame.to_json(Path(folder) / "a.json", orient="records")
        for name in ("a.parquet", "a.jsonl", "a.json"):
            table = understand(Path(folder) / name).tables["a"]
            assert [list(names) for names in table.labels] == rows


# ------------------------------------------------------------------------------------------------- captions

odd = st.sampled_from([*"\",;|'[](){} ", "\n", "\r\n", "\t", "🐕", "é", "\\", "a", "dog", "nan"])
texts = st.lists(odd | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=8)
captions_strategy = st.lists(texts.map("".join), min_size=1, max_size=8)


def readable(captions):
    """The captions that a table keeps: blank ones, and words for missing values, are none."""
    return [caption if caption.strip() and caption.strip() not in MISSING else "" for caption in captions]


def read_captions(text, name="table.csv"):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8", newline="")
        (table,) = understand(Path(folder) / name).tables.values()
    assert table.ids == [str(row) for row in range(len(table))]
    return table.captions


@examples(150)
@given(captions_strategy, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
def test_captions_that_pandas_writes(captions, quoting):
    captions = ["a dog", *captions]
    frame = pd.DataFrame({"id": range(len(captions)), "labels": "red", "caption": captions})
    assert read_captions(frame.to_csv(index=False, quoting=quoting)) == readable(captions)


@examples(150)
@given(captions_strategy, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_captions_that_the_csv_module_writes(captions, delimiter, end):
    captions = ["a dog", *captions]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(["id", "labels", "caption"])
    writer.writerows((row, "red", caption) for row, caption in enumerate(captions))
    assert read_captions(file.getvalue()) == readable(captions)


@examples(150)
@given(captions_strategy)
def test_captions_that_the_competition_writes(captions):
    """Its captions are between quotes, and the quotes in them are not doubled.

    A caption that happens to be valid CSV with doubled quotes, or to look like a row, is another caption.
    """
    plain = [c.replace("\n", " ").replace("\r", " ").replace('""', '"').strip('", ') for c in captions]
    written = ['a dog, "sitting"', *(caption for caption in plain if caption.strip())]
    text = "ImageID,Labels,Caption\n" + "".join(f'{i},1 2,"{c}"\n' for i, c in enumerate(written))
    assert read_captions(text) == readable(written)


@examples(60)
@given(
    st.lists(
        st.lists(st.text(st.sampled_from("ab\"', \n"), min_size=1, max_size=6), max_size=3),
        min_size=1,
        max_size=5,
    )
)
def test_lists_of_captions_that_were_written_as_text(rows):
    rows = [["a dog", "two"], *rows]
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame({"id": range(len(rows)), "caption": list(map(str, rows))}).to_csv(
            Path(folder) / "a.csv", index=False
        )
        table = understand(Path(folder) / "a.csv").tables["a"]
    columns = zip(table.captions, *table.more_captions, strict=True)
    assert [[text for text in row if text] for row in columns] == [
        [t for t in row if t.strip()] for row in rows
    ]
