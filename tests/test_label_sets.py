"""Several sets of labels for the same rows: extract reads them, fit chooses one, and the run keeps to it."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from encode_once.cache import Store, Table, UsageError, content_key
from encode_once.cache.keys import pack
from encode_once.cache.table import LabelSet, load_table, save_table
from encode_once.classify import fit, load_run, sweep
from encode_once.classify.data.tables import choose_table, stacked, with_label_set
from encode_once.classify.runs.own_table import own_table
from encode_once.classify.runs.rerun import rerun
from encode_once.extract import doctor
from tests.conftest import vectors_file

pytestmark = pytest.mark.usefixtures("fit_once")
COLOURS, SIZES = ("red", "green", "blue"), ("small", "large")


def write(path, first, n, extra=True):
    """A table whose captions name an animal, colours and a size, with a column of labels for each."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "labels", *(["Colours", "small", "large"] if extra else []), "caption"])
        for row in range(first, first + n):
            animal, size = ("dog", "cat")[row % 2], row // 2 % 2
            colours = [COLOURS[row % 3], COLOURS[row // 3 % 3]]
            cells = [" / ".join(dict.fromkeys(colours)), 1 - size, size] if extra else []
            writer.writerow([row, animal, *cells, f"{SIZES[size]} {animal} {' '.join(colours)} {row}"])


SETS = ["--label-set", "colour=Colours", "--label-set", "size=small:large"]
TEXTS = ["--features", "tfidf:100"]


@pytest.fixture
def extracted(run, tmp_path):
    """A store with the table and its label sets; a function that runs commands."""
    vectors_file(tmp_path / "glove.txt")
    write(tmp_path / "train.csv", 0, 90)
    run("extract", "--data", "train.csv", *SETS)
    return run


def test_fit_learns_the_chosen_set_and_the_run_keeps_to_it(extracted, tmp_path):
    for name, classes in (("", ["cat", "dog"]), ("colour", sorted(COLOURS)), ("size", sorted(SIZES))):
        result = extracted("fit", "--head", "linear", *TEXTS, "--labels", name, "--run", name or "own")
        assert load_run(name or "own").record.classes == classes
        assert (f", label set {name}," in result.stderr) == bool(name)
    run = load_run("colour")
    assert json.loads(Path("colour/run.json").read_text())["labels"] == "colour"
    assert (run.record.named_columns, run.record.label_set_columns) == ({}, ["Colours"])
    assert run.record.columns_to_read == {"labels": ["Colours"], "unknown": [""]}
    assert "| label set | colour |" in Path("colour/README.md").read_text()
    with Path("colour/predictions.csv").open() as file:
        cells = [row["Labels"] for row in csv.DictReader(file)]
    assert any(" / " not in cell and "/" in cell for cell in cells)  # the set's separator writes them
    # The table of the store is read with the same labels, for audits and for other runs of the same spec.
    table = own_table(run, Store("store")).table
    assert table.labels[0] == ("red",)
    assert rerun(run, "again")["equal"]
    assert rerun(run, "again", overwrite=True)["changes"] == []
    # Other data is read by the set's column, though it has labels of its own, and other sets are not needed.
    write(tmp_path / "more.csv", 200, 24)
    figures = json.loads(extracted("evaluate", "colour", "--data", "more.csv", "--json").stdout)
    assert [row["label"] for row in figures["per_class"]] == sorted(COLOURS)
    assert sum(row["support"] for row in figures["per_class"]) > 24
    assert figures["micro_f1"] > 0.9


def test_the_command_after_a_dry_run_has_the_options_that_were_passed(run, tmp_path):
    write(tmp_path / "train.csv", 0, 9)
    passed = ["--data", "train.csv", "--label-separator", ";", "--id-column", "id", *SETS, "--store", "other"]
    proposed = run("extract", "--dry-run", *passed).stderr.splitlines()[-1]
    encoder = ["--encoder", "efficientnet-lite0"]
    assert shlex.split(proposed) == ["next:", "encode-once", "extract", *encoder, *passed]
    words = ["--encoder", "timm:test_vit,glove-50", "--view", "whole", "--size", "96", *passed[:2]]
    words += ["--keep-text", "--skip-bad-rows", "--weights", "timm:test_vit=random", "--precision", "float32"]
    words += ["--shard", "4/4"]
    proposed = run("extract", *words, "--json", "--dry-run").stderr.splitlines()[-1]
    assert shlex.split(proposed) == ["next:", "encode-once", "extract", *words]


def test_a_set_that_is_not_there_is_refused_with_those_that_are(extracted):
    result = extracted("fit", "--head", "linear", *TEXTS, "--labels", "color", status=2)
    assert "did you mean 'colour'?" in result.stderr
    write(Path("train.csv"), 0, 90, extra=False)
    result = extracted("extract", "--data", "train.csv", "--label-set", "colour=Colours", status=2)
    assert "unknown column of train.csv 'Colours'" in result.stderr


def test_a_later_extract_reads_the_sets_again_and_drops_those_whose_columns_are_gone(extracted):
    write(Path("train.csv"), 0, 96)
    result = extracted(
        "extract", "--data", "train.csv", "--label-set", "size=small,large", "--label-set", "x=small"
    )
    assert "label set size: columns small, large" in result.stderr
    (table,) = Store("store").tables()
    assert {name: label_set.columns for name, label_set in table.label_sets.items()} == {
        "size": ["small,large"], "x": ["small"], "colour": ["Colours"],
    }  # fmt: skip
    assert len(table.label_sets["colour"].labels) == len(table) == 96
    write(Path("train.csv"), 0, 90, extra=False)
    result = extracted("extract", "--data", "train.csv", "--encoder", "glove-100", "--weights", "glove.txt")
    for name in ("size", "x", "colour"):
        assert f"the label set {name} is dropped: unknown column of train.csv" in result.stderr
    assert Store("store").tables()[0].label_sets == {}


def test_doctor_reads_the_data_with_the_label_sets_of_its_table(extracted, tmp_path):
    checks = [*doctor.of_data("train.csv", Path("store"))]
    assert [check.state for check in checks] == ["PASS"]
    write(tmp_path / "train.csv", 0, 90, extra=False)
    (_, *others) = doctor.of_data("train.csv", Path("store"))
    assert [(check.state, check.finding.partition(":")[0]) for check in others] == [
        ("WARN", f"the label set {name} is dropped") for name in ("colour", "size")
    ]
    (check,) = doctor.of_data("train.csv", Path("no-store"))
    assert check.state == "PASS"


def test_a_sweep_takes_a_label_set_and_keeps_runs_of_others(extracted):
    rows = {
        name: sweep("store", ["linear"], features=["tfidf:100"], labels=name, folder="runs")
        for name in ("colour", "size")
    }
    assert len(rows["size"]) == 2  # the leaderboard of the folder has both
    classes = {len(load_run(row["run"]).record.classes) for row in rows["size"]}
    assert classes == {2, 3}


def test_the_table_with_the_set_is_chosen_among_several(extracted):
    write(Path("other.csv"), 300, 30)
    extracted("extract", "--data", "other.csv", "--label-set", "else=Colours")
    store = Store("store")
    assert Path(choose_table(store, None, labels="size").source).name == "train.csv"
    assert Path(choose_table(store, None, labels="else").source).name == "other.csv"
    run, _ = fit(store, "linear", features=["tfidf:50"], labels="else", run="run")
    assert Path(run.record.table).name == "other.csv"


def test_label_sets_are_saved_taken_and_chosen(tmp_path):
    labels = [("a",), (), ("b", "a")]
    first, second = (
        LabelSet("é=A,B", ["A,B"], "|", labels, [(), ("b",), ()]),
        LabelSet("second=C", ["C"], " ", labels[::-1]),
    )
    table = Table(str(tmp_path / "t.csv"), ["1", "2", "3"], [""] * 3, ["x", "y", "z"], None)
    table.label_sets = {"é": first, "second": second}
    (tmp_path / "t.csv").touch()
    store = Store(tmp_path / "store")
    table.image_keys = table.caption_keys = pack(content_key(row_id.encode()) for row_id in table.ids)
    save_table(table, tmp_path / "t.h5")
    loaded = load_table(tmp_path / "t.h5")
    assert loaded.label_sets == table.label_sets
    assert loaded.take([2, 0]).label_sets["é"].labels == [("b", "a"), ("a",)]
    assert loaded.take([2, 1]).label_sets["é"].unknown == [(), ("b",)]
    assert loaded.has_rows_of(table)
    assert not loaded.has_rows_of(replace(table, label_sets={"é": first}))
    chosen = with_label_set(loaded, "é")
    other = replace(chosen, ids=["x"], labels=[("b",)], split="test").take([0])
    both = stacked([chosen, other])  # one row more than the label set of `chosen` has
    assert both.take([3]).labels == [("b",)]
    assert chosen.unknown == [(), ("b",), ()]
    assert (chosen.labels, chosen.label_separator, [*chosen.label_sets]) == (labels, "|", ["é"])
    store.save(table)
    assert store.saved_label_sets(table) == {"é": "é=A,B", "second": "second=C"}
    with pytest.raises(UsageError, match="extract --label-set x=COLUMN adds it"):
        with_label_set(replace(loaded, label_sets={}), "x")
