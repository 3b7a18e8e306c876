"""No row is lost, and none counts twice: in splits, in a run, in an extraction and in predictions."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache.keys import KeyIndex
from encode_once.classify import fit
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.splits import folds, position_draws, validation_split
from tests.conftest import examples, picture

LITE0, GLOVE = "efficientnet-lite0", "glove-50"


@examples(150)
@given(
    seed=st.integers(0, 9_999),
    n=st.integers(40, 120),
    spec=st.sampled_from(["stratified:0.2", "random:0.3", "tail:15", "kfold:2", "kfold:5", "part"]),
    largest=st.sampled_from([None, 1, 3]),
)
def test_train_validation_and_eval_partition_the_rows(seed, n, spec, largest):
    rng = np.random.default_rng(seed)
    Y = rng.random((n, 3)) < [0.5, 0.3, 0.1]
    together = largest and rng.integers(n // largest + 1, size=n)  # groups of about that many rows
    columns = {"part": rng.permutation(["val"] * 10 + ["train"] * (n - 10)).tolist()}
    draws = position_draws(n, seed)
    parts = folds(spec, Y, columns, draws, together)
    evaluated = np.concatenate(parts)
    assert len(evaluated) == len(set(evaluated.tolist()))
    if spec.startswith("kfold"):
        assert sorted(evaluated) == [*range(n)]
    for part in parts:
        train, validation = validation_split(Y, np.setdiff1d(np.arange(n), part), 0.2, draws, together)
        assert sorted(np.concatenate([train, validation, part])) == [*range(n)]


@pytest.mark.parametrize("split", ["part", "stratified:0.25", "random:0.3", "tail:50", "kfold:3"])
@pytest.mark.parametrize("validation", ["tenth", "folds"])
def test_every_row_of_the_table_is_fitted_validated_or_evaluated_on(data, tmp_path, split, validation):
    store, options = data.save(tmp_path), {"Cs": [0.1]}
    run, metrics = fit(
        store, "linear", split=split, validation=validation, run=tmp_path / "run", options=options
    )
    keys = content_keys(*store.tables())
    evaluated, tuned = (KeyIndex(rows.keys).find(keys) >= 0 for rows in (run.eval, run.validation))
    seen = run.has_seen(keys)
    assert len(run.eval.ids) == evaluated.sum() == metrics["n"]
    if split == "kfold:3":
        assert evaluated.all()
        assert tuned.all()
        assert seen.all()
    else:
        np.testing.assert_array_equal(seen, ~evaluated)
        assert not (tuned & evaluated).any()
        assert tuned.sum() == seen.sum() if validation == "folds" else 0 < tuned.sum() < seen.sum()


@pytest.fixture
def flawed(folder):
    """Twelve rows: one image is broken, one absent, two are equal; one caption is empty, two are equal."""
    root = folder(12)
    (root / "data" / "3.png").write_bytes(b"this is no picture")
    (root / "data" / "5.png").unlink()
    (root / "data" / "8.png").write_bytes((root / "data" / "7.png").read_bytes())
    with (root / "train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    rows[2][2], rows[9][2] = "", rows[10][2]
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def counts(report):
    return {name: tuple(numbers[key] for key in ("encoded", "present", "failed"))
            for name, numbers in report["features"].items()}  # fmt: skip


def test_every_input_of_an_extraction_is_encoded_present_or_failed(flawed, run):
    words = ("extract", "--encoder", f"{LITE0},{GLOVE}", "--json", "--data", flawed)
    first, second = (json.loads(run(*words, status=1).stdout) for _ in range(2))
    assert first["samples"] == second["samples"] == 12
    assert counts(first).keys() == counts(second).keys()
    for name, (encoded, present, failed) in counts(first).items():
        inputs = 12 if name.startswith(LITE0) else 11  # an empty caption is no input
        assert encoded + present + failed == inputs
        assert failed == (2 if name.startswith(LITE0) else 0)
        assert counts(second)[name] == (0, encoded + present, failed)
    assert {failure["input"].rpartition("/")[2] for failure in first["failures"]} == {"3.png", "5.png"}


def test_every_row_is_predicted_once_and_in_order(folder, flawed, run, tmp_path):
    train = folder(40, "train")
    run("extract", "--encoder", f"{LITE0},{GLOVE}", "--data", train)
    run(
        "fit",
        "--head",
        "linear",
        "--features",
        f"{LITE0}/pooled",
        "--features",
        f"{GLOVE}/mean",
        "--run",
        "fitted",
    )
    with (flawed / "train.csv").open(newline="") as file:
        expected = [row["ImageID"] for row in csv.DictReader(file)]
    run("predict", "fitted", "--data", flawed, "-o", "out.csv")
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ImageID"] for row in rows] == expected
    missing = {row["ImageID"]: row["Missing"].split() for row in rows if row["Missing"]}
    pooled, mean = f"{LITE0}/pooled", f"{GLOVE}/mean"
    assert missing == {"2.png": [mean], "3.png": [pooled], "5.png": [pooled]}


def test_evaluation_leaves_out_the_photographs_fitted_on_whatever_their_captions_are_now(folder, run):
    train, recaptioned = folder(40, "train"), folder(60, "recaptioned")
    for number in range(40, 60):
        picture(1000 + number).save(recaptioned / "data" / f"{number}.png")
    with (recaptioned / "train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (recaptioned / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [header, *([image, labels, f"{text} Indeed."] for image, labels, text in rows)]
        )
    run("extract", "--encoder", LITE0, "--data", train)
    run("fit", "--head", "linear", "--split", "tail:10", "--run", "fitted")
    result = run("evaluate", "fitted", "--data", recaptioned, "--json")
    assert json.loads(result.stdout)["n"] == 30  # the 10 held out, and the 20 new ones
    assert "30 of 60 rows are left out" in result.stderr
