"""Comparison of runs: planted differences are detected, and runs that cannot be compared are refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from encode_once.cache import DataError, UsageError
from encode_once.cache.keys import content_key, pack
from encode_once.classify.data.rows import content_order
from encode_once.classify.evaluation.compare import against_first, write_differences
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows
from encode_once.classify.evaluation.intervals import ALL, interval, resampled
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.evaluation.tables import comparison_text

CLASSES = ["ant", "bee", "cow", "dog"]


def keys_of(names):
    return pack(content_key(name.encode()) for name in names)


def evaluation(name, wrong=0.2, n=400, classes=CLASSES, tuned_here=False):
    """A run whose scores are wrong in a share of the rows, of all classes or of each."""
    labels = np.random.default_rng(9).random((n, 4)) < [0.2, 0.3, 0.5, 0.6]
    flipped = np.random.default_rng(0).random((n, 4)) < wrong
    return of_scores(name, np.where(labels ^ flipped, 0.8, 0.2), labels, classes, tuned_here)


def of_scores(name, scores, labels, classes=CLASSES, tuned_here=False):
    ids = [f"{row}.jpg" for row in range(len(labels))]
    scores, predictions = scores.astype(np.float32), scores >= 0.5
    metrics = measure(labels, predictions, scores, classes)
    for row in metrics["per_class"]:
        row.update(threshold=0.5, interval=None)
    rows = ScoredRows(ids, scores, labels, keys=keys_of(ids))
    return Evaluation(name, classes, rows, scores.astype(np.float64), predictions, metrics, tuned_here)


def with_rows(run, **changes):
    return replace(run, rows=replace(run.rows, **changes))


def test_the_classes_where_a_run_is_better_and_worse_are_named():
    first = evaluation("first")
    other = evaluation("other", [0.2, 0.02, 0.2, 0.5])
    same = evaluation("same")
    comparison, _ = against_first([first, other, same])
    assert [run["run"] for run in comparison["runs"]] == ["first", "other", "same"]
    assert (comparison["n"], comparison["caveats"]) == (400, [])
    different, equal = comparison["differences"]
    assert (different["run"], different["to"]) == ("other", "first")
    assert (different["better"], different["worse"]) == (["bee"], ["dog"])
    assert (equal["better"], equal["worse"]) == ([], [])
    assert [equal[name] for name in ("rows_differing", "closer", "further")] == [0, 0, 0]
    assert all(change == {"difference": 0, "interval": [0, 0]} for change in equal["metrics"].values())
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_metrics_are_those_of_the_run_alone_and_differences_those_of_the_same_draws():
    runs = [evaluation("first"), evaluation("other", 0.1)]
    comparison, _ = against_first(runs)
    order = content_order(runs[0].rows.keys, runs[0].rows.ids)
    draws = [resampled(run.rows.labels, run.predictions, run.probabilities, order=order) for run in runs]
    names = [name for name in ALL if name in runs[0].metrics]
    for compared, run, own_draws in zip(comparison["runs"], runs, draws, strict=True):
        assert {name: compared[name] for name in run.metrics} == run.metrics
        assert compared["intervals"] == {name: interval(own_draws[name], run.metrics[name]) for name in names}
    (difference,) = comparison["differences"]
    first, other = runs
    for name in names:
        change = other.metrics[name] - first.metrics[name]
        assert difference["metrics"][name] == {
            "difference": change,
            "interval": interval(draws[1][name] - draws[0][name], change),
        }
    changes = draws[1]["class_f1"] - draws[0]["class_f1"]
    assert [row["label"] for row in difference["per_class"]] == CLASSES
    for row, of_class in zip(difference["per_class"], changes.T, strict=True):
        assert row["interval"] == interval(of_class, row["difference"])


def test_paired_runs_are_drawn_by_the_groups_of_both():
    """Rows 0 and 1 belong together in one run, 1 and 2 in the other: 0, 1 and 2 do in the comparison."""
    rows = np.arange(400)
    first = with_rows(evaluation("first"), groups=np.where(rows == 1, 0, rows))
    other = with_rows(evaluation("other", 0.1), groups=np.where(rows == 2, 1, rows))
    _, compared = against_first([first, other])
    for run in compared:
        assert len(np.unique(run.rows.groups)) == 398
        assert len({*run.rows.groups[:3]}) == 1
    _, compared = against_first([first, evaluation("ungrouped")])
    assert all(len(np.unique(run.rows.groups)) == 399 for run in compared)
    reversed_rows = compared[0].subset(rows[::-1], CLASSES)
    np.testing.assert_array_equal(reversed_rows.rows.groups, compared[0].rows.groups[::-1])


def shuffled(run, n=400, classes=CLASSES):
    return run.subset(np.random.default_rng(3).permutation(400)[:n], classes)


def test_a_part_of_an_evaluation_has_no_figures_of_the_whole():
    """Some labels of the last rows are unknown; each of the others has one label, as each prediction does."""
    labels = np.eye(3, dtype=np.int8)[np.arange(30) % 3]
    labels[20:, 0] = -1
    whole = of_scores("partial", np.eye(3)[np.arange(30) % 3], labels, CLASSES[:3])
    whole = replace(
        whole, metrics={**whole.metrics, "objective": "macro", "tuned_on": "x", "warnings": ["y"]}
    )
    assert whole.metrics["unknown"] == 10
    part = whole.subset(np.arange(20), CLASSES[:3])
    expected = measure(labels[:20] == 1, part.predictions, part.probabilities, CLASSES[:3])
    rules = {"objective": "macro", "tuned_on": "x", "warnings": ["y"]}
    thresholds = {"threshold": 0.5, "interval": None}
    per_class = [row | thresholds for row in expected["per_class"]]
    assert part.metrics == {**expected, **rules, "per_class": per_class}
    assert "accuracy" in part.metrics
    fewer = part.subset(np.arange(20), CLASSES[:2])  # rows of the third class have no label now
    assert "accuracy" not in fewer.metrics
    assert "confusion" not in fewer.metrics


def test_rows_and_classes_are_compared_in_the_order_of_the_first_run():
    first, other = evaluation("first"), evaluation("other", 0.1)
    expected, _ = against_first([first, other])
    comparison, compared = against_first([first, shuffled(other, classes=["cow", "ant", "dog", "bee"])])
    assert comparison["caveats"] == []
    np.testing.assert_array_equal(compared[0].rows.labels, compared[1].rows.labels)
    assert comparison["differences"] == expected["differences"]
    assert [row["label"] for row in comparison["runs"][1]["per_class"]] == CLASSES


def test_different_rows_are_compared_only_on_request():
    whole = [evaluation("first"), evaluation("other", 0.1)]
    runs = [whole[0], shuffled(whole[1], 150)]
    with pytest.raises(DataError, match=r"only 150 .* \(400 of first, 150 of other\).*--split.*--anyway"):
        against_first(runs)
    comparison, compared = against_first(runs, anyway=True)
    assert comparison["n"] == 150
    caveat = "compared on the 150 rows that are in all runs (400 of first, 150 of other)"
    assert comparison["caveats"] == [caveat]
    rows = [int(name.removesuffix(".jpg")) for name in compared[0].rows.ids]
    for figures, run in zip(comparison["runs"], whole, strict=True):
        labels, scores = run.rows.labels[rows], run.rows.scores[rows]
        expected = measure(labels, scores >= 0.5, scores, CLASSES)
        for row in expected["per_class"]:
            row.update(threshold=0.5, interval=None)
        assert {name: figures[name] for name in expected} == expected
    assert caveat in comparison_text(comparison)


def test_runs_without_a_shared_row_are_always_refused():
    first, other = evaluation("first"), evaluation("other")
    other = with_rows(other, keys=keys_of("x" + name for name in other.rows.ids))  # with the same ids
    with pytest.raises(DataError, match="only 0"):
        against_first([first, other], anyway=True)


def test_thresholds_tuned_on_the_compared_rows_are_allowed_only_on_request():
    runs = [evaluation("first"), evaluation("tuned", 0.1, tuned_here=True)]
    with pytest.raises(DataError, match=r"thresholds of tuned were .*--tune-on inner, or pass --anyway"):
        against_first(runs)
    comparison, _ = against_first(runs, anyway=True)
    assert [run["tuned_on_these_rows"] for run in comparison["runs"]] == [False, True]
    assert comparison["caveats"] == ["tuned: its thresholds were tuned on these rows, which flatters it"]
    text = comparison_text(comparison)
    assert "tuned (tuned on these rows)" in text
    assert comparison["caveats"][0] in text


def test_rows_are_matched_by_content_whatever_their_ids():
    first, other = evaluation("first"), evaluation("other", 0.1)
    expected, _ = against_first([first, other])
    for ids in (["0.jpg"] * 400, other.rows.ids[::-1], [f"renamed {row}" for row in range(400)]):
        comparison, _ = against_first([first, with_rows(other, ids=ids)])
        assert comparison["differences"] == expected["differences"]


def test_rows_of_equal_content_are_matched_by_id_and_then_in_order():
    first, other = (
        with_rows(run, keys=run.rows.keys[[0, 0, 0, 0]])
        for run in (evaluation("first", n=4), evaluation("other", 0.1, n=4))
    )
    other = with_rows(other, ids=["3.jpg", "b", "0.jpg", "a"], labels=other.rows.labels[[3, 1, 0, 2]])
    _, compared = against_first([first, other])
    np.testing.assert_array_equal(compared[1].rows.scores, other.rows.scores[[2, 1, 3, 0]])


def test_other_labels_or_classes_are_always_refused():
    first, other = evaluation("first"), evaluation("other", 0.1)
    changed = other.rows.labels.copy()
    changed[:3, 0] ^= True
    with pytest.raises(DataError, match="different labels for 3 rows"):
        against_first([first, with_rows(other, labels=changed)], anyway=True)
    with pytest.raises(DataError, match="only one of them has dog, eel"):
        against_first([first, evaluation("other", classes=["ant", "bee", "cow", "eel"])], anyway=True)


def test_a_comparison_needs_two_different_runs():
    for names in (["first"], ["first", "first"]):
        with pytest.raises(UsageError, match="two runs or more"):
            against_first([evaluation(name) for name in names])


def predicting(name, predicted):
    """A run that predicts exactly these labels of four rows, the last of which has none."""
    labels = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    return of_scores(
        name, np.array([[letter in row for letter in "abcd"] for row in predicted], float), labels
    )


def test_the_rows_that_differ_are_written_with_the_run_that_is_closest(tmp_path):
    first = predicting("first", ["a", "b", "cda", ""])
    second = predicting("second", ["ab", "b", "cdb", "d"])
    third = predicting("third", ["ab", "b", "c", "d"])
    comparison, compared = against_first([first, second, third])
    assert write_differences(tmp_path / "out.csv", compared, "ImageID", " ") == 3
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["ImageID", "Labels", "first", "second", "third", "Closest"],
            ["0.jpg", "ant bee", "ant", "ant bee", "ant bee", "second; third"],
            ["2.jpg", "cow dog", "ant cow dog", "bee cow dog", "cow", "first; second"],
            ["3.jpg", "", "", "dog", "dog", "first"],  # no label, rightly
        ]
    counts = [
        [difference[name] for name in ("rows_differing", "closer", "further")]
        for difference in comparison["differences"]
    ]
    assert counts == [[3, 1, 1], [3, 1, 2]]


def test_runs_that_agree_on_every_row_write_no_row(tmp_path):
    assert (
        write_differences(tmp_path / "out.csv", [evaluation("one"), evaluation("two")], "ImageID", " ") == 0
    )
    assert (tmp_path / "out.csv").read_text() == "ImageID,Labels,one,two,Closest\n"


def test_the_text_names_runs_differences_and_classes():
    comparison, _ = against_first([evaluation("first"), evaluation("other", [0.2, 0.02, 0.2, 0.5])])
    text = comparison_text(comparison)
    low, high = comparison["differences"][0]["metrics"]["micro_f1"]["interval"]
    assert f"({low:+.3f} … {high:+.3f})" in text
    assert "minus first" in text
    assert "other is better in bee" in text
    assert "other is worse in dog" in text
    assert "about 0.2 of 4 classes" in text
