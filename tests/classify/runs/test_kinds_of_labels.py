"""Runs of one label per row, of a single class, of some of the classes, and of a hierarchy of them."""

import json

import numpy as np
import pytest

from encode_once.cache import DataError, Store, Table, UsageError, content_key
from encode_once.cache.keys import pack
from encode_once.classify import fit, load_run, retune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.predict import evaluate, predict
from encode_once.classify.runs.retune import compare_rules
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
        DataError, match=r"of 40 rows 16 have none and 8 have several of .*train.csv: fit with --ta"
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
    evaluation, _ = evaluate(run, other, other.load(other.headers()[0]))
    assert "accuracy" not in evaluation.metrics
    assert evaluation.metrics["n"] == 15
