"""The order of rows, columns and classes, and the classes' names, change nothing: the same scores result."""

import numpy as np
import pytest

from encode_once.classify import fit
from encode_once.classify.heads import HEADS
from tests.invariants.conftest import CLASSES

pytestmark = pytest.mark.usefixtures("fit_once")
FAST = {
    "linear": {"Cs": [0.1, 1.0]},
    "knn": {},
    "prototype": {},
    "forest": {"trees": 20},
    "gbm": {"rounds": 20},
    "mlp": {"epochs": 5, "hidden": [16]},
    "attention": {"epochs": 2, "width": 8},
    "stack": {"heads": ["linear", "forest"], "folds": 2},
    "auto": {"heads": ["linear", "forest"], "folds": 2},
}
FUSED = {"epochs": 2, "width": 8, "hidden": 4}
RENAMED = ["yak", "emu", "ant", "owl"]  # sorted otherwise than `CLASSES`


def scores_of(data, folder, head, order=None, names=CLASSES, **options):
    """The run's scores by row and class, its predictions, and its metrics."""
    store = data.save(folder, order, names)
    options = {"options": FAST.get(head, FUSED), **options}
    run, metrics = fit(store, head, run=folder / "run", **options)
    assert run.record.classes == sorted(names)
    columns = np.argsort(names).argsort()
    scores = dict(zip(run.eval.ids, run.eval.scores[:, columns], strict=True))
    lines = (run.path / "predictions.csv").read_text().splitlines()[1:]
    old_names = dict(zip(names, CLASSES, strict=True))
    predictions = {
        row_id: {old_names[name] for name in labels.split(run.record.label_separator) if name}
        for row_id, _, labels in (line.replace('"', "").partition(",") for line in lines)
    }
    return scores, predictions, [metrics["micro_f1"], metrics["macro_f1"]]


def assert_same(run, expected, tolerance):
    scores, predictions, metrics = run
    assert scores.keys() == expected[0].keys()
    for row_id, row_scores in scores.items():
        np.testing.assert_allclose(row_scores, expected[0][row_id], atol=tolerance)
    assert predictions == expected[1]
    assert metrics == pytest.approx(expected[2])


@pytest.mark.parametrize(
    ("head", "split", "validation"),
    [
        *((head, "stratified:0.2", "tenth") for head in HEADS),
        *((head, "stratified:0.2", "folds") for head in ("linear", "gbm", "auto")),
        ("knn", "kfold:3", "tenth"),
        ("mlp", "kfold:2", "tenth"),
    ],
)
def test_a_table_with_other_rows_first_and_other_names_of_classes_gives_the_same_run(
    data, tmp_path, head, split, validation
):
    order = np.random.default_rng(1).permutation(len(data.labels))
    options = {"split": split, "validation": validation}
    expected = scores_of(data, tmp_path / "in-order", head, **options)
    assert_same(scores_of(data, tmp_path / "shuffled", head, order, RENAMED, **options), expected, 1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_features_with_other_columns_first_give_the_same_run(data, tmp_path, head):
    expected = scores_of(data, tmp_path / "in-order", head, validation="tenth")
    order = np.random.default_rng(1).permutation(data.image.shape[1])
    data.image, data.text = data.image[:, order], data.text[:, order[::-1]]
    assert_same(scores_of(data, tmp_path / "shuffled", head, validation="tenth"), expected, 1e-4)
