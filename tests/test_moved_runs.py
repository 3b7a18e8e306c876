"""Runs that were copied or renamed predict as before, with their store and without it."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from encode_once.cache import Store
from encode_once.classify import load_run
from encode_once.extract.encoders import precision
from encode_once.extract.encoders.base import Tower
from tests.classify.runs.reseal import reseal
from tests.conftest import files_of, picture, vectors_file

pytestmark = pytest.mark.usefixtures("fit_once")
TINY = "timm:test_vit"
POOLED = f"{TINY}+random/pooled"


@pytest.fixture
def project(folder, run, tmp_path):
    """A folder `project` with data, a store and a run on images, by a small network, and captions."""
    (tmp_path / "project").mkdir()
    os.chdir(tmp_path / "project")
    folder(60, name="project/input", test_rows=3)
    run("extract", "--encoder", TINY, "--weights", "random")
    run("fit", "--head", "linear", "--features", POOLED, "--features", "tfidf:20")
    return run


def scores(path="scores.csv"):
    with Path(path).open() as file:
        header, *rows = csv.reader(file)
    return header, [(row[0], *(round(float(score), 4) for score in row[1:])) for row in rows]


def test_run_json_has_no_absolute_path(project, tmp_path):
    text = Path("runs/linear/run.json").read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)
    assert (record["store"], record["table"]) == ("../../store", "../../input/train.csv")
    loaded = load_run("runs/linear")
    assert loaded.record.store == str(tmp_path / "project" / "store")
    assert loaded.spec.data == loaded.record.table == str(tmp_path / "project" / "input" / "train.csv")
    os.chdir(tmp_path)  # paths do not depend on the working folder
    assert load_run("project/runs/linear").record == loaded.record


def test_a_run_of_version_7_keeps_its_paths(project, tmp_path):
    expected = load_run("runs/linear").record
    content = json.loads(Path("runs/linear/run.json").read_text())
    content |= {"version": 7, "store": expected.store, "table": expected.table}
    Path("runs/linear/run.json").write_text(json.dumps(content))
    reseal(Path("runs/linear"))
    shutil.copytree("runs/linear", tmp_path / "far" / "away" / "copy")
    assert load_run(tmp_path / "far" / "away" / "copy").record == expected
    content["store"] = "store"  # relative paths were of the working folder
    Path("runs/linear/run.json").write_text(json.dumps(content))
    reseal(Path("runs/linear"))
    assert load_run("runs/linear").record.store == str(Path.cwd() / "store")


def test_a_renamed_project_finds_its_store(project, tmp_path):
    project("predict", "runs/linear", "--scores", "scores.csv")
    expected = scores()
    os.chdir(tmp_path)
    Path("project").rename("renamed")
    os.chdir("renamed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tower, "load", lambda *_: pytest.fail("encoded again"))
        result = project("predict", "runs/linear", "--scores", "again.csv")
    assert "is not there" not in result.stderr
    assert scores("again.csv") == expected
    assert "is not there" not in project("evaluate", "runs/linear").stderr


@pytest.mark.slow
def test_in_a_renamed_project_extract_finds_the_table_for_all_other_commands(project, tmp_path):
    os.chdir(tmp_path)
    Path("project").rename("renamed")
    os.chdir("renamed")
    assert "run extract" in project("audit", "runs/linear", status=1).stderr
    project("extract", "--encoder", TINY, "--weights", "random")
    assert "was moved" not in project("audit", "runs/linear").stderr


@pytest.mark.parametrize("words", [(), ("--store", "fresh")])
def test_a_copy_without_its_store_predicts_the_same(project, tmp_path, words):
    images = [str(tmp_path / "new" / f"{row}.png") for row in range(3)]
    (tmp_path / "new").mkdir()
    for row, path in enumerate(images):
        picture(900 + row).save(path)
    project("predict", "runs/linear", *images, "--caption", "a dog", "--scores", "scores.csv")
    project("predict", "runs/linear", "-o", "out.csv", "--scores", "table.csv")
    before = scores(), scores("table.csv"), Path("out.csv").read_text()
    shutil.copytree("runs/linear", tmp_path / "far" / "copy", ignore=lambda *_: ["store"])
    shutil.copytree("input", tmp_path / "far" / "input")
    os.chdir(tmp_path / "far")
    shutil.rmtree(tmp_path / "project")
    store = words[1] if words else "copy/store"
    result = project("predict", "copy", *images, "--caption", "a dog", "--scores", "scores.csv", *words)
    lost = "the store of copy, is not there: rows are encoded again; --store DIR names it"
    assert (lost in result.stderr) == (not words)
    assert ("are kept in copy/store; --store DIR" in result.stderr) == (not words)
    project("predict", "copy", "-o", "out.csv", "--scores", "table.csv", *words)
    assert (scores(), scores("table.csv"), Path("out.csv").read_text()) == before
    assert len(Store(store).feature(POOLED)) == 6  # 3 images, and 3 of the test table
    assert json.loads(project("evaluate", "copy", "--data", "input", "--json", *words).stdout)["n"] == 6


def test_only_the_table_that_is_asked_for_is_encoded(project):
    shutil.rmtree("store")
    project("predict", "runs/linear", "--table", "test")
    assert len(Store("runs/linear/store").feature(POOLED)) == 3
    result = project("predict", "runs/linear", "--table", "tset", status=2)
    assert "did you mean 'test'" in result.stderr
    project("predict", "runs/linear", "--table", "train")
    assert len(Store("runs/linear/store").feature(POOLED)) == 63


def test_rows_without_captions_need_no_store(folder, run, tmp_path):
    """The feature of captions has no rows then, but the run's width."""
    folder(60)
    (tmp_path / "photos").mkdir()
    picture(900).save(tmp_path / "photos" / "new.png")
    file = vectors_file(tmp_path / "vectors.txt")
    weights = ("--weights", f"{TINY}=random", "--weights", f"glove-100={file}")
    run("extract", "--encoder", TINY, "--encoder", "glove-100", *weights)
    run("fit", "--head", "linear", "--features", POOLED, "--features", "glove-100/mean", "--run", "run")
    run("predict", "run", "--data", "photos", "--scores", "scores.csv", "--trust")
    expected = scores()
    shutil.rmtree("store")
    shutil.rmtree("run/store")
    result = run("predict", "run", "--data", "photos", "--scores", "scores.csv", "--trust")
    assert "glove-100/mean: 1 of 1 rows have no vector" in result.stderr
    assert scores() == expected


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        ((), "float32"),
        (("--precision", "bfloat16", "--min-cosine", "0.5"), "bfloat16 weights"),
    ],
)
def test_the_recorded_precision_is_used_without_the_store(
    folder, run, tmp_path, monkeypatch, words, recorded
):
    folder(60)
    run("extract", "--encoder", TINY, "--weights", "random", *words)
    run("fit", "--head", "linear", "--features", POOLED, "--run", "run")
    shutil.rmtree("store")
    monkeypatch.setattr(precision, "MIN_INPUTS", 1)
    monkeypatch.setattr(precision, "_speed", lambda *_: 2.0)
    monkeypatch.setattr(precision, "least_cosine", lambda *_: 0.99 if words else 1.0)
    result = run("predict", "run", "input/data/1.png")
    assert "times as fast" not in result.stderr
    assert ("it is used, as the feature is made with it" in result.stderr) == bool(words)
    assert Store("run/store").feature(POOLED).spec["precision"] == recorded


def test_weights_are_found_next_to_a_renamed_project_or_named_in_one_line(folder, run, tmp_path):
    (tmp_path / "project").mkdir()
    os.chdir(tmp_path / "project")
    folder(60, name="project/input")
    vectors_file(Path("vectors.txt"))
    run("extract", "--encoder", "glove-100", "--weights", "vectors.txt")
    run("fit", "--head", "linear", "--run", "run")
    assert json.loads(Path("run/run.json").read_text())["features"]["glove-100/mean"]["weights_file"] == (
        "../vectors.txt"
    )
    os.chdir(tmp_path)
    Path("project").rename("renamed")
    before = files_of("renamed/run")
    new = ("--caption", "a dog and a cat and a bird")
    run("predict", "renamed/run", *new, "--trust", "--store", "scratch")
    assert files_of("renamed/run") == before
    Path("renamed/vectors.txt").rename("elsewhere.txt")
    line = run("predict", "renamed/run", *new, "--trust", "--store", "other", status=1).stderr.splitlines()[
        -1
    ]
    assert f"{tmp_path}/renamed/vectors.txt (recorded as blake2b:" in line
    assert "which is not there; pass --weights glove-100=FILE" in line
    run("predict", "renamed/run", *new, "--weights", "glove-100=elsewhere.txt", "--store", "other")
    Path("elsewhere.txt").write_text("a 1 2\ndog 2 3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encode_once.extract.workers.EncodingPass.load", lambda *_: pytest.fail("encoded"))
        words = ("--weights", "glove-100=elsewhere.txt", "--store", "third")
        result = run("predict", "renamed/run", *new, *words, status=1)
    assert "glove-100/mean is not made as it was before (weights: stored blake2b:" in result.stderr
