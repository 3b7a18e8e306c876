import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.classify.data.split_lists import short_split, split_column
from encode_once.classify.data.splits import UNUSED
from encode_once.classify.experiments.ablation import ablate
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.own_table import own_table
from encode_once.classify.runs.predict import fitted_store

pytestmark = pytest.mark.usefixtures("fit_once")
IDS = [f"{i:03}" for i in range(12)]
IMAGES = [f"/photos/p{i}.jpg" for i in range(12)]


def table():
    return Table("/d/t.csv", IDS, IMAGES, [""] * 12, None)


def write(folder, **lists):
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return "lists:" + ",".join(str(folder / f"{name}.txt") for name in lists)


@given(parts=st.lists(st.sampled_from(["train", "val", "test", UNUSED]), min_size=12, max_size=12))
def test_each_row_has_the_part_of_its_list(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("lists")
    lists = {
        part: [i for i, p in zip(IDS, parts, strict=True) if p == part] for part in ("train", "val", "test")
    }
    assert split_column(write(folder, **lists), table()) == parts


@pytest.mark.parametrize("name_of", [lambda i: f"p{i}.jpg", lambda i: f"p{i}", lambda i: f" {i:03} "])
def test_lines_are_ids_or_names_of_images(name_of, tmp_path):
    spec = write(tmp_path, train=map(name_of, range(8)), test=["", *map(name_of, range(8, 12)), ""])
    assert split_column(spec, table()) == ["train"] * 8 + ["test"] * 4


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        ({"train": ["000"]}, UsageError, "name two files"),
        ({"a": [], "b": [], "c": [], "d": []}, UsageError, "or three"),
        (
            {"train": ["000", "x", "y"], "test": ["001"]},
            DataError,
            "2 of 3 lines are no id .*; the first is line 2$",
        ),
        ({"train": ["000"], "test": ["001", "000"]}, DataError, "'000' is in the list of train rows already"),
    ],
)
def test_lists_that_do_not_fit(lists, error, message, tmp_path):
    with pytest.raises(error, match=message):
        split_column(write(tmp_path, **lists), table())


def test_a_list_that_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"no\.txt: No such file"):
        split_column(f"lists:{tmp_path}/no.txt,{tmp_path}/no.txt", table())


def test_a_run_fits_validates_and_measures_on_its_lists(filled, run, tmp_path):
    store = filled(200)
    ids = store.table().ids
    spec = write(tmp_path, train=ids[:120], val=ids[120:150], test=ids[150:180])
    words = ["--store", store.path, "--features", "e/text", "--split", spec, "--run", "r"]
    result = run("fit", "--head", "mlp", "--set", "epochs=2", *words)
    assert "20 of 200 rows are left out: split lists:train.txt,val.txt,test.txt does not" in result.stderr
    fitted = load_run("r")
    assert (sorted(fitted.validation.ids), fitted.eval.ids) == (sorted(ids[120:150]), ids[150:180])
    assert len(fitted.fitted_on) == 150
    assert json.loads(run("evaluate", "r", "--json").stdout)["n"] == 30
    # The unused rows were seen by nobody: they can measure the run.
    keys = Store(store.path).table().keys("image")
    assert np.array_equal(fitted.has_seen(keys), np.arange(200) < 150)


@pytest.fixture
def project(filled, run, tmp_path, monkeypatch):
    """A folder `project` with a run on lists, from which the run is fitted; returns the run's ids."""
    monkeypatch.chdir(tmp_path)
    store = filled()
    ids = store.table().ids
    (tmp_path / "project").mkdir()
    spec = write(tmp_path / "project", train=ids[:300], test=ids[300:])
    run("fit", "--head", "linear", "--store", store.path, "--split", spec, "--run", "project/runs/r")
    return ids


def test_the_lists_of_a_moved_run_move_with_it(project, tmp_path, monkeypatch):
    record = json.loads(Path("project/runs/r/run.json").read_text())
    assert record["split"] == "lists:../../train.txt,../../test.txt"
    Path("project").rename("renamed")
    assert load_run("renamed/runs/r").spec.split == "lists:renamed/train.txt,renamed/test.txt"
    monkeypatch.chdir("renamed")
    variants = ablate(load_run("runs/r"), trust=True)
    assert len(variants) > 1
    assert not any(row["error"] for row in variants)


def test_only_a_fit_opens_the_lists(project, run):
    for file in Path("project").glob("*.txt"):
        file.unlink()
    loaded = load_run("project/runs/r")
    table, rows = own_table(loaded, fitted_store(loaded))  # as `monitor` reads it
    assert [table.ids[row] for row in rows] == project[300:]
    for verb in ("report", "audit", "tune"):
        assert "No such file" not in run(verb, "project/runs/r").output


def test_variants_open_lists_only_with_trust(project):
    loaded = load_run("project/runs/r")
    with pytest.raises(
        DataError, match=r"names files to open: project/train\.txt, project/test\.txt; pass --t"
    ):
        ablate(loaded)
    Path("project/train.txt").write_text("secret\n")
    with pytest.raises(DataError, match="1 of 1 lines") as error:
        ablate(loaded, trust=True)
    assert "secret" not in str(error.value)


def test_messages_have_the_names_of_lists_without_their_folders():
    assert short_split("lists:/home/alice/train.txt,../b/test.txt") == "lists:train.txt,test.txt"
    assert short_split("kfold:5") == "kfold:5"


def test_a_column_may_leave_rows_out(filled, run):
    store = filled(100)
    (saved,) = store.tables()
    saved.columns["part"] = ["train"] * 60 + ["test"] * 20 + ["unused"] * 20
    store.save(saved)
    run("fit", "--head", "knn", "--store", store.path, "--split", "part", "--run", "r")
    assert load_run("r").eval.ids == saved.ids[60:80]
    assert len(load_run("r").fitted_on) == 60


def test_repeated_folds_are_named_where_they_are_made(filled, run):
    store = filled(50)
    error = run("fit", "--store", store.path, "--split", "kfold:5x2", "--run", "r", status=2).stderr
    assert "sweep --split kfold:5x2 repeats it" in error
