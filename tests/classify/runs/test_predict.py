"""A run applied to other rows: missing features, and a store with other features of the same name."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import DataError, Failure, SpecMismatchError, Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify import fit, load_run, retune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.predict import check, differences, evaluate, predict
from encode_once.cli import main
from tests.classify.runs.labelling import label_file

pytestmark = pytest.mark.usefixtures("fit_once")


def record_failures(store, rows):
    (table,) = store.tables()
    keys = [table.keys("image")[row].tobytes().hex() for row in rows]
    store.feature("e/image").record_failures([Failure(key, "empty", "", "") for key in keys])
    return table


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_predictions_name_the_features_that_a_row_lacks(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    other = filled(50, missing={5, 6}, name="other", seed=1)
    table = record_failures(other, (5, 6))
    (warning,) = label_file(run, other, table, tmp_path / "out.csv")
    assert "e/image: 2 of 50 rows have no vector" in warning
    header, *rows = read(tmp_path / "out.csv")
    assert header == ["ImageID", "Labels", "Missing"]
    assert [row[0] for row in rows] == table.ids
    assert {n: row[2] for n, row in enumerate(rows) if row[2]} == {5: "e/image", 6: "e/image"}
    scores, _ = predict(run, other, table)
    classes = np.array(run.record.classes)
    assert [row[1] for row in rows] == [";".join(classes[labels]) for labels in run.decision(scores)]


def test_the_names_of_missing_features_are_joined_like_labels(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    (table,) = store.tables()
    without = np.arange(len(table))[:, None] != 3  # the row has neither image nor caption
    table.image_keys, table.caption_keys = table.image_keys * without, table.caption_keys * without
    label_file(run, store, table, tmp_path / "out.csv")
    assert [row[2] for row in read(tmp_path / "out.csv")[3:6]] == ["", "e/image;e/text", ""]


def test_without_missing_vectors_predictions_have_the_two_columns_of_the_contract(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    label_file(run, store, *store.tables(), tmp_path / "out.csv")
    for path in (tmp_path / "out.csv", run.path / "predictions.csv"):
        assert {len(row) for row in read(path)} == {2}


@pytest.mark.parametrize("split", ["tail:40", "kfold:3"])
def test_the_predictions_of_a_run_name_missing_features_also_after_retuning(filled, tmp_path, split):
    store = filled(missing={370, 380})
    record_failures(store, (370, 380))
    run, _ = fit(store, "linear", split=split, run=tmp_path / "run")
    before = read(run.path / "predictions.csv")
    assert before[0] == ["ImageID", "Labels", "Missing"]
    assert {row[0] for row in before if row[2] == "e/image"} == {"0-370.jpg", "0-380.jpg"}
    loaded = load_run(run.path)
    loaded.save_decision(*retune(loaded, DecisionSpec("micro")))
    after = read(run.path / "predictions.csv")
    assert [(row[0], row[2]) for row in after] == [(row[0], row[2]) for row in before]


@pytest.fixture
def replaced(filled, tmp_path):
    """A run whose store now has another image feature of the same name."""
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    shutil.rmtree(store.path / "features" / "e" / "image")
    store = Store(store.path)
    (table,) = store.tables()
    with store.declare("e/image", {"modality": "image", "weights": "v2"}).writer(400) as writer:
        writer.append(table.keys("image"), np.ones((400, 8), np.float16))
    return run


DIFFERENCE = r"run was fitted on another e/image: .*weights: stored v2, asked for –"


def test_a_store_with_another_feature_is_refused_with_the_difference(replaced):
    store = Store(replaced.record.store)
    with pytest.raises(SpecMismatchError, match=DIFFERENCE):
        check(replaced, store)
    with pytest.raises(SpecMismatchError, match=DIFFERENCE):
        predict(replaced, store, *store.tables())


@pytest.mark.parametrize("words", [["evaluate", "--data"], ["predict", "--data"]])
def test_it_is_refused_before_anything_is_encoded(replaced, tmp_path, monkeypatch, words):
    monkeypatch.setattr(
        "encode_once.deploy.encoding.encode", lambda *_, **__: pytest.fail("something was encoded")
    )
    verb, *more = words
    result = CliRunner().invoke(main, [verb, str(replaced.path), *more, str(tmp_path)])
    assert result.exit_code == 1
    assert "weights: stored v2, asked for –" in result.stderr
    assert result.stderr.strip().count("\n") == 0


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_commands_that_need_only_the_saved_scores_continue_and_report_it(replaced, verb):
    result = CliRunner().invoke(main, [verb, str(replaced.path)])
    assert result.exit_code == 0
    assert "weights: stored v2" in (result.stdout if verb == "report" else result.stderr)


def test_an_unchanged_or_absent_store_has_no_differences(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    assert differences(run, store) == differences(run, Store(tmp_path / "gone")) == []


def labelled(store, labels, seed="new"):
    """The store's table with other contents, which the run has not seen, and these labels."""
    (table,) = store.tables()
    n = len(labels)
    keys = pack(content_key(f"{seed} {row}".encode()) for row in range(n))
    for name in ("e/image", "e/text"):
        with store.feature(name).writer(n) as writer:
            writer.append(keys, np.zeros((n, 8), np.float16))
    return replace(
        table,
        ids=[str(row) for row in range(n)],
        images=table.images[:n],
        captions=table.captions[:n],
        labels=labels,
        columns={},
        image_keys=keys,
        caption_keys=keys,
    )


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([(), ()], "has no labels, so there is nothing to measure"),
        ([("fish",), ("fox", "fish")], r"has only labels that .*run does not know \(fish, fox\)"),
    ],
)
def test_data_without_a_known_label_is_not_measured(filled, tmp_path, labels, problem):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    with pytest.raises(DataError, match=problem):
        evaluate(run, store, labelled(store, labels))


def test_labels_that_the_run_does_not_know_are_named(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    first = run.record.classes[0]
    table = labelled(store, [(first, "fox"), (*(f"fish {chr(97 + n)}" for n in range(12)),)])
    evaluation = evaluate(run, store, table)
    warnings = evaluation.warnings
    assert evaluation.metrics["n"] == 2
    (line,) = [line for line in warnings if "does not know" in line]
    assert line.endswith(f"left out: {', '.join(f'fish {chr(97 + n)}' for n in range(10))} and 3 more")
    warnings = evaluate(run, store, labelled(store, [("dog",), ("cat, fox",)], "again")).warnings
    (line,) = [line for line in warnings if "does not know" in line]
    assert line.endswith("if 'cat, fox' is several, as the run knows 'cat', use --label-separator")


def test_classes_without_a_row_to_fit_on_are_named_by_fit_and_by_predict(filled, tmp_path):
    store = filled()
    (table,) = store.tables()
    table.labels = [(*row, "rare") if n == 8 else row for n, row in enumerate(table.labels)]
    store.save(table)
    run, _ = fit(store, "linear", run=tmp_path / "run", split="part")  # row 8 is for evaluation
    assert any("has one of the labels rare: they are not learned" in line for line in run.record.warnings)
    loaded = load_run(run.path)
    assert loaded.record.untrained == ["rare"]
    warnings = label_file(loaded, store, table, tmp_path / "out.csv")
    assert any("without one positive row of rare" in line for line in warnings)
