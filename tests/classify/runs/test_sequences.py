import json

import numpy as np
import pytest

from encode_once.cache import DataError, Failure
from encode_once.classify import FitSpec, fit, load_run
from encode_once.classify.data.labels import class_names, label_matrix
from encode_once.classify.heads import HEADS
from encode_once.classify.runs.predict import evaluate, predict

QUICK = {"epochs": 3, "width": 8, "hidden": 4, "device": "cpu", "progress": False}


def with_tokens(store, lengths, missing=(), longest=None):
    """The store with a sequence of each row's caption, whose tokens predict the first three labels."""
    (table,) = store.tables()
    rng = np.random.default_rng(4)
    Y = label_matrix(table.labels, class_names(table.labels))[:, :3]
    tokens = [
        (4 * Y[row] * rng.random((n, 3)) + rng.normal(size=(n, 3))).astype(np.float16)[:longest]
        for row, n in enumerate(lengths)
    ]
    present = [row for row in range(len(table)) if row not in missing]
    feature = store.declare("e/tokens", {"modality": "caption"})
    with feature.writer(len(present)) as writer:
        sizes = np.array([len(tokens[row]) for row in present])
        writer.append(table.keys("caption")[present], np.concatenate([tokens[row] for row in present]), sizes)
    feature.record_failures(
        Failure(table.keys("caption")[row].tobytes().hex(), "empty", "", "") for row in missing
    )
    return store, table


FEATURES = ["e/image", "e/tokens"]


@pytest.fixture
def store(filled):
    """400 rows with a vector and a sequence of up to 5 tokens; in two rows the sequence is missing."""
    return with_tokens(filled(), np.arange(400) % 6, missing={7, 8})


SLOW = [pytest.param(head, marks=pytest.mark.slow) for head in ("stack", "auto")]


@pytest.mark.parametrize("head", ["bigru", "attention", *SLOW])
def test_a_run_on_tokens_and_vectors_scores_the_same_when_it_is_loaded(store, tmp_path, head):
    store, table = store
    options = {
        "bigru": QUICK,
        "attention": {name: value for name, value in QUICK.items() if name != "hidden"},
        "stack": {"folds": 2, "options": [QUICK] * 2, "heads": ["concat", "bilstm"]},
        "auto": {"folds": 2, "options": {"bigru": QUICK}, "heads": ["linear", "bigru"]},
    }[head]
    options = {"features": FEATURES, "options": options, "validation": "tenth"}
    run, _ = fit(store, head, **options, run=tmp_path / "run")
    loaded = load_run(run.path)
    assert loaded.model.head.shapes == [(1, 8), (5, 3)]
    assert loaded.record.features["e/tokens"].length == 5
    assert loaded.record.features["e/image"].length == 1
    scores, warnings = predict(loaded, store, table)
    np.testing.assert_allclose(scores, predict(run, store, table)[0], rtol=1e-5)
    evaluated = [table.ids.index(row_id) for row_id in run.eval.ids]
    np.testing.assert_allclose(scores[evaluated], run.eval.scores, atol=1e-5)
    assert warnings == run.record.warnings[:1]  # others are about the head
    assert "e/tokens: 2 of 400 rows have no vector" in warnings[0]
    assert evaluate(loaded, store, table).metrics["n"] == 40


@pytest.mark.slow
def test_a_head_learns_from_sequences_and_scores_each_fold_out_of_fold(store, tmp_path):
    store, _ = store
    options = {**QUICK, "epochs": 8, "learning_rate": 0.01, "dropout": 0.1}
    run, metrics = fit(
        store, "bigru", features=["e/tokens"], split="kfold:2", options=options, run=tmp_path / "run"
    )
    assert metrics["n"] == 400
    lengths = np.array([int(row_id.removesuffix(".jpg").split("-")[1]) % 6 for row_id in run.eval.ids])
    long = lengths > 2
    right = ((run.eval.scores > 0.5) == run.eval.labels)[:, :3]
    assert right[long].mean() > 0.85
    assert right[long].mean() > right[lengths == 0].mean() + 0.1


def test_a_longer_sequence_is_truncated_at_prediction_to_the_length_of_the_run(store, filled, tmp_path):
    store, _ = store
    spec = FitSpec("bigru", FEATURES, QUICK, validation="tenth")
    run, _ = fit(store, spec, run=tmp_path / "run")
    lengths = np.arange(60) % 9
    longer, table = with_tokens(filled(60, name="longer", seed=1), lengths)
    truncated, _ = with_tokens(filled(60, name="truncated", seed=1), lengths, longest=5)
    assert max(longer.feature("e/tokens").lengths()) == 8
    scores, _ = predict(load_run(run.path), longer, table)
    np.testing.assert_array_equal(scores, predict(run, truncated, table)[0])
    shorter, table = with_tokens(filled(60, name="shorter", seed=2), [1] * 60)
    assert np.isfinite(predict(run, shorter, table)[0]).all()


@pytest.mark.parametrize("head", ["linear", "mlp", "knn", "forest", "gbm"])
def test_a_sequence_is_refused_by_heads_of_vectors(store, tmp_path, head):
    with pytest.raises(
        DataError, match=f"e/tokens holds a sequence per row, which head {head} cannot take; bilstm, "
    ):
        fit(store[0], head, features=FEATURES, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sequences_of_one_token_are_vectors(filled, tmp_path):
    store, table = with_tokens(filled(), [1] * 400)
    run, _ = fit(store, "linear", features=["e/tokens"], run=tmp_path / "run")
    assert json.loads((run.path / "run.json").read_text())["features"]["e/tokens"]["length"] == 1
    scores, _ = predict(load_run(run.path), store, table)
    assert scores.shape == (400, 5)


def test_the_error_names_the_heads_that_take_sequences(store, tmp_path):
    with pytest.raises(DataError) as raised:
        fit(store[0], "linear", features=FEATURES, run=tmp_path / "run")
    able = str(raised.value).split("cannot take; ")[1].removesuffix(" can").split(", ")
    assert set(able) == set(HEADS) - {"linear", "mlp", "knn", "prototype", "forest", "gbm"}
