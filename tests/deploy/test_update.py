"""`update`: what is new is fitted, compared on rows that neither version has seen, and promoted or not."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from encode_once.cache.aliases import read_aliases, resolved
from encode_once.cache.format.locks import locked
from encode_once.classify import load_run
from encode_once.classify.evaluation.intervals import ALL, RANKING
from encode_once.classify.evaluation.metrics import OF_ONE_LABEL, SUMMARY
from encode_once.classify.runs.predict import evaluate
from encode_once.deploy import Predictor
from encode_once.deploy.service_versions import promote, versions
from encode_once.deploy.update import LOCK, spec_again
from encode_once.deploy.update_command import METRICS

HEADER = ["ImageID", "Labels", "Caption", "part"]
NAMES = ["dog", "cat", "car"]
CHAMPION = "runs/svc@champion"
pytestmark = pytest.mark.usefixtures("fit_once")


def row(number, labels=None, part=None):
    """A row whose caption names its labels, among words that nothing follows from."""
    names = labels or [NAMES[number % 3], *([NAMES[number // 3 % 3]] if number % 2 else [])]
    caption = f"a {' and a '.join(dict.fromkeys(names))} w{number % 7} x{number % 11} number{number}"
    return [str(number), " ".join(sorted(set(names))), caption, part or ("test" if number % 4 else "train")]


def write(rows, path="input/train.csv"):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])


@pytest.fixture
def svc(run, tmp_path):
    """A function that puts a run on 60 rows into service; options: of `fit`."""

    def fit(*options, split="stratified:0.3", features="tfidf:60", head="linear"):
        (tmp_path / "input").mkdir(exist_ok=True)
        write([row(number) for number in range(60)])
        words = ["--features", features, "--split", split, "--data", "input", *options]
        run("fit", "--head", head, "--run", "runs/svc/first", *words)
        run("promote", "runs/svc/first")

    return fit


def named():
    return resolved(CHAMPION).name


def test_new_rows_give_a_version_that_is_compared_on_rows_neither_has_seen(svc, run):
    svc()
    assert "--table: for --data" in run("update", "runs/svc", "--table", "test", status=2).stderr
    assert "fitted on the same rows" in run("update", "runs/svc", status=5).stderr
    rows = [row(number) for number in range(90)]
    rows[3][1], rows[65][1] = "car", "dog"  # a label of an old row is corrected, one of a new row is wrong
    write(rows)
    result = run("update", CHAMPION, "--json")
    content = json.loads(result.stdout)
    assert (content["status"], content["before"], content["rows"], content["new_rows"]) == (
        "promoted",
        "first",
        90,
        30,
    )
    assert content["now"] == content["version"] == named()
    assert named() in result.stderr

    old, new = load_run("runs/svc/first"), load_run(CHAMPION)
    fitted = {key.tobytes() for key in old.fitted_on}
    ids = [name for name, key in zip(new.eval.ids, new.eval.keys, strict=True) if key.tobytes() not in fitted]
    assert content["comparison"]["n"] == len(ids)
    assert {*ids} & {*old.eval.ids}
    assert {*ids} & {str(number) for number in range(60, 90)}
    truth = {cells[0]: cells[1].split() for cells in rows}
    f1 = [oracle_f1(run, path, ids, truth) for path in ("runs/svc/first", CHAMPION)]
    change = content["comparison"]["differences"][0]["metrics"]["micro_f1"]
    assert change["difference"] == pytest.approx(f1[1] - f1[0])
    assert run("update", CHAMPION, status=5).stdout == "nothing new\n"
    assert Predictor(CHAMPION).run.path == new.path


def oracle_f1(run, path, ids, truth):
    """Micro F1 of a run's predictions for the rows of these ids, as scikit-learn computes it."""
    run("predict", path, "--data", "input", "--table", "train", "-o", "predictions.csv")
    with open("predictions.csv") as file:
        predicted = {cells["ImageID"]: cells["Labels"].split() for cells in csv.DictReader(file)}
    binary = MultiLabelBinarizer(classes=sorted(NAMES))
    labels, predictions = (binary.fit_transform([side[name] for name in ids]) for side in (truth, predicted))
    return f1_score(labels, predictions, average="micro")


def test_every_metric_of_a_summary_that_can_be_compared_can_be_chosen():
    assert tuple(name for name in (*SUMMARY, *OF_ONE_LABEL) if name in ALL) == METRICS
    assert {*METRICS} > {*RANKING}


def test_a_worse_version_is_kept_aside_and_is_not_fitted_again(svc, run, monkeypatch):
    svc(split="part")
    write([row(number) for number in range(60) if number % 4 or number in (0, 4, 8, 12, 16, 20, 24)])
    words = ["update", CHAMPION, "--metric", "mAP"]
    assert "kept: mAP -" in run(*words, status=4).stderr
    assert named() == "first"
    assert len(versions(resolved(CHAMPION).parent)) == 1
    monkeypatch.setattr("encode_once.deploy.update.fit", None)  # is not called again
    assert "has not promoted it" in run(*words, status=4).stderr
    run("tune", CHAMPION, "--objective", "micro", "--at-least", "1")
    assert "tuned as" in run(*words, "--tolerance", "1").stderr
    assert named() != "first"
    new = load_run(CHAMPION)
    assert (new.decision.spec.objective, new.decision.spec.at_least) == ("micro", 1)


def test_a_version_that_an_alias_names_keeps_its_rule(svc, run, monkeypatch):
    svc(split="part")
    write([row(number) for number in range(60) if number % 4 or number in (0, 4, 8, 12, 16, 20, 24)])
    run("update", CHAMPION, "--metric", "mAP", status=4)
    (version,) = versions(resolved(CHAMPION).parent)
    promote(version, "candidate")
    run("tune", CHAMPION, "--objective", "micro")
    run("update", CHAMPION, "--metric", "mAP", status=4)
    assert load_run(version).decision.spec.objective != "micro"
    assert len(versions(version.parent)) == 2


def test_validation_rows_are_chosen_again_as_the_table_grows(svc, run, monkeypatch):
    monkeypatch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 50)
    svc()
    first = load_run(CHAMPION)
    assert (first.spec.validation, first.record.asked_validation) == ("folds", "auto")
    write([row(number) for number in range(90)])
    grown = run("update", CHAMPION, "--tolerance", "1").stderr
    assert load_run(CHAMPION).spec.validation == "tenth"
    assert "code has changed" not in grown


def test_rows_that_are_fitted_again_by_another_program_are_explained(svc, run, monkeypatch):
    svc()
    monkeypatch.setattr("encode_once.classify.spec.code_key", lambda: "0" * 32)
    monkeypatch.setattr("encode_once.classify.runs.fit.code_key", lambda: "0" * 32)
    lines = run("update", CHAMPION, "--tolerance", "1").stderr
    assert "60 rows, 0 of them new to first" in lines
    assert "the program's code has changed since runs/svc/first was fitted" in lines


def test_changed_defaults_and_what_an_old_run_does_not_record_are_reported(svc):
    svc()
    run = load_run(CHAMPION)
    defaults = run.record.defaults | {"solver": "old"}
    run.record = replace(run.record, asked_validation="", defaults=defaults)
    spec, warnings = spec_again(run, trust=False, anyway=False)
    assert spec.validation == "auto"
    assert "does not record whether --validation tenth was asked for" in warnings[0]
    assert warnings[1] == "the default of option solver was old and is –, which the new version has"


def test_a_version_that_rollback_left_is_not_promoted_again(svc, run):
    svc()
    write([row(number) for number in range(70)])
    run("update", CHAMPION)
    version = named()
    run("rollback", CHAMPION)
    assert "rollback left" in run("update", CHAMPION, status=4).stderr
    assert named() == "first"
    write([row(number) for number in range(80)])
    run("update", CHAMPION, "--keep", "1")
    assert named() not in ("first", version)
    assert [entry.run for entry in read_aliases(resolved(CHAMPION).parent).aliases["champion"]] == [
        "first",
        named(),
    ]
    assert [path.name for path in versions(resolved(CHAMPION).parent)] == [named()]


def test_new_labels_are_not_compared_and_lost_ones_keep_the_old_version(svc, run):
    svc()
    rows = [row(number) for number in range(60)]
    write([*rows, *(row(number, ["bird"]) for number in range(60, 70))])
    result = run("update", CHAMPION)
    assert "new labels, which are not compared: bird" in result.stderr
    assert load_run(CHAMPION).record.classes == ["bird", *sorted(NAMES)]
    write([*rows, row(60)])
    assert "no row has the labels bird any more" in run("update", CHAMPION, status=4).stderr


def test_a_run_of_some_classes_is_kept_if_one_of_them_is_lost(svc, run):
    """`fit` would refuse the name."""
    svc("--classes", "dog,cat")
    write([line for line in map(row, range(60)) if "cat" not in line[1]])
    assert "no row has the labels cat any more" in run("update", CHAMPION, status=4).stderr
    assert versions(resolved(CHAMPION).parent) == []


def test_after_cross_validation_new_rows_are_compared_out_of_fold(svc, run):
    svc(split="kfold:3")
    rows = [row(number) for number in range(60)]
    rows[5][1] = "car"
    write(rows)
    assert "no eval rows that neither" in run("update", CHAMPION, status=4).stderr
    write([*rows, *map(row, range(60, 80))])
    content = json.loads(run("update", CHAMPION, "--json", "--tolerance", "1").stdout)
    assert content["comparison"]["n"] == 20
    new = load_run(CHAMPION)
    assert content["comparison"]["runs"][1]["run"] == str(new.path)
    assert np.unique(new.eval.folds).tolist() == [0, 1, 2]


def test_versions_tuned_on_the_compared_rows_are_compared_only_on_request(svc, run):
    svc("--tune-on", "eval")
    write([row(number) for number in range(80)])
    assert "tuned on the eval rows" in run("update", CHAMPION, status=1).stderr
    assert versions(resolved(CHAMPION).parent) == []  # refused before anything is fitted
    assert named() == "first"
    assert "which flatters it" in run("update", CHAMPION, "--anyway", "--tolerance", "1").stdout
    assert named() != "first"


def test_the_current_rule_is_the_rule_of_the_new_version(svc, run, tmp_path):
    svc()
    run("tune", CHAMPION, "--objective", "micro", "--at-least", "1")
    write([row(number) for number in range(70)])
    run("update", CHAMPION, "--tolerance", "1")
    spec = load_run(CHAMPION).decision.spec
    assert (spec.objective, spec.at_least) == ("micro", 1)
    (tmp_path / "by-hand.json").write_text(json.dumps({"thresholds": dict.fromkeys(NAMES, 0.3)}))
    run("tune", CHAMPION, "--from", "by-hand.json")
    write([row(number) for number in range(80)])
    assert "were chosen by hand" in run("update", CHAMPION, "--tolerance", "1").stderr


def test_what_a_killed_update_left_is_removed_or_used(svc, run, monkeypatch):
    svc()
    write([row(number) for number in range(70)])
    with monkeypatch.context() as patch:
        patch.setattr("encode_once.deploy.update.evaluate", lambda *args: 1 / 0)
        assert isinstance(run("update", CHAMPION, status=1).exception, ZeroDivisionError)
    (version,) = versions(resolved(CHAMPION).parent)
    remains = version.with_name("2026-01-01T00-00-00Z")
    remains.mkdir()
    (remains / "run.json.new").write_text("{")
    assert named() == "first"
    run("update", CHAMPION)
    assert named() == version.name
    assert not remains.exists()


def test_a_run_that_was_promoted_meanwhile_stays(svc, run, monkeypatch):
    svc()
    run("fit", "--head", "linear", "--features", "tfidf:9", "--data", "input", "--run", "runs/svc/by-hand")
    write([row(number) for number in range(70)])

    def evaluate_and_promote(*args):
        promote(resolved(CHAMPION).with_name("by-hand"))
        return evaluate(*args)

    monkeypatch.setattr("encode_once.deploy.update.evaluate", evaluate_and_promote)
    assert "is now by-hand, not first" in run("update", CHAMPION, "--tolerance", "1", status=1).stderr
    assert named() == "by-hand"


def test_an_update_beside_another_one_is_refused(svc, run):
    svc()
    write([row(number) for number in range(70)])
    folder = resolved(CHAMPION).parent
    with locked(folder / LOCK, "it"):
        assert f"another update of {folder} is running" in run("update", folder, status=1).stderr
    run("update", folder)


def test_a_head_that_takes_trust_is_fitted_again_with_trust_only(svc, run):
    svc("--set", "max_depth=3", head="sklearn.tree:DecisionTreeClassifier")
    write([row(number) for number in range(70)])
    assert "pass --trust" in run("update", CHAMPION, status=1).stderr
    assert versions(resolved(CHAMPION).parent) == []
    run("update", CHAMPION, "--trust", "--tolerance", "1")
    new = load_run(CHAMPION)
    assert (new.spec.head, new.spec.options["max_depth"]) == ("sklearn.tree:DecisionTreeClassifier", 3)


def test_an_update_without_its_data_or_store_is_refused_in_one_line(svc, run, tmp_path):
    svc()
    (tmp_path / "store").rename(tmp_path / "moved")
    assert "--store DIR names it" in run("update", CHAMPION, status=1).stderr
    (tmp_path / "input").rename(tmp_path / "other")
    assert "--data names it" in run("update", CHAMPION, "--store", "moved", status=1).stderr
    write([row(number) for number in range(70)], "other/train.csv")
    run("update", CHAMPION, "--store", "moved", "--data", "other")
    assert load_run(CHAMPION).record.table == str(tmp_path / "other" / "train.csv")
    assert "first promote" in run("update", "runs/svc/first", status=2).stderr
