"""Runs of one label per row, of a single class, of some of the classes, and of a hierarchy of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from encode_once.cache import DataError, Store, Table, UsageError, content_key
from encode_once.cache.keys import pack
from encode_once.classify import fit, load_run, retune, sweep
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import by_level
from encode_once.classify.evaluation.tables import comparison_text, metrics_text
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.page import page
from encode_once.classify.report.summary import summarise
from encode_once.classify.runs.own_table import own_table
from encode_once.classify.runs.predict import evaluate, predict
from encode_once.classify.runs.rerun import rerun
from encode_once.classify.runs.retune import compare_rules, evaluate_kept
from encode_once.classify.spec import FitSpec

N = 240


def stored(folder, labels, source="train.csv"):
    """A store with a table of rows with these labels, and a feature that predicts them."""
    names = [*dict.fromkeys(name for row in labels for name in row)]
    Y = np.array([[name in row for name in names] for row in labels])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(labels), 8)).astype(np.float32)
    X[:, : len(names)] += 2 * Y
    ids = [f"{source}-{row}" for row in range(len(labels))]
    keys = pack(content_key(name.encode()) for name in ids)
    (folder / source).touch()
    store = Store(folder / "store")
    feature = store.declare("e/image", {"modality": "image"})
    with feature.writer(len(ids)) as writer:
        writer.append(keys, X.astype(np.float16))
    store.save(Table(str(folder / source), ids, ids, ids, labels, image_keys=keys, caption_keys=keys))
    return store


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A store whose rows have one label each, from frequent to rare."""
    names = np.random.default_rng(1).choice(["cat", "dog", "boat"], N, p=[0.5, 0.3, 0.2])
    return stored(tmp_path_factory.mktemp("single"), [(str(name),) for name in names])


HEADS = {
    "linear": {},
    "mlp": {"epochs": 10, "hidden": [8], "learning_rate": 0.02},
    "knn": {},
    "forest": {"trees": 5},
    "sklearn.naive_bayes:GaussianNB": {},
}


@pytest.mark.parametrize("head", HEADS)
def test_each_row_gets_its_likeliest_class_by_every_kind_of_head(single, head, tmp_path, fit_once):
    """By a softmax, or by independent scores that are divided by their sum."""
    run, metrics = fit(single, head, task="single", options=HEADS[head], run=tmp_path / "run")
    again = load_run(tmp_path / "run", trust=True, log=lambda line: None)
    assert again.spec.task == json.loads((tmp_path / "run/run.json").read_text())["task"] == "single"
    assert again.decision.spec == DecisionSpec(decide="argmax")
    assert metrics["accuracy"] == metrics["micro_f1"] > 0.7
    assert sum(cell["rows"] for cell in metrics["confusion"]) == metrics["n"] == 24
    table = single.load(single.headers()[0])
    scores, _ = predict(again, single, table)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(again.decision(scores), np.eye(3, dtype=bool)[scores.argmax(axis=1)])
    np.testing.assert_allclose(run.eval.scores.sum(axis=1), 1, atol=1e-5)
    assert [row["rule"] for row in compare_rules(again, metrics)] == ["its own"]


def test_a_table_of_no_or_several_labels_is_refused_with_counts(tmp_path):
    store = stored(tmp_path, [("cat",), ("dog",), ("cat", "dog"), (), ()] * 8)
    with pytest.raises(
        DataError,
        match=r"train.csv: 16 of 40 rows have no label, such as train.csv-3, and 8 of 40 rows have several "
        r"labels, such as train.csv-2: task single .*; correct these labels .*--corrections FILE.*multi$",
    ):
        fit(store, "linear", task="single", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_of_one_label_per_row_no_other_rule_applies(single, tmp_path, fit_once):
    run, _ = fit(single, "linear", task="single", run=tmp_path / "run")
    for spec in (DecisionSpec("macro"), DecisionSpec()):
        with pytest.raises(UsageError, match="task single gives each row the class of its highest score"):
            retune(run, spec)
    with pytest.raises(UsageError, match="the rule thresholds does not apply"):
        FitSpec("linear", task="single", decision="macro")
    with pytest.raises(UsageError, match=r"unknown --task 'singel': did you mean 'single'"):
        FitSpec("linear", task="singel")
    with pytest.raises(UsageError, match="choose another --head"):
        fit(single, "label-rnn", task="single", run=tmp_path / "rnn")
    with pytest.raises(UsageError, match="loss focal is for any number of labels"):
        fit(single, "mlp", loss="focal", task="single", run=tmp_path / "mlp")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"task": "single"}, "task is an option of fit: --task single"),
        ({"shapes": [[1, 8]]}, "shapes are those of the features"),
        ({"classes": ["cat"]}, "classes are those of the table: fit --classes"),
    ],
)
def test_options_of_heads_that_fit_adds_cannot_be_set(single, option, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        fit(single, FitSpec("mlp", options=option), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_task_is_part_of_the_identity(single):
    first, other = (FitSpec("linear", task=task).identity(single) for task in ("multi", "single"))
    assert first != other


def test_runs_of_any_number_of_labels_can_choose_the_likeliest_class(single, tmp_path, fit_once):
    run, _ = fit(single, "linear", run=tmp_path / "run")
    metrics, predictions = retune(run, DecisionSpec(decide="argmax"))
    np.testing.assert_array_equal(predictions.argmax(axis=1), run.eval.scores.argmax(axis=1))
    assert (predictions.sum(axis=1) == 1).all()
    assert metrics["decided"] == "the class of the highest score"


def test_a_run_is_evaluated_on_rows_of_several_labels_without_an_accuracy(single, tmp_path, fit_once):
    run, _ = fit(single, "linear", task="single", run=tmp_path / "run")
    folder = tmp_path / "other"
    folder.mkdir()
    other = stored(folder, [("cat",), ("dog", "boat"), ("cow",)] * 5, "other.csv")
    evaluation = evaluate(run, other, other.load(other.headers()[0]))
    assert "accuracy" not in evaluation.metrics
    assert evaluation.metrics["n"] == 15


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A store whose rows have any number of labels."""
    rng = np.random.default_rng(2)
    names = np.array(["cat", "dog", "boat", "car"])
    labels = [tuple(map(str, names[row])) for row in rng.random((N, 4)) < [0.4, 0.3, 0.3, 0.2]]
    return stored(tmp_path_factory.mktemp("several"), labels)


def test_classes_are_restricted_and_what_is_left_out_is_counted(several, tmp_path, fit_once):
    run, _ = fit(several, "linear", only_classes=["dog", "cat"], run=tmp_path / "run")
    table = several.load(several.headers()[0])
    assert run.record.classes == ["cat", "dog"]  # in their own order
    left_out = [name for row in table.labels for name in row if name not in ("cat", "dog")]
    empty = sum(bool(row) and not {*row} & {"cat", "dog"} for row in table.labels)
    assert run.record.warnings == [
        f"--classes leaves out 2 of 4 classes, with {len(left_out)} labels, and {empty} of {N} rows without "
        "a label: boat, car"
    ]
    assert empty
    assert len(run.eval.ids) + len(run.fitted_on) == N  # no row is left out
    assert json.loads((tmp_path / "run/run.json").read_text())["only_classes"] == ["dog", "cat"]
    assert load_run(tmp_path / "run").spec.only_classes == ("dog", "cat")
    assert own_table(run, several).table.ids == table.ids
    orders = ["cat", "dog"], ["dog", "cat"]
    order = (FitSpec(only_classes=names).identity(several) for names in orders)
    assert len({FitSpec().identity(several), *order}) == 2


def test_an_unknown_class_is_refused_and_single_labels_must_remain(several, single, tmp_path):
    with pytest.raises(UsageError, match=r"unknown class 'cats': did you mean 'cat'\?"):
        fit(several, "linear", only_classes=["cats"], run=tmp_path / "run")
    with pytest.raises(DataError, match=r"have no label.*fit with --task multi, or without --classes"):
        fit(single, "linear", task="single", only_classes=["cat", "dog"], run=tmp_path / "run")


HIERARCHY = [("cat", "pet"), ("dog", "pet"), ("pet", "thing"), ("car", "thing"), ("lion", "thing")]


@pytest.fixture(scope="module")
def below(several, tmp_path_factory):
    """A run of these classes, cross-validated, so that each fold has a rule of its own."""
    folder = tmp_path_factory.mktemp("below") / "run"
    run, _ = fit(several, "linear", hierarchy=HIERARCHY, split="kfold:3", run=folder)
    return run


def closed(labels, classes):
    """By the definition: whether each label, or one below it, is among the labels."""
    column = {name: k for k, name in enumerate(classes)}
    expected = labels.copy()
    for name in ("cat", "dog"):
        expected[:, column["pet"]] |= labels[:, column[name]]
    for name in ("cat", "dog", "pet", "car"):
        expected[:, column["thing"]] |= labels[:, column[name]]
    return expected


def test_labels_of_the_table_are_closed_upward(several, below):
    assert below.record.classes == ["boat", "car", "cat", "dog", "pet", "thing"]
    np.testing.assert_array_equal(closed(below.eval.labels, below.record.classes), below.eval.labels)
    pet, both = (below.eval.labels[:, columns] for columns in ([4], [2, 3]))
    np.testing.assert_array_equal(pet[:, 0], both.any(axis=1))
    (line,) = below.record.warnings
    assert line.startswith("1 of 6 names of the hierarchy are neither labels of ")
    assert own_table(below, several).table.labels == several.load(several.headers()[0]).labels


@pytest.mark.parametrize(
    "spec",
    [
        DecisionSpec(),
        DecisionSpec("macro"),
        DecisionSpec("micro", calibrate="isotonic", at_most=1),
        DecisionSpec("precision:0.9"),
        DecisionSpec("none"),
    ],
    ids=str,
)
def test_predictions_and_scores_are_closed_upward_by_every_rule(below, spec, tmp_path):
    run = replace(below, path=tmp_path / "run")
    _, predictions = retune(run, spec)
    evaluation = evaluate_kept(run)
    new = run.decision(np.random.default_rng(0).random((50, 6)).astype(np.float32))
    for labels in (predictions, new):
        np.testing.assert_array_equal(closed(labels, run.record.classes), labels)
    p = evaluation.probabilities
    assert (p[:, 5] >= p[:, 4]).all()
    assert (p[:, 4] >= p[:, 2:4].max(axis=1)).all()
    assert (p[:, 5] >= p[:, 1]).all()
    run.save(*retune(run, spec))
    again = load_run(run.path)
    scores = run.eval.scores
    np.testing.assert_array_equal(again.decision(scores), run.decision(scores))
    assert len(again.decision.folds) == len(run.decision.folds)
    for kept, fold in zip(again.decision.folds, run.decision.folds, strict=True):
        np.testing.assert_array_equal(kept(scores), fold(scores))


def test_the_report_does_not_start_at_thresholds_that_a_hierarchy_overrides(below, tmp_path):
    run = replace(below, path=tmp_path / "run")
    run.save(*retune(run, DecisionSpec("micro")))
    summary, _ = summarise([Evidence.of(run)], vectors=False)
    (of_run,) = summary["runs"]
    assert (of_run["about"]["hierarchy"], of_run["thresholds"]) == (True, {})
    text = page(summary, [evaluate_kept(run)], [[]])
    assert "The sliders start at 0.5. Here no label adds those above it in the hierarchy." in text
    assert "Tuned thresholds" not in text


def test_metrics_of_levels_are_those_of_their_classes(below):
    evaluation = evaluate_kept(below)
    levels = {"boat": 1, "thing": 1, "car": 2, "pet": 2, "cat": 3, "dog": 3}
    metrics = json.loads((below.path / "metrics.json").read_text())
    assert {row["label"]: row["level"] for row in metrics["per_class"]} == levels
    assert [row["level"] for row in metrics["levels"]] == [1, 2, 3]
    for row in metrics["levels"]:
        columns = [k for k, name in enumerate(below.record.classes) if levels[name] == row["level"]]
        truth, predicted = below.eval.labels[:, columns], evaluation.predictions[:, columns]
        for average in ("micro", "macro"):
            expected = f1_score(truth, predicted, average=average, zero_division=0)
            assert row[f"{average}_f1"] == pytest.approx(expected)
        expected = average_precision_score(truth, evaluation.probabilities[:, columns])
        assert row["mAP"] == pytest.approx(expected)
        assert (row["classes"], row["support"]) == (len(columns), truth.sum())
    part = evaluation.subset(np.arange(50), below.record.classes[::-1])  # other rows, in another order
    expected = by_level(
        part.rows.labels, part.predictions, part.probabilities, [levels[name] for name in part.classes]
    )
    assert part.metrics["levels"] == expected != metrics["levels"]


def test_levels_leave_out_classes_without_positives():
    labels = np.array([[True, False, True], [True, False, False]])
    (first, second) = by_level(labels, labels, labels.astype(float), [1, 2, 2])
    assert (first["macro_f1"], second["macro_f1"], second["mAP"]) == (1, 1, 1)


def test_rows_of_labels_that_only_the_hierarchy_knows_are_measured(below, tmp_path):
    other = stored(tmp_path, [("cat",), ("lion",), ("boat", "ship"), ()] * 5, "other.csv")
    evaluation = evaluate(below, other, other.load(other.headers()[0]))
    assert evaluation.rows.labels[:4].tolist() == [
        [False, False, True, False, True, True],
        [False, False, False, False, False, True],  # a lion is a thing
        [True, False, False, False, False, False],
        [False] * 6,
    ]
    assert "labels the run does not know are left out: ship" in evaluation.warnings


def test_the_hierarchy_is_kept_in_the_run(several, below):
    content = json.loads((below.path / "run.json").read_text())
    assert content["hierarchy"] == [[*pair] for pair in HIERARCHY]
    first, other = (FitSpec(hierarchy=pairs).identity(several) for pairs in (HIERARCHY, HIERARCHY[:2]))
    assert FitSpec(hierarchy=HIERARCHY[::-1]).identity(several) == first != other
    with pytest.raises(UsageError, match="task single gives each row one label, and a hierarchy"):
        FitSpec(task="single", hierarchy=HIERARCHY)
    with pytest.raises(DataError, match="is above itself"):
        FitSpec(hierarchy=[*HIERARCHY, ("thing", "cat")])
    with pytest.raises(UsageError, match="do not exclude each other"):
        retune(load_run(below.path), DecisionSpec(decide="argmax"))


def test_programs_that_know_no_hierarchy_refuse_its_decision_rule(below):
    """Their readers refuse an entry of thresholds.json that they do not know; else labels would differ."""
    assert json.loads((below.path / "thresholds.json").read_text())["hierarchy"] is True


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A store with one class, which a quarter of the rows have."""
    has = np.random.default_rng(3).random(N) < 0.25
    return stored(tmp_path_factory.mktemp("binary"), [("cat",) if is_cat else () for is_cat in has])


def test_one_class_is_tuned_compared_and_shown_by_what_applies_to_it(binary, tmp_path, fit_once):
    run, metrics = fit(binary, "linear", run=tmp_path / "run")
    assert metrics["samples_f1"] is None
    assert (tmp_path / "run/README.md").read_text().count("with one class they are left out") == 1
    lines = metrics_text(evaluate_kept(run).with_intervals())
    assert "samples_f1" not in lines
    assert "balanced_accuracy" in lines.split("95 % intervals")[1]
    samples, _ = retune(run, DecisionSpec("samples", shrink=False))
    thresholds = run.decision.thresholds
    retune(run, DecisionSpec("macro", shrink=False))
    np.testing.assert_array_equal(thresholds, run.decision.thresholds)
    assert samples["decided"] == "thresholds maximise samples, exactly, which of one class is its F1"
    other, _ = fit(binary, "knn", run=tmp_path / "other")
    summary, _ = summarise([Evidence.of(run), Evidence.of(other)], vectors=False)
    figures = summary["comparison"]["runs"][0]
    assert figures["intervals"]["samples_f1"] is None
    low, high = figures["intervals"]["balanced_accuracy"]
    assert low <= figures["balanced_accuracy"] <= high
    assert "samples_f1" not in comparison_text(summary["comparison"])


def test_runs_of_one_class_are_ranked_by_its_f1(binary, tmp_path, fit_once):
    lines = []
    rows = sweep(binary, ["knn", "linear"], folder=tmp_path, log=lines.append)
    figures = [row["micro_f1"] for row in rows]
    assert figures == sorted(figures, reverse=True)
    assert lines[0].startswith("1/2 ")
    assert f"micro_f1 {figures[0]:.3f}" in " ".join(lines)
    assert lines[-1] == "samples_f1 does not apply to the labels of some runs: these are ranked by micro_f1"


def test_runs_of_one_label_per_row_are_ranked_by_accuracy(single, tmp_path, fit_once):
    rows = sweep(single, ["knn", "linear"], task="single", folder=tmp_path / "runs", by="balanced_accuracy")
    run = load_run(rows[0]["run"])
    truth, predicted = run.eval.labels.argmax(axis=1), evaluate_kept(run).predictions.argmax(axis=1)
    figures = [row["balanced_accuracy"] for row in rows]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] == pytest.approx(balanced_accuracy_score(truth, predicted))
    low, high = rows[0]["balanced_accuracy_interval"]
    assert low < figures[0] < high
    assert "balanced_accuracy" in (tmp_path / "runs" / "leaderboard.md").read_text()
    result = rerun(run, tmp_path / "again")
    assert result["equal"]
    assert result["metrics"]["balanced_accuracy"] == {
        "then": figures[0],
        "now": figures[0],
        "difference": 0.0,
    }


def test_an_experiment_takes_the_task_the_classes_and_the_hierarchy(single, several, tmp_path, fit_once):
    (row,) = sweep(single, ["linear"], task="single", folder=tmp_path / "single")
    assert load_run(row["run"]).spec.task == "single"
    path = tmp_path / "h.csv"
    path.write_text("child,parent\ncat,pet\n")
    for hierarchy in (str(path), [["cat", "pet"]]):
        fields = {"only_classes": ["pet", "car"], "hierarchy": hierarchy}
        (row,) = sweep(several, ["linear"], **fields, folder=tmp_path / "several")
        run = load_run(row["run"])
        assert (run.record.classes, run.spec.hierarchy) == (["car", "pet"], (("cat", "pet"),))
