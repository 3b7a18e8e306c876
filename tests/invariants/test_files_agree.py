"""Labels and metrics follow from scores.h5 and thresholds.json: recomputed without the product's code."""

import csv
import json
from itertools import pairwise, product

import h5py
import numpy as np
import pytest
import yaml
from scipy.special import expit, logit
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    precision_score,
    recall_score,
)
from xxhash import xxh3_64_hexdigest

from encode_once.classify import fit, load_run, retune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.model_card import model_card

RULES = [
    DecisionSpec("macro"),
    DecisionSpec("macro", shrink=False),
    DecisionSpec("micro"),
    DecisionSpec("samples", shrink=False),
    DecisionSpec("global-micro"),
    DecisionSpec("precision:0.8"),
    DecisionSpec("recall:0.7"),
    DecisionSpec("none"),
    DecisionSpec("at:0.4", at_least=1),
    DecisionSpec("macro", at_least=2),
    DecisionSpec("macro", at_most=1),
    DecisionSpec("micro", calibrate="sigmoid", at_least=1, at_most=2),
    DecisionSpec("macro", calibrate="isotonic"),
    DecisionSpec("none", calibrate="temperature"),
    DecisionSpec(),
    DecisionSpec(at_most=2),
    DecisionSpec(at_least=1),
    DecisionSpec(at_least=2, at_most=3),
    DecisionSpec(decide="expected-f1"),
    DecisionSpec(decide="expected-f1", calibrate="isotonic", at_most=2),
    DecisionSpec(decide="expected-f1", calibrate="none", at_least=2),
]


def probabilities_of(rule, scores, classes):
    """Scores (n, c) calibrated as a rule of thresholds.json says."""
    if rule["calibration"] is None:
        return scores
    z = logit(np.clip(scores.astype(float), 1e-6, 1 - 1e-6))
    columns = []
    for c, name in enumerate(classes):
        curve = rule["calibration"][name]
        if rule["calibrated_by"] == "isotonic":
            columns.append(np.interp(z[:, c], *curve))
        else:
            columns.append(expit(curve[0] + curve[1] * z[:, c]))
    return np.stack(columns, axis=1)


def expected_f1(p, chosen):
    """The expected F1 of a set of independent labels: the mean over all 2^c truths."""
    total = 0.0
    for truth in product([0, 1], repeat=len(p)):
        chance = np.prod(np.where(truth, p, 1 - p))
        total += chance * (2 * np.dot(truth, chosen) / size if (size := sum(truth) + sum(chosen)) else 1)
    return total


def labels_of(rule, p, classes):
    """The labels (n, c) that a rule of thresholds.json gives rows of probabilities p (n, c)."""
    n, c = p.shape
    precedence = np.array(
        [classes.index(name) for name in rule["precedence"]]
    )  # decides between equal labels
    p, classes = p[:, precedence], [classes[k] for k in precedence]
    most = c if rule["at_most"] is None else rule["at_most"]
    if rule["decide"] in ("expected-mean", "expected-f1"):
        chosen = np.zeros((n, c), bool)
        least = max(min(rule["sizes"][0], 1), rule["at_least"])
        most = max(least, min(most, rule["sizes"][1]))
    if rule["decide"] == "expected-mean":
        slopes, offsets = np.array([rule["gains"][name] for name in classes]).T
        sets = [np.array(chosen_set) for chosen_set in product([0, 1], repeat=c)]
        sets = [s for s in sets if least <= s.sum() <= most]
        for row in range(n):
            q = p[row].astype(float)
            values = [expected_f1(q, s) + s @ (slopes * q - offsets) for s in sets]
            chosen[row] = sets[int(np.argmax(values))]
    elif rule["decide"] == "expected-f1":
        for row in range(n):
            order = np.argsort(-p[row].astype(float), kind="stable")
            sets = [np.isin(np.arange(c), order[:k]) for k in range(least, most + 1)]
            values = [expected_f1(p[row].astype(float), chosen_set) for chosen_set in sets]
            chosen[row] = sets[np.flatnonzero(values >= max(values) - 1e-12)[0]]
    else:
        thresholds = np.array([rule["thresholds"][name] for name in classes])
        chosen = p >= thresholds
        margins = logit(np.clip(p.astype(float), 1e-12, 1 - 1e-12))
        margins = margins - logit(np.clip(thresholds, 1e-12, 1 - 1e-12))
        for row in range(n):
            size = min(max(chosen[row].sum(), rule["at_least"]), most)
            order = sorted(range(c), key=lambda k: (not chosen[row, k], -margins[row, k]))
            chosen[row] = np.isin(np.arange(c), order[:size])
    return chosen[:, np.argsort(precedence)]


def texts(group):
    content, offsets = group["bytes"][()].tobytes(), group["offsets"][()].tolist()
    return [content[start:end].decode() for start, end in pairwise(offsets)]


def check(path):
    """Assert that predictions.csv and metrics.json follow from scores.h5 and thresholds.json."""
    rule = json.loads((path / "thresholds.json").read_text())
    metrics = json.loads((path / "metrics.json").read_text())
    with h5py.File(path / "scores.h5") as file:
        classes, ids = texts(file["classes"]), texts(file["eval/ids"])
        group = {name: array[()] for name, array in file["eval"].items() if name != "ids"}
    scores, truth = group["scores"], group["labels"]
    p, chosen = np.empty(scores.shape), np.zeros(scores.shape, bool)
    if rule["folds"]:
        rules, fold_of = rule["folds"], group["folds"]
        assert sorted(set(fold_of)) == [*range(len(rules))]
    else:
        rules, fold_of = [rule], np.zeros(len(scores), int)
    for number, fold_rule in enumerate(rules):
        rows = fold_of == number
        p[rows] = probabilities_of(fold_rule, scores[rows], classes)
        chosen[rows] = labels_of(fold_rule, p[rows], classes)

    with (path / "predictions.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert [row[0] for row in rows] == ids
    assert [row[1].split() for row in rows] == [np.array(classes)[row].tolist() for row in chosen]

    assert metrics["n"] == len(truth)
    for average in ("micro", "macro", "weighted", "samples"):
        expected = f1_score(truth, chosen, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    assert metrics["mAP"] == pytest.approx(average_precision_score(truth, p, average="macro"))
    assert metrics["subset_accuracy"] == pytest.approx(accuracy_score(truth, chosen))
    assert metrics["hamming_loss"] == pytest.approx(hamming_loss(truth, chosen))
    assert [row["label"] for row in metrics["per_class"]] == classes
    for c, row in enumerate(metrics["per_class"]):
        for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert row[name] == pytest.approx(score(truth[:, c], chosen[:, c], zero_division=0))
        # A threshold stands next to its own F1, or none does.
        one_rule = rule["decide"] == "thresholds" and not rule["folds"]
        assert row["threshold"] == (rule["thresholds"][classes[c]] if one_rule else None)
        assert row["interval"] == (rule["intervals"][classes[c]] if one_rule else None)
    if (path / "README.md").exists():
        check_card(path, metrics)
    return rule


def check_card(path, metrics):
    """Assert that the model card is of these metrics, and that its checksum is its own."""
    content = (path / "README.md").read_bytes()
    assert json.loads((path / "checksums.json").read_text())["README.md"] == xxh3_64_hexdigest(content)
    (result,) = yaml.safe_load(content.decode().split("---\n")[1])["model-index"][0]["results"]
    figures = {row["name"]: row["value"] for row in result["metrics"]}
    for average in ("micro", "macro", "samples"):
        assert figures[f"{average} F1"] == pytest.approx(metrics[f"{average}_f1"], abs=1e-4)


@pytest.mark.parametrize("tune_on", ["inner", "eval"])
@pytest.mark.parametrize("split", ["part", "stratified:0.25", "random:0.3", "tail:50", "kfold:3"])
def test_labels_and_metrics_follow_from_scores_and_thresholds(data, tmp_path, split, tune_on):
    path = tmp_path / "run"
    fit(data.save(tmp_path), "linear", split=split, tune_on=tune_on, run=path, options={"Cs": [0.1]})
    assert bool(check(path)["folds"]) == (split == "kfold:3" and tune_on == "inner")
    rules = RULES if tune_on == "inner" else RULES[::3]
    for decision in rules if split in ("part", "kfold:3") else RULES[:1]:
        run = load_run(path)
        run.save_decision(*retune(run, decision))
        rule = check(path)
        cross_validated = split == "kfold:3" and tune_on == "inner" and decision.learns
        assert len(rule["folds"]) == (3 if cross_validated else 0)


@pytest.mark.parametrize("decision", RULES[::4], ids=str)
def test_the_files_that_fit_writes_agree_as_those_of_tune_do(data, tmp_path, decision):
    for split in ("part", "kfold:4"):
        path = tmp_path / split.partition(":")[0]
        fit(data.save(tmp_path), "linear", split=split, decision=decision, run=path, options={"Cs": [0.1]})
        check(path)
        assert (path / "README.md").exists()
        before = (path / "thresholds.json").read_bytes()
        run = load_run(path)
        run.save_decision(*retune(run, decision), model_card(run))
        assert (path / "thresholds.json").read_bytes() == before
        check(path)
