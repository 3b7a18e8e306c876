import json

import numpy as np
import pytest

from encode_once.cache import UsageError
from encode_once.cache.keys import NO_KEY, pack
from encode_once.classify import fit, load_run, sweep
from encode_once.classify.data.groups import Grouping
from encode_once.classify.runs.predict import evaluate
from encode_once.classify.spec import FitSpec


@pytest.fixture
def doubled(filled):
    """A function that makes a store whose rows 100 to 149 duplicate rows 0 to 49."""

    def make(**changes):
        store = filled()
        (table,) = store.tables()
        original = np.r_[:100, :50, 150:400]
        table.image_keys = table.image_keys[original]
        table.caption_keys = table.caption_keys[original]
        for name, value in changes.items():
            setattr(table, name, value)
        store.save(table)
        return store

    return make


def groups_of(store, spec):
    (table,) = store.tables()
    return Grouping.parse(spec, store, table).of(table)


def together(groups):
    """The rows of each group of several rows."""
    members = [np.flatnonzero(groups == group).tolist() for group in np.unique(groups)]
    return sorted(rows for rows in members if len(rows) > 1)


PAIRS = [[row, 100 + row] for row in range(50)]


def test_rows_of_the_same_image_are_together_whatever_their_captions(doubled):
    store = doubled()
    (table,) = store.tables()
    table.caption_keys = table.caption_keys[np.r_[:100, 200:250, 150:400]]
    store.save(table)
    assert together(groups_of(store, "content")) == PAIRS
    assert together(groups_of(store, "none")) == []


def test_without_images_rows_of_the_same_caption_are_together(doubled):
    store = doubled(image_keys=pack([NO_KEY] * 400))
    assert together(groups_of(store, "content")) == PAIRS


def test_rows_of_equal_values_in_a_column_are_together_and_duplicates_as_well(doubled):
    people = [""] * 400
    people[0], people[7], people[300] = "ann", "bob", "ann"
    store = doubled(columns={"by": people})
    expected = [[0, 100, 300], *PAIRS[1:]]
    assert together(groups_of(store, "by")) == expected


def test_near_duplicates_are_together(filled):
    store = filled()
    (table,) = store.tables()
    X = np.array(store.feature("e/image").read(table.keys("image")), np.float64)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, k=1)
    i, j = np.unravel_index(cosines.argmax(), cosines.shape)
    assert together(groups_of(store, f"e/image:{cosines[i, j] - 1e-5:.6f}")) == [[i, j]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("contents", "did you mean 'content'"),
        ("prt", "did you mean 'part'"),
        ("e/image", "did you mean 'e/image:0.95'"),
        ("e/imag:0.9", "did you mean 'e/image'"),
        ("e/image:1.5", "a cosine above 0, at most 1"),
        ("e/image:nan", "a cosine above 0, at most 1"),
        ("tfidf:100", "a cosine above 0"),
        ("tfidf:100:0.9", "not a feature of one vector per row"),
    ],
)
def test_a_spec_without_groups_is_an_error_with_a_hint(filled, spec, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        fit(filled(), "linear", groups=spec, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["stratified:0.2", "random:0.2", "kfold:4"])
def test_duplicates_are_fitted_tuned_and_evaluated_together(doubled, tmp_path, split):
    run, _ = fit(doubled(), "linear", split=split, run=tmp_path / "run")
    assert json.loads((run.path / "run.json").read_text())["groups"] == "content"
    assert run.record.warnings == []
    evaluated, tuned = set(run.eval.ids), set(run.validation.ids)
    for row, other in PAIRS:
        for ids in (evaluated, tuned):
            assert (f"0-{row}.jpg" in ids) == (f"0-{other}.jpg" in ids)
    if split == "kfold:4":
        assert np.array_equal(run.eval.folds[:50], run.eval.folds[100:150])


def by_fours(store):
    """The store, with a column that groups the rows by fours."""
    (table,) = store.tables()
    table.columns["by"] = [str(row // 4) for row in range(len(table))]
    store.save(table)
    return store


@pytest.mark.usefixtures("fit_once")
def test_a_run_stores_the_groups_of_its_eval_rows(doubled, tmp_path):
    fit(doubled(), "linear", split="kfold:4", run=tmp_path / "content")
    assert together(load_run(tmp_path / "content").eval.groups) == PAIRS
    fit(doubled(), "linear", groups="none", run=tmp_path / "none")
    assert load_run(tmp_path / "none").eval.groups is None
    fit(by_fours(doubled()), "linear", groups="by", split="tail:200", run=tmp_path / "by")
    kept = load_run(tmp_path / "by").eval.groups
    assert together(kept) == np.arange(200).reshape(50, 4).tolist()


@pytest.mark.usefixtures("fit_once")
def test_other_data_is_grouped_like_the_run_or_else_by_content_with_a_warning(doubled, tmp_path):
    store = by_fours(doubled())
    (table,) = store.tables()
    run, _ = fit(store, "linear", groups="by", split="tail:200", run=tmp_path / "run")
    evaluation = evaluate(run, store, table)
    warnings = evaluation.warnings
    assert together(evaluation.rows.groups) == together(run.eval.groups)
    assert not any("--groups" in line for line in warnings)
    del table.columns["by"]
    evaluation = evaluate(run, store, table)
    warnings = evaluation.warnings
    assert together(evaluation.rows.groups) == []
    assert warnings[-1].startswith("intervals keep rows of equal content together")
    assert "nothing for --groups by" in warnings[-1]


@pytest.mark.usefixtures("fit_once")
def test_a_split_that_divides_duplicates_causes_a_warning(doubled, tmp_path):
    store = doubled()
    run, metrics = fit(store, "linear", split="tail:300", run=tmp_path / "run")
    assert metrics["warnings"] == ["50 of the 300 eval rows of tail:300 are duplicates of train rows"]
    run, _ = fit(store, "linear", split="tail:300", groups="none", run=tmp_path / "run-2")
    assert load_run(run.path).record.warnings == []


@pytest.mark.usefixtures("fit_once")
def test_the_groups_are_part_of_the_identity_of_a_run(doubled, tmp_path):
    store = doubled()
    specs = ("content", "none", "part", "e/image:0.9", "e/text:0.9")
    identities = {FitSpec("linear", groups=spec).identity(store) for spec in specs}
    assert len(identities) == len(specs)
    assert FitSpec("linear").identity(store) == FitSpec("linear", groups="content").identity(store)
    for spec in ("content", "none"):
        rows = sweep(store, ["linear"], groups=spec, folder=tmp_path / "sweep")  # all runs of the folder
        assert spec in {load_run(row["run"]).spec.groups for row in rows}
    assert len([*(tmp_path / "sweep").glob("linear*")]) == 2
