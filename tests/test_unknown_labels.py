"""Unknown labels from a table to metrics, a new decision rule, a report and an evaluation of other rows."""

import csv
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.cache import Store
from encode_once.classify import fit
from encode_once.classify.evaluation.compare import write_differences
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.retune import evaluate_kept
from tests.conftest import vectors_file

pytestmark = pytest.mark.usefixtures("fit_once")
NAMES = ["dog", "cat", "bird"]


def write_table(path, rows, seed, unknown=0.3):
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *NAMES, "caption"])
        for row in range(rows):
            truth = rng.random(3) < 0.4
            words = [name for name, entry in zip(NAMES, truth, strict=True) if entry]
            cells = ["U" if rng.random() < unknown else int(entry) for entry in truth]
            writer.writerow([f"{seed}-{row}", *cells, f"a {' and a '.join(words) or 'car'} {seed} {row}"])
    return path


@pytest.fixture
def words(run, tmp_path):
    """A working directory with a fitted run of a table with unknown labels."""
    write_table(tmp_path / "train.csv", 160, 1)
    weights = vectors_file(tmp_path / "glove.txt")
    encoder = ["--encoder", "glove-100", "--weights", weights]
    run("extract", *encoder, "--data", "train.csv", "--unknown", "U")
    return run


@pytest.mark.slow
def test_unknown_labels_go_all_the_way(words, tmp_path):
    result = words("fit", "--head", "linear", "--run", "runs/a", "--split", "stratified:0.3")
    assert "label entries are unknown" in result.output
    fitted = load_run(tmp_path / "runs/a")
    assert (fitted.record.unknown_marks, fitted.record.uncertain) == (["U"], "")  # for new.csv below
    with h5py.File(tmp_path / "runs/a/scores.h5") as file:
        # Earlier programs refuse all but bool labels: they would not know what -1 means.
        assert file["eval/labels"].dtype == np.int8
        assert (file["eval/labels"][:] == -1).any()
    metrics = json.loads((tmp_path / "runs/a/metrics.json").read_text())
    labels, evaluation = fitted.eval.labels, evaluate_kept(fitted)
    entries = labels >= 0
    assert metrics["unknown"] == (~entries).sum() > 0
    assert metrics["micro_f1"] == pytest.approx(f1_score(labels[entries], evaluation.predictions[entries]))
    for k, row in enumerate(metrics["per_class"]):
        assert (row["known_rows"], row["support"]) == (entries[:, k].sum(), (labels[:, k] == 1).sum())
    assert metrics["macro_f1"] > 0.95  # the captions name the labels

    words("tune", "runs/a", "--objective", "macro")
    words("fit", "--head", "knn", "--run", "runs/b", "--split", "stratified:0.3")
    words("report", "runs/a", "runs/b", "-o", "page.html")
    runs = [evaluate_kept(load_run(tmp_path / "runs" / name)) for name in "ab"]
    flipped = replace(runs[1], predictions=~runs[0].predictions)
    write_differences(tmp_path / "d.csv", [runs[0], flipped], "id", " ")
    written = {row["id"]: row["Labels"].split() for row in csv.DictReader((tmp_path / "d.csv").open())}
    for row_id, row in zip(fitted.eval.ids, labels, strict=True):
        marks = {1: "{}", -1: "?{}"}
        expected = {marks[e].format(n) for n, e in zip(fitted.record.classes, row.tolist(), strict=True) if e}
        assert set(written[row_id]) == expected

    write_table(tmp_path / "new.csv", 40, 2)
    result = words("evaluate", "runs/a", "--data", "new.csv", "--json", "--trust")
    of_new = json.loads(result.stdout)
    assert of_new["unknown"] == (tmp_path / "new.csv").read_text().count("U")
    assert of_new["macro_f1"] > 0.9
    result = words("fit", "--head", "label-rnn", "--run", "runs/c", status=1)
    assert "head label-rnn needs every label of a row" in result.output
    assert not (tmp_path / "runs/c").exists()


def test_what_is_stored_under_unknown_labels_changes_nothing(words, tmp_path):
    """A table may name a label that it also calls unknown, as after a correction by hand: it is unknown."""
    store = Store(tmp_path / "store")
    (header,) = store.headers()
    table = store.load(header)
    under = [tuple({*labels, *unknown}) for labels, unknown in zip(table.labels, table.unknown, strict=True)]
    runs = [
        fit(store, "linear", table=chosen, run=tmp_path / name, split="stratified:0.3")
        for name, chosen in (("plain", table), ("under", replace(table, labels=under)))
    ]
    (first, of_first), (second, of_second) = runs
    np.testing.assert_array_equal(first.eval.scores, second.eval.scores)
    assert of_first["macro_f1"] == of_second["macro_f1"]
    np.testing.assert_array_equal(first.decision.thresholds, second.decision.thresholds)


def test_labels_are_read_again_without_an_encoder(run, tmp_path):
    (tmp_path / "x.csv").write_text("id,tags,caption\n1,dog,a\n2,,b\n3,cat,c\n")
    options = ["--data", "x.csv", "--label-column", "tags", "--unknown", "blank"]
    lines = run("extract", "--dry-run", *options).stderr.splitlines()
    assert lines[-1].endswith(" --data x.csv --label-column tags --unknown blank")
    run("extract", *options)
    (header,) = Store("store").headers()
    table = Store("store").load(header)
    assert (table.unknown, table.unknown_marks) == ([(), ("cat", "dog"), ()], ["blank"])
