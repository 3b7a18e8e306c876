import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from encode_once.cache import DataError, MissingDataError, SpecMismatchError, Store, UsageError, content_key
from encode_once.cache.format.hdf5 import read_texts
from encode_once.cache.keys import pack
from encode_once.classify import fit, load_run, retune
from encode_once.classify import spec as specs
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.predict import evaluate, predict
from encode_once.classify.runs.reading import RunError
from encode_once.classify.spec import FitSpec, code_key

KEYS = {"micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall", "per_class", "n",
        "split", "tuned_on"}  # fmt: skip


def read_scores(path, group):
    with h5py.File(path / "scores.h5") as file:
        return file[group]["scores"][()], file[group]["labels"][()]


@pytest.fixture
def fitted(filled, tmp_path):
    store = filled()
    run, metrics = fit(store, "linear", run=tmp_path / "run")
    return store, run, metrics


def test_a_run_is_the_files_of_the_contract(fitted):
    _, run, metrics = fitted
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "run.json",
        "metrics.json",
        "checksums.json",
        "thresholds.json",
        "scores.h5",
        "predictions.csv",
        "weights.safetensors",
        "history.csv",
        "README.md",
    }
    modes = {path.stat().st_mode & 0o777 for path in run.path.iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}
    assert json.loads((run.path / "metrics.json").read_text()) == metrics
    assert set(metrics) >= KEYS
    assert metrics["macro_f1"] > 0.8  # the features predict the classes
    thresholds = json.loads((run.path / "thresholds.json").read_text())
    assert thresholds["objective"] == "samples"
    assert all(isinstance(value, float) for value in thresholds["thresholds"].values())
    assert list(thresholds["thresholds"]) == ["9", "10", "cat", "dog", "traffic light"]
    with h5py.File(run.path / "scores.h5") as file:
        assert read_texts(file, "classes") == run.record.classes
        for name, n in (("tune", 360), ("eval", 40)):
            assert file[name]["scores"].shape == file[name]["labels"].shape == (n, 5)


@pytest.mark.parametrize(
    ("split", "n"), [("tail:50", 50), ("random:0.2", 80), ("stratified:0.25", 100), ("part", 100)]
)
def test_a_split_holds_out_its_rows(filled, tmp_path, split, n):
    run, metrics = fit(filled(), "linear", split=split, run=tmp_path / "run")
    assert metrics["n"] == len(run.eval.ids) == n
    assert metrics["split"] == split
    if split == "tail:50":
        assert run.eval.ids == [f"0-{row}.jpg" for row in range(350, 400)]


def test_tuning_on_the_eval_rows_is_stated_in_every_output(filled, tmp_path):
    run, metrics = fit(filled(), "linear", tune_on="eval", run=tmp_path / "run")
    assert metrics["tuned_on"].startswith("eval")
    assert json.loads((run.path / "run.json").read_text())["tune_on"] == "eval"
    scores, labels = read_scores(run.path, "eval")
    np.testing.assert_array_equal(run.decision.thresholds, DecisionSpec().fit(scores, labels).thresholds)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.usefixtures("fit_once")
def test_a_loaded_run_scores_as_the_fitted_one(filled, tmp_path, head):
    store = filled()
    run, _ = fit(store, head, run=tmp_path / "run")
    (table,) = store.tables()
    scores, _ = predict(load_run(run.path), store, table)
    evaluated = [table.ids.index(row_id) for row_id in run.eval.ids]
    np.testing.assert_allclose(scores[evaluated], run.eval.scores, atol=1e-5)


@pytest.mark.parametrize(("head", "epochs_of"), [("linear", []), ("mlp", [3, 3])])
def test_the_history_of_the_training_is_saved(filled, tmp_path, head, epochs_of):
    options = {"epochs": 3, "members": 2} if epochs_of else {}
    run, _ = fit(filled(), head, options=options, run=tmp_path / "run")
    with (run.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    epochs = [(int(row["model"]), int(row["epoch"])) for row in rows]
    assert sorted(epochs) == [
        (model, epoch) for model, n in enumerate(epochs_of) for epoch in range(1, n + 1)
    ]
    assert list(load_run(run.path).history) == list(run.history)
    assert len(run.history) == len(rows)


@pytest.mark.usefixtures("fit_once")
def test_the_same_seed_gives_the_same_run(filled, tmp_path):
    store = filled()
    first, second = (fit(store, "mlp", run=tmp_path / name, seed=3)[0] for name in ("a", "b"))
    np.testing.assert_array_equal(first.eval.scores, second.eval.scores)


def test_retuning_leaves_the_model_unchanged(fitted):
    _, run, _ = fitted
    before = (run.path / "weights.safetensors").read_bytes()
    loaded = load_run(run.path)
    metrics, predictions = retune(loaded, DecisionSpec("micro"))
    loaded.save_decision(metrics, predictions)
    assert (run.path / "weights.safetensors").read_bytes() == before
    scores, labels = read_scores(run.path, "tune")
    expected = DecisionSpec("micro").fit(scores, labels)
    np.testing.assert_array_equal(load_run(run.path).decision.thresholds, expected.thresholds)
    assert json.loads((run.path / "metrics.json").read_text())["objective"] == "micro"


def test_another_table_is_evaluated_on_the_rows_that_the_run_has_not_seen(filled, tmp_path):
    store = filled()
    run, metrics = fit(store, "linear", run=tmp_path / "run")
    (table,) = store.tables()
    evaluation = evaluate(run, store, table)
    warnings = evaluation.warnings
    assert evaluation.metrics["n"] == 40
    assert evaluation.metrics["micro_f1"] == pytest.approx(metrics["micro_f1"])
    assert any("360 of 400 rows are left out" in warning for warning in warnings)
    table.labels = [("unicorn", *table.labels[0]), *table.labels[1:]]
    assert any("unicorn" in warning for warning in evaluate(run, store, table).warnings)


def test_a_run_refuses_a_store_with_other_features_of_the_same_name(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    other = Store(tmp_path / "other")
    for name in ("e/image", "e/text"):
        with other.declare(name, {"modality": "image", "weights": "others"}).writer(1) as writer:
            writer.append(pack([content_key(b"x")]), np.ones((1, 8), np.float16))
    with pytest.raises(SpecMismatchError, match="weights: stored others"):
        predict(run, other, filled().tables()[0])


def test_missing_vectors_are_replaced_and_reported(filled, tmp_path):
    from encode_once.cache import Failure

    store = filled(missing={5, 6})
    (table,) = store.tables()
    failures = [Failure(table.keys("image")[row].tobytes().hex(), "empty", "", "") for row in (5, 6)]
    store.feature("e/image").record_failures(failures)
    run, metrics = fit(store, "linear", run=tmp_path / "run")
    assert "2 of 400 rows have no vector" in run.record.warnings[0]
    assert metrics["macro_f1"] > 0.8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"spec": "mlpp"}, UsageError),
        ({"decision": "makro"}, UsageError),
        ({"split": "tial:5"}, UsageError),
        ({"tune_on": "everything"}, UsageError),
        ({"options": {"widht": 3}}, UsageError),
        ({"split": "tail:400"}, DataError),
        ({"run": "."}, DataError),
    ],
)
def test_wrong_usage_is_reported_before_a_run_is_written(filled, tmp_path, monkeypatch, options, error):
    store = filled()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        fit(store, **{"spec": "linear", **options})
    assert not (tmp_path / "runs").exists()


def test_unnamed_runs_do_not_overwrite_each_other(filled, tmp_path, monkeypatch):
    store = filled()
    monkeypatch.chdir(tmp_path)
    paths = [str(fit(store, "linear")[0].path) for _ in range(3)]
    assert paths == ["runs/linear", "runs/linear-2", "runs/linear-3"]


def test_a_runs_identity_includes_the_programs_code(filled, tmp_path, monkeypatch):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    before = FitSpec("linear").identity(store)
    assert run.record.identity == before
    assert load_run(run.path).record.code == code_key()
    monkeypatch.setattr(specs, "code_key", lambda: "other code")
    assert FitSpec("linear").identity(store) != before


def test_the_code_key_changes_with_any_line_of_the_package(tmp_path):
    package, root = tmp_path / "encode_once", Path(specs.__file__).parents[1]
    for room in ("cache", "classify"):
        shutil.copytree(root / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "__init__.py", package)
    script = "from encode_once.classify.spec import code_key; print(code_key())"
    place = os.environ | {"PYTHONPATH": str(tmp_path)}

    def key():
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=place, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert key() == code_key()
    with (package / "classify" / "heads" / "linear.py").open("a") as file:
        file.write("# one line more\n")
    assert key() != code_key()


def test_a_folder_without_a_run_and_a_damaged_run_are_errors(fitted, tmp_path):
    _, run, _ = fitted
    with pytest.raises(MissingDataError, match="is not a run"):
        load_run(tmp_path / "nowhere")
    (run.path / "weights.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(RunError, match="fit it again"):
        load_run(run.path)


def test_rows_of_val_stop_and_tune_and_rows_of_test_are_measured(filled, tmp_path):
    store = filled(200)
    table = store.table()
    parts = [("train", "val", "test", "train", "train")[row % 5] for row in range(200)]
    table.columns["part"] = parts
    run, metrics = fit(store, "linear", split="part", run=tmp_path / "run", table=table)
    assert sorted(run.validation.ids) == sorted(table.ids[row] for row in range(200) if parts[row] == "val")
    assert run.eval.ids == [table.ids[row] for row in range(200) if parts[row] == "test"]
    assert metrics["n"] == 40
    assert metrics["tuned_on"] == "40 validation rows"


def test_the_tables_next_to_train_are_validation_and_eval_rows(filled, tmp_path):
    store = filled(200)
    whole = store.table()

    def part(split, rows):
        return replace(
            whole,
            source=str(tmp_path / f"data/{split}.csv"),
            split=split,
            ids=[str(row) for row in range(len(rows))],  # the same in all tables
            images=[whole.images[row] for row in rows],
            captions=[whole.captions[row] for row in rows],
            labels=[whole.labels[row] for row in rows],
            columns={},
            image_keys=whole.image_keys[rows],
            caption_keys=whole.caption_keys[rows],
        )

    for split, rows in (("train", range(120)), ("val", range(120, 150)), ("test", range(150, 200))):
        (tmp_path / f"data/{split}.csv").touch()
        store.save(part(split, np.array(rows)))
    run, metrics = fit(store, "linear", split="tables", run=tmp_path / "run")
    assert sorted(run.validation.ids) == sorted(f"val/{row}" for row in range(30))
    assert run.eval.ids == [f"test/{row}" for row in range(50)]
    assert metrics["n"] == 50
    (tmp_path / "alone").mkdir()
    store = filled(60, name="alone")
    with pytest.raises(DataError, match="no labelled val or test table next to"):
        fit(store, "linear", split="tables", run=tmp_path / "other")


def test_options_of_the_head_may_be_keywords(filled, tmp_path):
    store = filled(60)
    written = fit(store, "linear", options={"Cs": [0.1], "tolerance": 0.01}, seed=2, run=tmp_path / "a")[0]
    short = fit(store, "linear", Cs=[0.1], options={"tolerance": 0.01}, seed=2, run=tmp_path / "b")[0]
    assert short.spec == written.spec
    assert np.array_equal(short.eval.scores, written.eval.scores)
    with pytest.raises(UsageError, match=r"or option of head 'linear' 'tolerence': did you mean 'tolerance'"):
        fit(store, "linear", tolerence=0.1)
    with pytest.raises(UsageError, match="did you mean 'split'"):
        fit(store, "linear", splt="kfold:3")
    with pytest.raises(UsageError, match="takes a FitSpec, or seed with the name of a head, but not both"):
        fit(store, FitSpec("linear"), seed=3)
