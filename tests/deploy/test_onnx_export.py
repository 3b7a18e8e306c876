"""An exported run: one ONNX file, run by onnxruntime alone."""

import csv
import json
import re
import sys
from dataclasses import replace

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from encode_once.cache import DataError, Failure
from encode_once.classify import DecisionSpec, FitSpec, fit, load_run
from encode_once.classify.heads.linear import Linear
from encode_once.cli import main
from encode_once.deploy.onnx_export import export_onnx
from encode_once.deploy.onnx_file import ExportError
from encode_once.deploy.run_graph import run_metadata, undescribed

SMALL = {"epochs": 2, "device": "cpu", "progress": False}
VECTORS = ["e/image", "e/text"]
ALL = [*VECTORS, "e/tokens"]


@pytest.fixture
def store(filled):
    """A store of two vectors per row and a sequence of 0 to 5; the first three images failed."""
    store = filled(300, missing={0, 1, 2})
    (table,) = store.tables()
    keys = table.keys("image")
    failures = [Failure(keys[row].tobytes().hex(), "empty", "", "") for row in range(3)]
    store.feature("e/image").record_failures(failures)
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 6, 300)
    with store.declare("e/tokens", {"modality": "caption"}).writer(300) as writer:
        writer.append(keys, rng.normal(size=(lengths.sum(), 4)).astype(np.float16), lengths)
    return store


def stored(store, names, length):
    """The features as the exported file takes them, read with plain h5py: (n, d), NaN if missing."""
    blocks = []
    (table,) = store.tables()
    for name in names:
        (part,) = (store.path / "features" / name).glob("*.h5")
        with h5py.File(part) as file:
            rows = {key.tobytes(): row for row, key in enumerate(file["keys"][()])}
            values = file["values"][()].astype(np.float32)
            ragged = "offsets" in file
            offsets = file["offsets"][()] if ragged else np.arange(len(values) + 1)
        size = length if ragged else 1
        block = np.full((len(table), size, values.shape[1]), np.nan, np.float32)
        for row, key in enumerate(table.keys("image")):
            if key.tobytes() in rows:
                start, end = offsets[rows[key.tobytes()] :][:2]
                block[row, : end - start] = values[start:end]
        blocks.append(block.reshape(len(table), -1))
    return np.concatenate(blocks, axis=1)


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("head", "features", "options"),
    [
        ("linear", VECTORS, {}),
        ("mlp", VECTORS, {**SMALL, "hidden": [16, 16], "batch_norm": True, "residual": True}),
        ("concat", ALL, {**SMALL, "width": 8}),
        pytest.param("bilinear", ALL, {**SMALL, "width": 8}, marks=pytest.mark.slow),
        pytest.param("mutan", ALL, {**SMALL, "width": 8}, marks=pytest.mark.slow),
        pytest.param(
            "gated",
            ALL,
            {**SMALL, "width": 8, "hidden_layers": [8], "batch_norm": True},
            marks=pytest.mark.slow,
        ),
        ("transformer", ALL, {**SMALL, "width": 8, "hidden": 8}),
        pytest.param("attention", ALL, {**SMALL, "width": 8, "layers": 2}, marks=pytest.mark.slow),
        ("bilstm", ALL, {**SMALL, "width": 8, "hidden": 8}),
        pytest.param(
            "bilstm",
            ALL,
            {**SMALL, "width": 8, "hidden": 8, "attention": False, "rnn_layers": 2},
            marks=pytest.mark.slow,
        ),
        pytest.param("bigru", ALL, {**SMALL, "width": 8, "hidden": 8}, marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_alone_gives_the_scores_and_labels_of_the_run(store, tmp_path, head, features, options):
    run = tmp_path / "run"
    spec = FitSpec(head, features, options, "random:0.3", decision="samples", validation="tenth")
    fit(store, spec, run=run)
    run = load_run(run)
    assert export_onnx(run, tmp_path / "model.onnx").difference <= 1e-5
    model = session(tmp_path / "model.onnx")
    (features_input,) = model.get_inputs()
    assert (features_input.name, features_input.type) == ("features", "tensor(float)")
    assert features_input.shape[1] == len(run.model.mean)
    (table,) = store.tables()
    X = stored(store, features, run.shapes.get("e/tokens", (1, 0))[0])
    assert np.isnan(X[:3, :8]).all()
    scores, labels = model.run(["scores", "labels"], {"features": X})
    assert labels.dtype == bool
    np.testing.assert_array_equal(labels, scores >= run.decision.thresholds)
    evaluated = [table.ids.index(row_id) for row_id in run.eval.ids]
    np.testing.assert_allclose(scores[evaluated], run.eval.scores, atol=1e-5)

    clear = (np.abs(run.eval.scores - run.decision.thresholds) > 1e-5).all(axis=1)
    assert clear.mean() > 0.9
    with (run.path / "predictions.csv").open() as file:
        saved = [row["Labels"] for row in csv.DictReader(file)]
    classes = np.array(run.record.classes)
    for row, is_clear, names in zip(labels[evaluated], clear, saved, strict=True):
        assert not is_clear or ";".join(classes[row]) == names
    for size in (1, 7):
        (first,) = model.run(["scores"], {"features": X[:size]})
        np.testing.assert_allclose(first, scores[:size], atol=1e-6)
    nothing = model.run(["scores"], {"features": np.full((2, X.shape[1]), np.nan, np.float32)})[0]
    assert np.isfinite(nothing).all()


def test_a_row_of_one_label_whose_scores_are_all_0_gets_equal_ones(store, tmp_path):
    (table,) = store.tables()
    store.save(replace(table, labels=[(names or ("none",))[:1] for names in table.labels]))
    head = "sklearn.linear_model:LogisticRegression"  # its scores are divided by their sum
    run, _ = fit(store, head, features=VECTORS, task="single", run=tmp_path / "run")
    assert export_onnx(run, tmp_path / "usual.onnx").difference <= 1e-5
    run.model.head.intercept_ -= 300  # e^-300 is 0 in float32
    export_onnx(run, tmp_path / "model.onnx")
    X = stored(store, VECTORS, 1)
    (scores,) = session(tmp_path / "model.onnx").run(["scores"], {"features": X})
    np.testing.assert_array_equal(scores, np.float32(1 / scores.shape[1]))


@pytest.fixture
def fitted(store, tmp_path):
    fit(store, "linear", features=VECTORS, decision="micro", run=tmp_path / "run")
    return load_run(tmp_path / "run")


def test_the_metadata_describe_features_classes_and_thresholds(store, fitted, tmp_path):
    export_onnx(fitted, tmp_path / "model.onnx")
    metadata = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert (metadata["head"], metadata["objective"]) == ("linear", "micro")
    assert json.loads(metadata["classes"]) == fitted.record.classes
    assert (
        json.loads(metadata["thresholds"])
        == json.loads((tmp_path / "run/thresholds.json").read_text())["thresholds"]
    )
    assert json.loads(metadata["features"]) == [
        {"name": name, "key": store.feature(name).key, "length": 1, "width": 8, "first_column": first}
        for name, first in (("e/image", 0), ("e/text", 8))
    ]


@pytest.mark.parametrize("head", ["knn", "forest", "gbm", "stack", "label-rnn"])
def test_other_heads_are_refused_with_those_that_can(store, tmp_path, head):
    options = {
        "forest": {"trees": 2},
        "gbm": {"rounds": 2},
        "stack": {"heads": ["linear"] * 2},
        "label-rnn": {**SMALL, "width": 8, "hidden": 8},
    }
    spec = FitSpec(head, VECTORS, options.get(head, {}), validation="tenth")
    fit(store, spec, run=tmp_path / "run")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "run"), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 1
    assert result.stderr.strip().count("\n") == 0
    able = "linear, mlp, bilstm, bigru, transformer, concat, bilinear, mutan, gated, attention"
    assert f"{head} cannot be exported; those of {able} can" in result.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_without_onnxruntime_one_line_says_what_to_install(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match=r"pip install 'encode-once\[onnxruntime\]'"):
        export_onnx(fitted, tmp_path / "model.onnx")


def test_a_file_that_gives_other_scores_is_not_written(fitted, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_text("an older file")
    original = Linear.predict_proba
    monkeypatch.setattr(Linear, "predict_proba", lambda head, X: original(head, X) + np.float32(1e-3))
    with pytest.raises(ExportError, match="its scores differ from the run's"):
        export_onnx(fitted, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "an older file"


def test_the_command_line_exports_and_prints_no_result(fitted, tmp_path):
    result = CliRunner().invoke(main, ["export", str(fitted.path), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "differ from the run's by" in result.stderr
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


RULES = {
    "expected mean": DecisionSpec(),
    "expected F1 of isotonic scores": DecisionSpec(decide="expected-f1", calibrate="isotonic"),
    "expected mean within bounds": DecisionSpec(at_least=1, at_most=2),
    "thresholds of calibrated scores": DecisionSpec("macro", calibrate="temperature"),
    "thresholds within bounds": DecisionSpec("micro", at_least=1, at_most=2),
}


@pytest.mark.parametrize("decision", RULES.values(), ids=RULES)
def test_the_labels_are_those_of_the_run_whatever_its_decision_rule(store, tmp_path, decision):
    run, _ = fit(store, "linear", features=VECTORS, decision=decision, run=tmp_path / "run")
    result = CliRunner().invoke(main, ["export", str(run.path), "-o", str(tmp_path / "model.onnx"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["same_labels"]
    X = stored(store, VECTORS, 0)
    scores, labels = session(tmp_path / "model.onnx").run(["scores", "labels"], {"features": X})
    expected = run.decision.probabilities(run.model.scores(X))
    # Steep places of an isotonic curve multiply what float32 rounds otherwise on another processor.
    np.testing.assert_allclose(scores, expected, atol=1e-4 if decision.calibrate == "isotonic" else 1e-5)
    np.testing.assert_array_equal(labels, run.decision.choose(expected))
    assert labels.any()
    metadata = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert metadata["decided"] == run.decision.summary["decided"]
    assert (json.loads(metadata["thresholds"]) is None) == (decision.decide != "thresholds")


def test_the_words_of_tf_idf_and_their_weights_are_in_the_metadata(tmp_path, filled):
    store = filled(60)
    (table,) = store.tables()
    rng = np.random.default_rng(0)
    table.captions = [" ".join(rng.choice(["dog", "cat", "car", "bus"], 3)) for _ in table.ids]
    store.save(table)
    run, _ = fit(store, "linear", features=["tfidf:4"], run=tmp_path / "run")
    export_onnx(run, tmp_path / "model.onnx")
    model = session(tmp_path / "model.onnx")
    (feature,) = json.loads(model.get_modelmeta().custom_metadata_map["features"])
    captions = ["A dog, a DOG and a cat!", "zzyzx", "car"]
    words = [re.findall(r"\b\w\w+\b", caption.lower()) for caption in captions]
    counts = np.array([[row.count(word) for word in feature["words"]] for row in words])
    X = counts * feature["weights"]
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    (scores,) = model.run(["scores"], {"features": X.astype(np.float32)})
    vectors = run.model.vectorisers["tfidf:4"].transform(captions).take(np.arange(3))[:, 0]
    np.testing.assert_allclose(scores, run.decision.probabilities(run.model.scores(vectors)), atol=1e-6)


def test_the_file_says_how_columns_are_made_and_which_features_it_cannot_make(filled, tmp_path):
    store = filled()
    run_folder, _ = fit(store, "linear", features=["column:part:category"], run=tmp_path / "run")
    (feature,) = run_metadata(run_folder)["features"]
    assert (feature["column"], feature["categories"]) == ("part", ["train", "val"])
    assert undescribed(run_folder) == []
