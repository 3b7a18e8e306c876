"""Corrections of labels: against dicts of sets, refused lines, and what the store then knows."""

import csv
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import DataError, Store, Table
from encode_once.extract.readers import Reading, understand
from encode_once.extract.readers.corrections import correct
from encode_once.extract.readers.understanding import Understanding
from tests.conftest import vectors_file

LABELS = ["a", "b, c", '"', "قطة", " d\n", "e;"]
IDS = ["1", "2", "a,b", 'quo"te', "train/1", "new\nline", "ü"]
HEADER = "split,id,label,decision\n"


def reading_of(**labels):
    """Tables by split, from the labels of each row; None: without labels."""
    tables = {
        split: Table(
            f"/{split}.csv", IDS[: len(rows or IDS)], [], [], rows and [*map(tuple, rows)], split=split
        )
        for split, rows in labels.items()
    }
    return Reading(tables, [Understanding(t.source, t.split, len(t), {}) for t in tables.values()])


def write(path, lines):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["split", "id", "label", "decision"], *lines])
    return path


rows = st.lists(st.lists(st.sampled_from(LABELS), unique=True), min_size=1, max_size=len(IDS))
decisions = st.dictionaries(
    st.tuples(st.sampled_from(["train", "val"]), st.integers(0, len(IDS) - 1), st.sampled_from(LABELS)),
    st.sampled_from(["add", "remove", "keep"]),
)


@given(rows, rows, decisions, st.randoms(use_true_random=False))
def test_labels_are_those_of_sets_that_are_added_to_and_removed_from(
    tmp_path_factory, train, val, cells, random
):
    train = [[*LABELS], *train][: len(IDS)]  # every label is known
    sets = {"train": [set(row) for row in train], "val": [set(row) for row in val]}
    cells = {cell: decision for cell, decision in cells.items() if cell[1] < len(sets[cell[0]])}
    lines = [(split, IDS[row], label, decision) for (split, row, label), decision in cells.items()] * 2
    random.shuffle(lines)
    path = write(tmp_path_factory.mktemp("corrections") / "c.csv", lines)
    counts = {split: dict.fromkeys(("add", "remove", "already", "keep"), 0) for split in sets}
    for (split, row, label), decision in cells.items():
        before = set(sets[split][row])
        if decision == "add":
            sets[split][row].add(label)
        elif decision == "remove":
            sets[split][row].discard(label)
        counts[split]["already" if decision != "keep" and sets[split][row] == before else decision] += 1
    reading = reading_of(train=train, val=val)
    correct(reading, path)
    for understood in reading.understood:
        table = reading.tables[understood.split]
        assert [set(labels) for labels in table.labels] == sets[understood.split]
        assert all(len(labels) == len(set(labels)) for labels in table.labels)
        assert table.more_sources == [table.corrections] == [str(path)]
        assert understood.decisions["corrections"] == (
            "{0}: labels added {add}, removed {remove}, already so {already}, kept {keep}".format(
                path, **counts[understood.split]
            )
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train,1,a,add\ntrain,1,a,remove\n", ":3: remove a of 1, but line 2 has add; remove one of the two"),
        ("train,1,a,keep\ntrain,1,a,remove\n", ":3: remove a of 1, but line 2 has keep"),
        ("train,1,a,add\ntrain,1,a,Add\n", ":3: decision 'Add': write add, remove or keep"),
        ("train,1,a,\n", ":2: decision '': write add, remove or keep"),
        ("train,1,a,add\ntrain,77,a,add\n", ":3: no row of train has the id '77'; is it of other data?"),
        ("train,a;b,a,add\n", ":2: no row of train has the id 'a;b'; did you mean 'a,b'?"),
        ("train,1,b c,add\n", ":2: no row has the label 'b c'; did you mean 'b, c'?"),
        ("train,1,zebra,add\n", ":2: no row has the label 'zebra'; the labels are a, b, c"),
        ("tarin,1,a,add\n", ":2: no table 'tarin'; the data has train, test"),
        ("test,1,a,add\n", ":2: the table test has no labels to correct; remove the line"),
        ('train,"new\nline",a,add\ntrain,1,x,add\n', ":4: no row has the label 'x'"),
        ("train,1,a\n", ":2: not well-formed CSV (fields: 3, in the header: 4)"),
        ('train,1,"a,add\n', ":2: not well-formed CSV"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_changed(tmp_path, text, message):
    path = tmp_path / "c.csv"
    path.write_text(HEADER + text)
    reading = reading_of(train=[["b, c"], ["a"], *[[]] * 5], test=None)
    before = [replace(table, labels=table.labels and [*table.labels]) for table in reading.tables.values()]
    with pytest.raises(DataError) as error:
        correct(reading, path)
    assert str(error.value).startswith(f"{path}{message}")
    assert [table.labels for table in reading.tables.values()] == [table.labels for table in before]
    assert not any(table.more_sources or table.corrections for table in reading.tables.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label,decision\n", ":1: no column split; a file of corrections has split, id, label, decision"),
        ("", ":1: "),
        ("kind,score,id\nlabel,1,1\n", ":1: no column split, label, decision"),
        (None, ": cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_is_no_corrections_is_refused(tmp_path, text, message):
    path = tmp_path / "c.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as error:
        correct(reading_of(train=[["a"]]), path)
    assert str(error.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsplit,id,label,decision\r\ntrain,1,a,add\r\n",
        "decision;label;id;split;note\nadd;a;1;train;sure\n",
    ],
)
def test_a_spreadsheet_may_have_saved_the_file(tmp_path, text):
    path = tmp_path / "c.csv"
    path.write_text(text, encoding="utf-8", newline="")
    reading = reading_of(train=[[], ["a"]])
    correct(reading, path)
    assert reading.tables["train"].labels == [("a",), ("a",)]


def test_a_file_without_lines_changes_nothing_and_an_id_may_have_its_split_before_it(tmp_path):
    reading = reading_of(train=[["a"], []], val=[[], []])
    correct(reading, write(tmp_path / "c.csv", []))
    assert reading.tables["train"].labels == [("a",), ()]
    correct(reading, write(tmp_path / "c.csv", [("val", "val/2", "a", "add"), ("train", "1", "a", "remove")]))
    assert (reading.tables["train"].labels, reading.tables["val"].labels) == ([(), ()], [(), ("a",)])


@pytest.fixture
def extract(run, tmp_path, folder):
    data = folder(30)
    encoder = ("--encoder", "glove-100", "--weights", vectors_file(tmp_path / "v.txt"), "--data", data)
    return lambda *words, **options: run("extract", *encoder, *words, **options)


def stored_labels():
    table = Store("store").table()
    return dict(zip(table.ids, map(set, table.labels), strict=True))


def test_the_store_has_the_corrected_labels_and_the_data_stay_as_they_are(extract, run, tmp_path):
    source = (tmp_path / "input" / "train.csv").read_bytes()
    extract()
    before = stored_labels()
    path = write(tmp_path / "c.csv", [("train", "0.png", "boat", "add"), ("train", "1.png", "cat", "remove")])
    printed = extract("--corrections", "c.csv", "--dry-run").output
    assert "corrections: c.csv: labels added 1, removed 1, already so 0, kept 0" in printed
    assert stored_labels() == before
    assert "corrections: c.csv: labels added 1, removed 1" in extract("--corrections", "c.csv").stderr
    assert stored_labels() == before | {
        "0.png": before["0.png"] | {"boat"},
        "1.png": before["1.png"] - {"cat"},
    }
    assert (tmp_path / "input" / "train.csv").read_bytes() == source
    store = Store("store")
    assert store.table().corrections == store.headers()[0].corrections == str(path)
    assert not store.is_outdated(store.headers()[0])


def test_a_changed_file_of_corrections_outdates_the_table(extract, run, tmp_path):
    write(tmp_path / "c.csv", [("train", "0.png", "boat", "add")])
    extract("--corrections", "c.csv")
    run("fit", "--head", "linear", "--run", "before")
    write(tmp_path / "c.csv", [("train", "0.png", "boat", "keep")])
    message = run("fit", "--head", "linear", "--run", "after", status=1).stderr
    assert (
        "or its corrections changed since extract read it: run extract again with --corrections "
        f"{tmp_path / 'c.csv'}" in message
    )
    extract("--corrections", "c.csv")
    assert "boat" not in stored_labels()["0.png"]
    run("fit", "--head", "linear", "--run", "after")
    recorded = json.loads((tmp_path / "after" / "run.json").read_text())["corrections"]
    assert (tmp_path / "after" / recorded).resolve() == (tmp_path / "c.csv").resolve()


def test_labels_of_the_source_do_not_come_back_silently(extract, run, tmp_path):
    path = write(tmp_path / "c.csv", [("train", "0.png", "boat", "add")])
    assert "warning" not in extract("--corrections", "c.csv").stderr
    assert "warning" not in extract("--corrections", path).stderr
    run("fit", "--head", "linear", "--split", "kfold:3", "--run", "run")
    data = ("run", "--trust", "--data", tmp_path / "input")
    assert f"--corrections {path} brings them back" in run("evaluate", *data, status=1).stderr
    assert "brings them back" not in run("evaluate", *data, "--corrections", "c.csv", status=1).stderr
    (tmp_path / "d.csv").write_text(HEADER)
    assert f"those of the source again, without the corrections of {path}" in extract().stderr
    assert "warning" not in extract().stderr
    extract("--corrections", "c.csv")
    printed = extract("--corrections", "d.csv", "--json")
    assert f"corrected by {tmp_path / 'd.csv'} alone, without the corrections of {path}" in printed.stderr
    assert f"--corrections {path} brings them back" in json.dumps(json.loads(printed.stdout))


def test_labels_of_the_source_do_not_come_back_silently_where_the_data_was_moved(run, tmp_path, folder):
    data = folder(30)
    words = ("extract", "--encoder", "glove-100", "--weights", vectors_file(tmp_path / "v.txt"), "--data")
    path = write(tmp_path / "c.csv", [("train", "0.png", "boat", "add")])
    run(*words, data, "--corrections", path)
    moved = data.rename(tmp_path / "moved")
    assert f"without the corrections of {path}" in run(*words, moved).stderr
    run(*words, moved, "--corrections", path)
    assert len(Store("store").headers()) == 1


def test_tables_of_other_data_and_unlabelled_ones_have_no_corrections(tmp_path, folder):
    data = folder(30, test_rows=2)
    path = write(tmp_path / "c.csv", [("train", "0.png", "cat", "add")])
    reading = understand(data)
    correct(reading, path)
    assert reading.tables["train"].corrections
    assert not reading.tables["test"].corrections
    assert "corrections" not in reading.understood[1].decisions
