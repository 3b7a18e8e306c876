"""Runs on the same rows: what was planted is found, and what cannot be compared is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import DataError, UsageError
from encode_once.cache.keys import content_key, pack
from encode_once.classify.decisions.rule import DecisionRule
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.compare import Evaluation, against_first, write_differences
from encode_once.classify.evaluation.intervals import ALL, interval, resampled
from encode_once.classify.evaluation.metrics import measure
from encode_once.classify.evaluation.tables import comparison_text
from encode_once.classify.runs.run import Model, Run, RunRecord, ScoredRows
from encode_once.classify.spec import FitSpec

CLASSES = ["ant", "bee", "cow", "dog"]


def contents(names):
    return pack(content_key(name.encode()) for name in names)


def scored(ids, scores, labels):
    """Rows each of whose contents is what its id says."""
    return ScoredRows(ids, scores, labels, keys=contents(ids))


@pytest.fixture
def run():
    """A function that makes a run whose held-out scores are right in all but a share of each class's rows."""

    def make(name, wrong=0.2, n=400, seed=0, classes=CLASSES, **fields):
        rng = np.random.default_rng(9)
        labels = rng.random((n, 4)) < [0.2, 0.3, 0.5, 0.6]
        flipped = np.random.default_rng(seed).random((n, 4)) < wrong
        scores = np.where(labels ^ flipped, 0.8, 0.2).astype(np.float32)
        record = RunRecord({}, classes, "store", "train.csv", "ImageID", " ", created="")
        spec = FitSpec("linear", **{"split": f"tail:{n}", **fields})
        rows = scored([f"{row}.jpg" for row in range(n)], scores, labels)
        model = Model(np.zeros(2, np.float32), np.ones(2, np.float32), None, {})
        decision = DecisionRule(spec.tuning, ThresholdEstimate(np.full(4, 0.5)))
        return Run(Path(name), spec, record, model, rows, rows, None, decision)

    return make


def kept(*runs):
    return [Evaluation.kept(run) for run in runs]


def test_the_classes_where_a_run_is_better_and_worse_are_named(run):
    first = run("first")
    other = run("other", [0.2, 0.02, 0.2, 0.5])
    same = run("same")
    found, _ = against_first(kept(first, other, same))
    assert [one["run"] for one in found["runs"]] == ["first", "other", "same"]
    assert (found["n"], found["caveats"]) == (400, [])
    against, equal = found["differences"]
    assert (against["run"], against["to"]) == ("other", "first")
    assert (against["better"], against["worse"]) == (["bee"], ["dog"])
    assert (equal["better"], equal["worse"]) == ([], [])
    assert [equal[name] for name in ("rows_differing", "closer", "further")] == [0, 0, 0]
    assert all(one == {"difference": 0, "interval": [0, 0]} for one in equal["metrics"].values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_every_figure_is_that_of_the_run_alone_and_every_difference_that_of_the_same_draws(run):
    judged = kept(run("first"), run("other", 0.1))
    found, _ = against_first(judged)
    draws = [resampled(one.rows.labels, one.predictions, one.rows.scores) for one in judged]
    for told, one, drawn in zip(found["runs"], judged, draws, strict=True):
        assert {name: told[name] for name in one.metrics} == one.metrics
        assert told["intervals"] == {name: interval(drawn[name], one.metrics[name]) for name in ALL}
    (difference,) = found["differences"]
    theirs, ours = judged
    for name in ALL:
        assert difference["metrics"][name] == {
            "difference": ours.metrics[name] - theirs.metrics[name],
            "interval": interval(draws[1][name] - draws[0][name], ours.metrics[name] - theirs.metrics[name]),
        }
    for k, row in enumerate(difference["per_class"]):
        assert row["label"] == CLASSES[k]
        assert row["interval"] == interval(
            draws[1]["class_f1"][:, k] - draws[0]["class_f1"][:, k], row["difference"]
        )


def test_paired_runs_are_drawn_by_the_groups_of_both(run):
    """Rows 0 and 1 belong together in one run, 1 and 2 in the other: 0, 1 and 2 do in the comparison."""
    rows = np.arange(400)
    first, other = run("first"), run("other", 0.1)
    first.eval = replace(first.eval, groups=np.where(rows == 1, 0, rows))
    other.eval = replace(other.eval, groups=np.where(rows == 2, 1, rows))
    _, judged = against_first(kept(first, other))
    for one in judged:
        assert len(np.unique(one.rows.groups)) == 398
        assert len({*one.rows.groups[:3]}) == 1
    _, judged = against_first(kept(first, run("alone")))
    assert all(len(np.unique(one.rows.groups)) == 399 for one in judged)
    turned = judged[0].taking(rows[::-1], CLASSES)
    np.testing.assert_array_equal(turned.rows.groups, judged[0].rows.groups[::-1])


def shuffled(run, rows=slice(None), classes=(0, 1, 2, 3)):
    """The same run with some of its rows in another order, and its classes, too."""
    order = np.random.default_rng(3).permutation(len(run.eval.ids))[rows]
    pick = np.ix_(order, classes)
    held = scored([run.eval.ids[row] for row in order], run.eval.scores[pick], run.eval.labels[pick])
    record = replace(run.record, classes=[CLASSES[k] for k in classes])
    return replace(run, eval=held, record=record)


def test_rows_and_classes_in_another_order_are_brought_into_the_firsts(run):
    first, other = run("first"), run("other", 0.1)
    expected, _ = against_first(kept(first, other))
    found, judged = against_first(kept(first, shuffled(other, classes=[2, 0, 3, 1])))
    assert found["caveats"] == []
    np.testing.assert_array_equal(judged[0].rows.labels, judged[1].rows.labels)
    assert found["differences"] == expected["differences"]
    assert [row["label"] for row in found["runs"][1]["per_class"]] == CLASSES


def test_different_rows_are_refused_unless_told(run):
    first, other = run("first"), shuffled(run("other", 0.1), rows=slice(150))
    with pytest.raises(DataError, match=r"only 150 .* \(400 of first, 150 of other\).*--split.*--anyway"):
        against_first(kept(first, other))
    found, judged = against_first(kept(first, other), anyway=True)
    assert found["n"] == 150
    assert found["caveats"] == ["compared on the 150 rows that are in all runs (400 of first, 150 of other)"]
    for told, one in zip(found["runs"], judged, strict=True):
        rows = [int(name.removesuffix(".jpg")) for name in judged[0].rows.ids]
        held = run("x", {"first": 0.2, "other": 0.1}[one.name]).eval
        truth, scores = held.labels[rows], held.scores[rows]
        expected = measure(truth, scores >= 0.5, scores, CLASSES)
        cut = {"threshold": 0.5, "interval": None}
        expected["per_class"] = [{**row, **cut} for row in expected["per_class"]]
        assert {name: told[name] for name in expected} == expected
    assert found["caveats"][0] in comparison_text(found)


def test_runs_without_a_row_in_common_are_refused_always(run):
    first = run("first")
    other = replace(
        first,
        path=Path("other"),
        eval=replace(first.eval, keys=contents("x" + name for name in first.eval.ids)),  # ids are the same
    )
    with pytest.raises(DataError, match="only 0"):
        against_first(kept(first, other), anyway=True)


def test_thresholds_tuned_on_the_compared_rows_are_refused_unless_told(run):
    first, tuned = run("first"), run("tuned", 0.1, tune_on="eval")
    with pytest.raises(DataError, match=r"thresholds of tuned were .*--tune-on inner, or say --anyway"):
        against_first(kept(first, tuned))
    found, _ = against_first(kept(first, tuned), anyway=True)
    assert [one["tuned_on_these_rows"] for one in found["runs"]] == [False, True]
    assert found["caveats"] == ["tuned: its thresholds were tuned on these rows, which flatters it"]
    told = comparison_text(found)
    assert "tuned (tuned on these rows)" in told
    assert found["caveats"][0] in told


def test_a_fixed_cut_is_tuned_on_no_rows(run):
    found, _ = against_first(kept(run("first"), run("fixed", tune_on="eval", tuning="none")))
    assert found["caveats"] == []


def test_rows_are_the_same_by_content_whatever_their_ids(run):
    first, other = run("first"), run("other", 0.1)
    expected, _ = against_first(kept(first, other))
    for ids in (["0.jpg"] * 400, other.eval.ids[::-1], [f"renamed {row}" for row in range(400)]):
        found, _ = against_first(kept(first, replace(other, eval=replace(other.eval, ids=ids))))
        assert found["differences"] == expected["differences"]


def test_rows_of_the_same_content_are_matched_by_id_and_then_in_order(run):
    first, other = run("first", n=4), run("other", 0.1, n=4)
    for one in (first, other):
        one.eval = replace(one.eval, keys=one.eval.keys[[0, 0, 0, 0]])
    other.eval = replace(other.eval, ids=["3.jpg", "b", "0.jpg", "a"], labels=other.eval.labels[[3, 1, 0, 2]])
    _, judged = against_first(kept(first, other))
    np.testing.assert_array_equal(judged[1].rows.scores, other.eval.scores[[2, 1, 3, 0]])


def test_other_labels_or_classes_are_refused_always(run):
    first, other = run("first"), run("other", 0.1)
    changed = other.eval.labels.copy()
    changed[:3, 0] ^= True
    with pytest.raises(DataError, match="different labels for 3 rows"):
        against_first(kept(first, replace(other, eval=replace(other.eval, labels=changed))), anyway=True)
    with pytest.raises(DataError, match="only one of them has dog, eel"):
        against_first(kept(first, run("other", classes=["ant", "bee", "cow", "eel"])), anyway=True)


def test_it_takes_two_runs(run):
    for runs in ([run("first")], [run("first"), run("first")]):
        with pytest.raises(UsageError, match="two runs or more"):
            against_first(kept(*runs))


def planted(run, name, predicted):
    """A run that predicts exactly these labels of four rows, of which the last has none."""
    labels = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    scores = np.array([[one in row for one in "abcd"] for row in predicted], np.float32)
    rows = scored(["1", "2", "3", "4"], scores, labels)
    return replace(run(name), eval=rows)


def test_the_rows_that_differ_are_written_with_who_is_closer(run, tmp_path):
    one = planted(run, "one", ["a", "b", "cda", ""])
    two = planted(run, "two", ["ab", "b", "cdb", "d"])
    three = planted(run, "three", ["ab", "b", "c", "d"])
    found, judged = against_first(kept(one, two, three))
    assert write_differences(tmp_path / "out.csv", judged) == 3
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["ImageID", "Labels", "one", "two", "three", "Closest"],
            ["1", "ant bee", "ant", "ant bee", "ant bee", "two; three"],
            ["3", "cow dog", "ant cow dog", "bee cow dog", "cow", "one; two"],
            ["4", "", "", "dog", "dog", "one"],  # nothing, rightly
        ]
    counts = [
        [difference[name] for name in ("rows_differing", "closer", "further")]
        for difference in found["differences"]
    ]
    assert counts == [[3, 1, 1], [3, 1, 2]]


def test_where_all_runs_say_the_same_no_row_is_written(run, tmp_path):
    _, judged = against_first(kept(run("one"), run("two")))
    assert write_differences(tmp_path / "out.csv", judged) == 0
    assert (tmp_path / "out.csv").read_text() == "ImageID,Labels,one,two,Closest\n"


def test_the_text_names_runs_differences_and_classes(run):
    found, _ = against_first(kept(run("first"), run("other", [0.2, 0.02, 0.2, 0.5])))
    told = comparison_text(found)
    low, high = found["differences"][0]["metrics"]["micro_f1"]["interval"]
    assert f"({low:+.3f} … {high:+.3f})" in told
    assert "less first" in told
    assert "other is better in bee" in told
    assert "other is worse in dog" in told
    assert "about 0.2 of 4 classes" in told
