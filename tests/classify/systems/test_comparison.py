"""The table of systems: what is one system, its means, and the tests of differences."""

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean, stdev

import h5py
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from encode_once.cache import DataError, MissingDataError, UsageError
from encode_once.classify import fit, load_run, retune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.compare import against_first
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.summary import summarise
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.spec import FitSpec
from encode_once.classify.systems.comparison import Entry, _RowTests, compare_systems, metrics_named
from encode_once.classify.systems.grouping import SystemRuns, find_runs, group, labels

METRICS = metrics_named(())
FOREST = {"trees": 4, "jobs": 1}


@pytest.fixture
def fitted(tmp_path):
    """A function that fits a run with quick settings; returns it as loaded."""

    def make(store, head, name, **fields):
        options = {**(FOREST if head == "forest" else {}), **fields.pop("options", {})}
        settings = {"split": "tail:100", "validation": "tenth", "decision": "macro", **fields}
        run, _ = fit(store, head, options=options, run=tmp_path / "runs" / name, **settings)
        return load_run(run.path)

    return make


def metrics_of(run):
    return json.loads((run.path / "metrics.json").read_text())


def table_of(runs, **options):
    tables = compare_systems(runs, METRICS, **options)
    (table,) = tables["tables"]
    return table, {row["system"]: row for row in table["systems"]}, tables


def test_runs_that_differ_in_the_seed_are_one_system(filled, fitted):
    store = filled()
    runs = [fitted(store, "forest", f"f{seed}", options={"seed": seed}) for seed in range(3)]
    runs.append(fitted(store, "linear", "l", options={"tolerance": 1e-4, "device": "cpu"}))
    table, systems, _ = table_of(runs)
    assert [*systems] == [row["system"] for row in table["systems"]]
    assert set(systems) == {"forest trees=4 on e/image + e/text", "linear on e/image + e/text"}
    row = systems["forest trees=4 on e/image + e/text"]
    assert row["runs"] == [str(run.path) for run in runs[:3]]
    for name in METRICS:
        values = [metrics_of(run)[name] for run in runs[:3]]
        figure = row["metrics"][name]
        assert figure["mean"] == pytest.approx(np.mean(values))
        assert figure["sd"] == pytest.approx(np.std(values, ddof=1))
        assert [(value["run"], value["value"]) for value in figure["values"]] == [
            (str(run.path), value) for run, value in zip(runs[:3], values, strict=True)
        ]
    assert (table["rows"], table["sets"], table["caveats"]) == (100, 1, [])
    for of_class in row["per_class"]:
        values = [
            entry["f1"]
            for run in runs[:3]
            for entry in metrics_of(run)["per_class"]
            if entry["label"] == of_class["label"]
        ]
        assert (of_class["f1"], of_class["sd"]) == pytest.approx((fmean(values), stdev(values)))


def test_single_runs_differ_as_evaluate_says(filled, fitted):
    store = filled()
    runs = [
        fitted(store, "linear", "image", features=["e/image"]),
        fitted(store, "linear", "both"),
        fitted(store, "knn", "knn"),
    ]
    _, systems, _ = table_of(runs)
    for name in METRICS:
        figures = {row["runs"][0]: row["metrics"][name] for row in systems.values()}
        best = next(run for run, figure in figures.items() if figure["best"])
        assert figures[best]["mean"] == max(figure["mean"] for figure in figures.values())
        ordered = sorted(runs, key=lambda run: str(run.path) != best)
        comparison, _ = against_first([evaluate_kept(run) for run in ordered])
        for change in comparison["differences"]:
            figure = figures[change["run"]]
            assert figure["difference"] == pytest.approx(change["metrics"][name]["difference"])
            assert figure["difference_interval"] == pytest.approx(change["metrics"][name]["interval"])
        others = [figure for run, figure in figures.items() if run != best]
        low, high = sorted(figure["p"] for figure in others)
        expected = {low: min(2 * low, 1), high: max(min(2 * low, 1), high)}
        for figure in others:
            assert figure["p_holm"] == pytest.approx(expected[figure["p"]])
            assert figure["as_good"] == (figure["p_holm"] >= 0.05)
        for run, of_run in zip(ordered, comparison["runs"], strict=True):
            assert figures[str(run.path)]["interval"] == pytest.approx(of_run["intervals"][name])
    (image,) = (row for row in systems.values() if "e/text" not in row["system"])
    assert not image["metrics"]["macro_f1"]["as_good"], "two classes cannot be learned from images"


def test_folds_have_a_value_each_and_a_corrected_test(filled, fitted):
    store = filled()
    runs = [fitted(store, head, head, split="kfold:4") for head in ("linear", "knn")]
    table, systems, tables = table_of(runs)
    assert (table["rows"], table["sets"]) == (100, 4)
    values = {}
    for run in runs:
        (row,) = (row for row in systems.values() if row["runs"] == [str(run.path)])
        with h5py.File(run.path / "scores.h5") as file:
            folds = file["eval/folds"][()]
        predictions = evaluate_kept(run).predictions
        values[row["system"]] = [
            f1_score(run.eval.labels[folds == k], predictions[folds == k], average="macro") for k in range(4)
        ]
        figure = row["metrics"]["macro_f1"]
        assert [value["value"] for value in figure["values"]] == pytest.approx(values[row["system"]])
        assert [value["fold"] for value in figure["values"]] == [0, 1, 2, 3]
        assert figure["sd"] == pytest.approx(stdev(values[row["system"]]))
        assert figure["interval"] is None
    best, other = sorted(systems, key=lambda name: -np.mean(values[name]))
    differences = np.subtract(values[other], values[best])
    error = np.sqrt((1 / 4 + 1 / 3) * differences.var(ddof=1))
    figure = systems[other]["metrics"]["macro_f1"]
    assert figure["p"] == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, 3))
    assert tables["ranks"]["blocks"] == 4
    wins = sum(differences > 0) + sum(differences == 0) / 2
    assert tables["ranks"]["mean_ranks"][best] == pytest.approx(1 + wins / 4)


def test_redrawn_splits_are_paired(filled, fitted):
    store = filled()
    runs = [
        fitted(store, head, f"{head}{seed}", split="random:0.25", seed=seed)
        for head in ("linear", "knn")
        for seed in range(3)
    ]
    table, systems, _ = table_of(runs)
    assert (table["rows"], table["sets"]) == (100, 3)
    values = [[metrics_of(run)["macro_f1"] for run in runs[start : start + 3]] for start in (0, 3)]
    differences = np.subtract(*values)
    error = np.sqrt((1 / 3 + 100 / 300) * differences.var(ddof=1))
    (figure,) = (f for row in systems.values() if not (f := row["metrics"]["macro_f1"])["best"])
    assert figure["p"] == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, 2))
    assert figure["difference"] == pytest.approx(-abs(differences.mean()))
    reordered, _, _ = table_of(runs[::-1])
    assert reordered["systems"][0]["metrics"]["macro_f1"]["mean"] == pytest.approx(
        table["systems"][0]["metrics"]["macro_f1"]["mean"]
    )
    with pytest.raises(
        DataError, match="measured on different rows: fit them with the same --split and seeds"
    ):
        compare_systems(runs[:-1], METRICS)
    part, _, _ = table_of(runs[:-1], anyway=True)
    assert part["sets"] == 2
    assert part["caveats"] == ["compared on the 2 sets of eval rows that all systems have"]


def test_other_eval_rows_are_refused_or_left_out(filled, fitted):
    store = filled()
    runs = [fitted(store, "linear", "a"), fitted(store, "knn", "b", split="tail:60")]
    with pytest.raises(DataError, match=r"knn.* and linear.* were measured on different rows"):
        compare_systems(runs, METRICS)
    table, systems, _ = table_of(runs, anyway=True)
    (caveat,) = table["caveats"]
    assert caveat.startswith("compared on the 60 rows that are in all runs (100 of ")
    assert table["rows"] == 60
    evaluation = evaluate_kept(runs[0])
    expected = f1_score(evaluation.rows.labels[-60:], evaluation.predictions[-60:], average="macro")
    (row,) = (row for name, row in systems.items() if name.startswith("linear"))
    assert row["metrics"]["macro_f1"]["mean"] == pytest.approx(expected)
    with pytest.raises(DataError, match="only 0 evaluated rows"):
        other = fitted(filled(name="second", source="other/train.csv", seed=1), "knn", "c")
        other.spec = replace(other.spec, data=runs[0].spec.data)
        compare_systems([runs[0], other], METRICS, anyway=True)


def test_runs_tuned_on_their_eval_rows_are_refused(filled, fitted):
    store = filled()
    runs = [fitted(store, "linear", "a", tune_on="eval"), fitted(store, "knn", "b")]
    with pytest.raises(DataError, match="were tuned on the very rows"):
        compare_systems(runs, METRICS)
    table, _, _ = table_of(runs, anyway=True)
    assert "its thresholds were tuned on these rows" in table["caveats"][0]


def test_settings_are_named_only_where_they_tell_systems_apart(filled, fitted):
    store = filled()
    run = fitted(store, "linear", "a")
    other = fitted(store, "linear", "b")
    retune(other, DecisionSpec("micro"))
    systems, notes = group([run, other, fitted(store, "knn", "c")])
    assert labels(systems) == [
        "linear on e/image + e/text (decision thresholds maximise macro)",
        "linear on e/image + e/text (decision thresholds maximise micro)",
        "knn on e/image + e/text",
    ]
    assert notes == []
    tested = _RowTests([Entry("one name", system, system.eval_sets) for system in systems[::2]])
    difference = tested.test(0, 1, "micro_f1")
    assert difference.interval[0] < difference.difference < difference.interval[1]


def test_every_field_of_a_spec_tells_systems_apart():
    """Texts of long lists, rounded options and decision rules are the same for different values, too."""
    pairs = [(f"c{number}", "top") for number in range(9)]
    values = {
        "head": ["linear", "knn"],
        "features": [["a"], ["a", "b"]],
        "options": [{"C": 0.123456}, {"C": 0.123457}],
        "split": ["tail:9", "tail:8"],
        "groups": ["content", "none"],
        "decision": ["macro", DecisionSpec("macro", decide="expected-f1"), DecisionSpec()],
        "tune_on": ["inner", "eval"],
        "validation": ["auto", "tenth"],
        "scale": ["auto", "none"],
        "task": ["multi", "single"],
        "labels": ["", "mood"],
        "only_classes": [[], ["a"], ["a", "b", "c", "d"], ["a", "b", "c", "e"]],
        "hierarchy": [[], pairs, [*pairs[:8], ("c8", "other")]],
    }
    assert values.keys() == {field.name for field in fields(FitSpec)} - {"data", "seed"}
    for name, different in values.items():
        systems = [SystemRuns(FitSpec(**{name: value}), []) for value in different]
        assert len({*labels(systems)}) == len(systems)
    systems = [SystemRuns(FitSpec(task=task, features=["a"]), []) for task in ("multi", "single")]
    assert labels(systems) == [
        "mlp on a (decision sets of the greatest expected mean of micro, macro and samples F1, scores "
        "calibrated by sigmoid, task multi)",
        "mlp on a (decision the class of the highest score, task single)",
    ]


def test_runs_on_other_labels_of_one_table_are_refused_as_such(filled, fitted):
    run = fitted(filled(), "linear", "a")
    other = replace(run, spec=replace(run.spec, labels="mood"), path=run.path.with_name("b"))
    message = r"a \(the labels of the table\) and .*b \(mood\) learned different label sets: .* same --labels"
    with pytest.raises(DataError, match=message):
        compare_systems([run, other], METRICS)
    summary, _ = summarise([Evidence.of(run), Evidence.of(other)], vectors=False)
    assert re.search(message, summary["notes"][-1])


def test_of_equal_runs_the_newest_counts(filled, fitted):
    store = filled()
    runs = [fitted(store, "linear", name) for name in ("a", "b")]
    for run, created in zip(runs, ("2026-02-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"), strict=True):
        run.record = replace(run.record, created=created)
    (system,), notes = group(runs)
    assert system.runs == [runs[0]]
    assert notes == ["1 runs are left out, as newer ones have the same settings and seed"]


def test_several_data_sets_are_compared_by_ranks(filled, fitted):
    runs = []
    for number in range(3):
        store = filled(name=f"store{number}", source=f"data{number}/train.csv", seed=number, n=200)
        runs += [
            fitted(store, "linear", f"l{number}", split="tail:60"),
            fitted(store, "knn", f"k{number}", split="tail:60"),
            fitted(store, "linear", f"i{number}", split="tail:60", features=["e/image"]),
        ]
    tables = compare_systems(runs, METRICS)
    assert [Path(table["data"]).parts[-2] for table in tables["tables"]] == ["data0", "data1", "data2"]
    values = np.array([[metrics_of(run)["macro_f1"] for run in runs[3 * k : 3 * k + 3]] for k in range(3)])
    mean_ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    names = ["linear on e/image + e/text", "knn on e/image + e/text", "linear on e/image"]
    ranks = tables["ranks"]
    assert ranks["mean_ranks"] == pytest.approx(dict(zip(names, mean_ranks, strict=True)))
    assert (ranks["blocks"], ranks["of"]) == (3, "data sets")
    assert ranks["friedman_p"] == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    json.dumps(tables)


def test_systems_have_a_name_without_features_on_data_sets_that_have_their_own(filled, fitted):
    runs = []
    for number, feature in enumerate(("e/image", "e/text")):
        store = filled(name=f"store{number}", source=f"data{number}/train.csv", seed=number, n=200)
        runs += [fitted(store, head, f"{head}{number}", features=[feature]) for head in ("linear", "knn")]
    tables = compare_systems(runs, METRICS)
    assert [{row["system"] for row in table["systems"]} for table in tables["tables"]] == 2 * [
        {"linear", "knn"}
    ]
    assert tables["ranks"]["mean_ranks"].keys() == {"linear", "knn"}
    (alone,) = compare_systems(runs[:2], METRICS)["tables"]
    assert {row["system"] for row in alone["systems"]} == {"linear on e/image", "knn on e/image"}


def test_a_metric_of_errors_is_best_where_it_is_lowest(filled, fitted):
    store = filled()
    runs = [fitted(store, "linear", "a", features=["e/image"]), fitted(store, "linear", "b")]
    tables = compare_systems(runs, metrics_named(["hamming_loss"]))
    first, second = tables["tables"][0]["systems"]
    assert first["metrics"]["hamming_loss"]["best"]
    assert first["metrics"]["hamming_loss"]["mean"] < second["metrics"]["hamming_loss"]["mean"]
    with pytest.raises(UsageError, match="did you mean 'macro_f1'"):
        metrics_named(["macro_f"])


def test_folders_of_runs_are_read_and_broken_runs_counted(filled, fitted, tmp_path):
    store = filled()
    fitted(store, "linear", "a")
    fitted(store, "knn", "b")
    folder = tmp_path / "runs"
    shutil.copytree(folder / "a", folder / "c")
    (folder / "c" / "scores.h5").write_bytes(b"")
    runs, notes = find_runs([folder, folder / "a"])
    assert [run.path.name for run in runs] == ["a", "b"]
    assert notes[0].startswith(f"{folder}: 1 runs cannot be read and are left out (")
    with pytest.raises(MissingDataError):
        find_runs([tmp_path / "none"])
