"""Features learned from captions need no encoder: `fit` reads data that the store does not know."""

import json

import pytest

from encode_once.cache import Store
from tests.conftest import WORDS


@pytest.fixture(autouse=True)
def _once(fit_once):
    """Tune on a tenth of the train rows."""


def captions_csv(folder, rows=60):
    """Write captions as COCO has them, with commas and quotes, and numbers as labels."""
    folder.mkdir()
    with (folder / "train.csv").open("w") as file:
        file.write("ImageID,Labels,Caption\n")
        for row in range(rows):
            first, second = row % 6, (row // 6) % 6
            labels = " ".join(dict.fromkeys([str(first + 1), str(second + 1)]))
            file.write(
                f'{row}.jpg,{labels},"A {WORDS[first]}, and a ""{WORDS[second]}"" on a street {row}."\n'
            )
    return folder


@pytest.mark.parametrize("feature", ["tfidf:40", "word2vec:8/mean"])
def test_a_fresh_store_takes_the_tables_and_nothing_is_encoded(run, tmp_path, feature):
    captions_csv(tmp_path / "photos")
    words = ["fit", "--head", "linear", "--features", feature]
    result = run(*words, "--data", "photos", "--json")
    assert json.loads(result.stdout)["n"] > 0
    lines = result.stderr.splitlines()
    assert "photos: 60 rows are now in store, which did not know them; nothing is encoded" in lines
    store = Store("store")
    assert store.features() == []
    (table,) = store.tables()
    assert table.captions[1] == 'A cat, and a "dog" on a street 1.'
    assert table.labels[7] == ("2",)
    assert "are now in" not in run(*words, "--data", "photos", "--run", "runs/again").stderr
    assert "are now in" not in run(*words, "--run", "runs/without-data").stderr


def test_input_is_read_by_default_if_the_store_has_no_table(run, tmp_path):
    captions_csv(tmp_path / "input")
    result = run("fit", "--head", "linear", "--features", "tfidf:40", "--store", "new/store")
    assert "input: 60 rows are now in new/store" in result.stderr
    assert json.loads((tmp_path / "runs/linear/run.json").read_text())["table"].endswith("input/train.csv")


def test_a_store_with_other_tables_takes_those_of_new_data(run, tmp_path):
    captions_csv(tmp_path / "input")
    captions_csv(tmp_path / "photos", rows=72)
    for folder, rows in (("input", 60), ("photos", 72)):
        result = run("fit", "--head", "linear", "--features", "tfidf:40", "--data", folder)
        assert f"{folder}: {rows} rows are now in store" in result.stderr
    assert sorted(header.rows for header in Store("store").headers()) == [60, 72]
    # Without --data no table is read, as the store has several.
    assert "choose one with --data" in run("fit", "--features", "tfidf:40", status=1).stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--data", "photos", "--features", "tfidf:40", "--features", "glove-50/mean"], 1, "run extract"),
        (["--data", "photos"], 1, "run extract"),
        (["--data", "nowhere", "--features", "tfidf:40"], 1, "knows no table with labels in nowhere: run"),
        (["--data", "photos", "--features", "tfidf:many"], 2, "tfidf:many"),
    ],
)
def test_whatever_needs_more_than_captions_is_refused_in_one_line(run, tmp_path, words, status, message):
    captions_csv(tmp_path / "input")
    run("fit", "--head", "linear", "--features", "tfidf:40", "--data", "input")
    captions_csv(tmp_path / "photos")
    error = run("fit", "--run", "runs/x", *words, status=status).stderr
    assert message in error
    assert len(error.splitlines()) <= (1 if status == 1 else 5)
    assert len(Store("store").headers()) == 1
