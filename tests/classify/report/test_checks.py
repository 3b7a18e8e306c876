"""Each check fires for the fault it is named after, and for nothing else in a run without faults."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Store, Table, UsageError, content_key
from encode_once.cache.keys import NO_KEY, pack
from encode_once.classify import fit
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.report.checks import CHECKS, CODES, Evidence, fired, line
from encode_once.classify.runs.record import FittedFeature
from tests.classify.report.samples import make_run, scored
from tests.doc_pages import ROOT

pytestmark = pytest.mark.usefixtures("fit_once")
NO_KEY_BYTES = np.frombuffer(NO_KEY, np.uint8)


def codes(run, store="no store", **options):
    results, skipped = fired(Evidence(run, Store(store, read_only=True)), **options)
    assert skipped == []
    return {check["code"]: check["detected"] for check in results}


def part(rows, selection):
    return replace(
        rows,
        ids=[rows.ids[row] for row in selection],
        scores=rows.scores[selection],
        labels=rows.labels[selection],
        keys=rows.keys[selection],
    )


def test_nothing_fires_for_a_run_without_faults():
    assert codes(make_run()) == {}
    assert codes(make_run(decision=DecisionSpec("micro"))) == {}


def test_codes_are_unique_and_every_check_says_why_and_what_to_do():
    assert [f"EO{number:03}" for number in range(1, len(CHECKS) + 1)] == CODES
    assert all(check.why and check.remedy for check in CHECKS)


def test_001_eval_rows_of_the_same_content_as_fitted_rows():
    validation, evaluated = scored(0), scored(1)
    evaluated.keys[:7] = validation.keys[:7]
    assert codes(make_run(validation, evaluated)) == {
        "EO001": "7 of 400 eval rows have the same content as rows it was fitted on"
    }


def test_001_equal_rows_in_different_folds():
    rows = scored(1)
    rows = replace(rows, folds=np.arange(400) % 2)
    rows.keys[1] = rows.keys[0]  # in folds 0 and 1
    rows.keys[4] = rows.keys[2]  # both in fold 0
    assert codes(make_run(rows, rows))["EO001"].startswith("2 of 400 eval rows")


def test_001_rows_without_content_are_not_the_same_row():
    validation, evaluated = scored(0), scored(1)
    validation.keys[:3] = evaluated.keys[:3] = NO_KEY_BYTES
    assert codes(make_run(validation, evaluated)) == {}
    rows = replace(evaluated, folds=np.arange(400) % 2)
    assert "EO001" not in codes(make_run(rows, rows))


def test_002_classes_with_few_positives_to_tune_on():
    validation = scored(0)
    positives = np.flatnonzero(validation.labels[:, 1])
    validation.labels[positives[24:], 1] = False
    validation.scores[positives[24:], 1] *= 0.1  # else the scores would be no probabilities
    detected = codes(make_run(validation))["EO002"]
    assert detected.startswith("1 of 3 classes has fewer than 25 positives among the 400 rows")
    assert detected.endswith(": b")
    assert "(a tenth of the train rows; --validation folds: all)" not in detected
    tenth = codes(make_run(validation, validation="tenth"))["EO002"]
    assert "400 rows that the decision rule is tuned on (a tenth of the train rows" in tenth
    validation.labels[positives[24], 1] = True
    assert "EO002" not in codes(make_run(validation))


def test_002_does_not_matter_to_a_rule_that_is_not_tuned():
    few = part(scored(0), np.arange(20))
    assert "EO002" in codes(make_run(few))
    assert "EO002" not in codes(make_run(few, decision=DecisionSpec("at:0.5")))


def test_003_a_threshold_outside_its_interval():
    run = make_run(decision=DecisionSpec("macro"))
    ends = np.array([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]])
    run.decision = DecisionRule(run.decision.spec, ThresholdEstimate(np.array([0.15, 0.3, 0.2]), ends))
    assert codes(run)["EO003"] == "1 of 3 classes has a threshold outside of its own 95 % interval: b"


def test_004_scores_at_chance_level():
    evaluated = scored(1)
    evaluated.scores[:, 2] = np.where(evaluated.labels[:, 2], 0.2, 0.9)
    detected = codes(make_run(evaluated=evaluated))["EO004"]
    assert detected.startswith("1 of 3 classes has scores that rank eval rows no better than chance")
    assert detected.endswith(": c")


def test_004_is_not_claimed_of_very_few_positives():
    evaluated = scored(1)
    evaluated.labels[:, 2] = np.arange(400) < 4
    evaluated.scores[:, 2] = np.arange(400) / 400
    assert "EO004" not in codes(make_run(evaluated=evaluated))


def test_013_classes_with_few_positives_among_the_eval_rows():
    evaluated = scored(1)
    evaluated.labels[np.flatnonzero(evaluated.labels[:, 0])[4:], 0] = False
    assert codes(make_run(evaluated=evaluated))["EO013"] == (
        "1 of 3 classes has fewer than 5 positives among the 400 eval rows: a"
    )


def remedies(run):
    return {check["code"]: check["remedy"] for check in fired(Evidence.of(run), vectors=False)[0]}


def test_no_remedy_is_one_that_the_run_has_already_or_cannot_take():
    evaluated = scored(1)
    evaluated.scores[:, 0] *= 0.01
    evaluated.scores[:, 1] **= 4
    evaluated.labels[np.flatnonzero(evaluated.labels[:, 0])[4:], 0] = False
    few = part(scored(0), np.arange(20))

    plain = remedies(make_run(evaluated=evaluated, decision=DecisionSpec("micro")))
    assert "tune with --calibrate sigmoid" in plain["EO006"]
    assert "tune --objective macro" in plain["EO011"]
    assert "--split kfold:5" in plain["EO013"]

    macro = DecisionSpec("macro", calibrate="sigmoid")
    run = make_run(few, evaluated, decision=macro, split="split", validation="tenth")  # a column of the data
    done = remedies(run)
    assert done["EO006"].endswith("with thousands of rows, tune with --calibrate isotonic")
    assert done["EO011"] == done["EO013"] == "label more rows of these classes"
    assert "--validation" not in codes(run)["EO002"]


def test_005_a_rule_that_fits_its_own_rows_better():
    validation, evaluated = scored(0), scored(1)
    rng = np.random.default_rng(5)
    evaluated.scores[:] = rng.permutation(evaluated.scores)  # it has learned nothing about these rows
    assert "EO005" in codes(make_run(validation, evaluated))
    assert "EO005" not in codes(make_run(evaluated, validation))  # better on new rows


def test_006_scores_that_are_no_probabilities():
    evaluated = scored(1)
    evaluated.scores[:, 1] **= 4
    run = make_run(evaluated=evaluated, decision=DecisionSpec("micro"))
    assert codes(run)["EO006"].endswith(": b")


def test_007_missing_vectors():
    missing = np.zeros((400, 2), bool)
    missing[:3, 1] = True
    run = make_run(evaluated=replace(scored(1), missing=missing))
    run.record = replace(run.record, features={"e/image": None, "e/text": None})
    detected = codes(run, vectors=False)
    assert detected == {"EO007": "of 400 eval rows, vectors are missing: 3 of e/text"}


def test_008_a_recipe_whose_network_has_seen_the_rows():
    run = make_run(path="runs/recipes/ours-contaminated")
    run.spec = replace(run.spec, head="stack")
    contaminated = codes(run).get("EO008", "")
    assert "ours-contaminated" in contaminated
    run.path = Path("runs/recipes/ours-contaminated@kfold-5")
    assert "EO008" in codes(run)
    run.path = Path("runs/recipes/ours")
    assert "EO008" not in codes(run)
    run.path = Path("runs/ours-contaminated")
    run.record = replace(run.record, features={"tfidf:7": None})  # another run of that name
    assert "EO008" not in codes(run, vectors=False)


def test_009_a_rule_that_was_tuned_on_the_eval_rows():
    assert codes(make_run(tune_on="eval")) == {
        "EO009": "the decision rule was tuned on the 400 eval rows themselves"
    }
    assert codes(make_run(tune_on="eval", decision=DecisionSpec("at:0.5"))) == {}


def test_010_other_features_of_the_same_name(tmp_path):
    store = Store(tmp_path / "store")
    store.declare("e/image", {"modality": "image", "weights": "new"})
    run = make_run()
    fitted = FittedFeature("key", {"modality": "image", "weights": "old"}, 4)
    run.record = replace(run.record, features={"e/image": fitted})
    assert "e/image" in codes(run, tmp_path / "store")["EO010"]


def test_011_a_class_that_is_never_predicted():
    evaluated = scored(1)
    evaluated.scores[:, 0] *= 0.01
    run = make_run(evaluated=evaluated, decision=DecisionSpec("at:0.5"))
    assert codes(run)["EO011"] == "1 of 3 classes has eval rows but no prediction: a"


@pytest.mark.parametrize(("noise", "fires"), [(1.0, True), (0.0, False)])
def test_012_a_feature_without_which_nothing_is_left(tmp_path, noise, fires):
    rng = np.random.default_rng(0)
    n = 300
    Y = rng.random((n, 2)) < 0.5
    X = rng.normal(size=(n, 4)).astype(np.float32)
    X[:, :2] += 6 * Y
    other = (noise * rng.normal(size=(n, 4)) + (1 - noise) * X).astype(np.float32)
    store = Store(tmp_path / "store")
    keys = pack(content_key(f"{row}".encode()) for row in range(n))
    for name, modality, vectors in (("e/image", "image", X), ("e/text", "caption", other)):
        with store.declare(name, {"modality": modality}).writer(n) as writer:
            writer.append(keys, vectors.astype(np.float16))
    source = tmp_path / "train.csv"
    source.touch()
    labels = [tuple(name for name, has in zip("ab", row, strict=True) if has) for row in Y]
    ids = [str(row) for row in range(n)]
    store.save(Table(str(source), ids, ids, ids, labels, image_keys=keys, caption_keys=keys))
    run, _ = fit(store, "linear", run=tmp_path / "run", split="tail:100", validation="tenth")
    detected = codes(run, tmp_path / "store")
    assert ("EO012" in detected) is fires
    assert not fires or detected["EO012"].startswith("e/image alone reaches 98%")
    assert "EO012" not in codes(run, tmp_path / "store", vectors=False)
    folds, _ = fit(store, "linear", run=tmp_path / "folds", split="kfold:2")
    assert "EO012" not in codes(folds, tmp_path / "store")  # its model was fitted on the eval rows


def test_a_check_that_cannot_be_made_is_reported():
    run = make_run()
    run.record = replace(run.record, features={"tfidf:10": None, "word2vec:10": None})
    results, skipped = fired(Evidence(run, Store("no store", read_only=True)))
    assert results == []
    assert len(skipped) == 1
    assert skipped[0].startswith("EO012 (one feature carries everything) was not checked: ")


def test_014_rows_of_one_label_each_in_a_run_for_any_number():
    tuning, evaluated = (
        replace(scored(seed), labels=np.eye(3, dtype=bool)[np.arange(400) % 3]) for seed in (0, 1)
    )
    detected = "every validation and eval row has exactly one label"
    assert codes(make_run(tuning, evaluated))["EO014"] == detected
    single = make_run(tuning, evaluated, decision=DecisionSpec(decide="argmax"), task="single")
    assert "EO014" not in codes(single)
    partial = np.tile(np.array([1, 1, -1], np.int8), (400, 1))  # whose sum is 1, too
    assert "EO014" not in codes(make_run(tuning, replace(evaluated, labels=partial)))
    evaluated.labels[0] = False
    assert "EO014" not in codes(make_run(tuning, evaluated))


def test_checks_can_be_left_out_and_unknown_codes_are_refused():
    run = make_run(tune_on="eval")
    assert codes(run, ignore=["EO009"]) == {}
    with pytest.raises(UsageError, match=r"unknown check 'EO90': did you mean 'EO0"):
        codes(run, ignore=["EO90"])


def test_a_line_names_the_code_the_fault_and_the_remedy():
    results, _ = fired(Evidence(make_run(tune_on="eval"), Store("no store", read_only=True)))
    assert line(results[0]) == (
        "EO009: the decision rule was tuned on the 400 eval rows themselves; fit without --tune-on eval "
        "(--ignore EO009)"
    )


def test_the_page_of_the_documents_has_every_check():
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (EO\d+) \| ([^|]+) \|", text, re.MULTILINE)
    assert rows == [(check.code, check.title) for check in CHECKS]
