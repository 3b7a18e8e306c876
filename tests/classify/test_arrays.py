import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn

from encode_once.cache.errors import DataError
from encode_once.classify import heads
from encode_once.classify.arrays import as_labels, as_scores
from encode_once.classify.data import splits
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import resampled
from encode_once.classify.evaluation.metrics import measure
from tests.conftest import examples

DTYPES = ["bool", "int8", "uint8", "int64", "float16", "float64", "object"]
SPARSE = [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array, scipy.sparse.lil_array]
tables = st.tuples(st.integers(1, 9), st.integers(2, 4)).flatmap(lambda shape: arrays(bool, shape))


def forms(labels):
    """The same labels in every form that is accepted."""
    yield from (labels.astype(dtype) for dtype in DTYPES)
    yield from (form(labels.astype(dtype)) for form in SPARSE for dtype in ("bool", "int64", "float64"))
    yield torch.from_numpy(labels).int()
    yield labels.astype(int).tolist()
    yield labels[:, ::-1].astype(int)[:, ::-1]


@examples(50)
@given(labels=tables)
def test_bool_and_0_and_1_of_any_dtype_are_the_same_labels(labels):
    for form in forms(labels):
        converted = as_labels(form)
        assert converted.dtype in (np.bool_, torch.bool)
        np.testing.assert_array_equal(np.asarray(converted), labels)
    assert as_labels(labels) is labels


def test_repeated_entries_of_a_sparse_table_are_added_up():
    twice = scipy.sparse.coo_array((np.array([1, 1]), ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(DataError, match="such as 2"):
        as_labels(twice)
    assert twice.nnz == 2  # the caller's table is unchanged


WRONG = {
    "class numbers": np.array([[0, 2], [2, 0], [0, 0]]),
    "probabilities": np.array([[0.5, 1], [0, 1], [1, 0]]),
    "infinite": np.array([[np.inf, 1], [0, 1], [1, 0]]),
    "strings": np.array([["0", "1"], ["1", "0"], ["0", "0"]]),
    "objects": np.array([["a\nb", 1], [None, 0], [1, 0]], dtype=object),
    "dates": np.zeros((3, 2), "datetime64[s]"),
    "one dimension": np.array([0, 1, 1]),
    "three dimensions": np.zeros((3, 2, 1), bool),
    "no dimension": np.array(1),
    "no rows": np.zeros((0, 2), bool),
    "no classes": np.zeros((3, 0), bool),
    "ragged": [[0, 1], [1]],
    "sparse": scipy.sparse.csr_array(np.array([[0, 2], [2, 0], [0, 0]])),
    "a tensor": torch.tensor([[0, 2], [2, 0], [0, 0]]),
}
SCORES = np.array([[0.1, 0.9], [0.8, 0.3], [0.4, 0.6]], np.float32)
LABELS = np.array([[False, True], [True, False], [True, True]])
DOORS = {
    "as_labels": as_labels,
    "measure": lambda labels: measure(labels, LABELS, SCORES, ["a", "b"]),
    "measure, predictions": lambda labels: measure(LABELS, labels, SCORES, ["a", "b"]),
    "resampled": lambda labels: resampled(labels, LABELS, SCORES, draws=2),
    "resampled, predictions": lambda labels: resampled(LABELS, labels, SCORES, draws=2),
    "tune": lambda labels: tune(SCORES, labels, "macro"),
    "fit": lambda labels: DecisionSpec().fit(SCORES, labels),
    "folds": lambda labels: splits.folds("kfold:2", labels, {}, splits.position_draws(3, 0)),
    "validation_split": lambda labels: splits.validation_split(
        labels, np.arange(3), 0.5, splits.position_draws(3, 0)
    ),
}


@pytest.mark.parametrize("labels", [[[-1, 1], [1, -1], [1, 1]], [[np.nan, 1], [0, 1], [1, 0]]])
def test_unknown_entries_are_refused_where_labels_must_be_whole(labels):
    with pytest.raises(DataError, match="such as -1, which marks unknown entries"):
        as_labels(np.array(labels))


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_other_value_and_shape_is_refused_in_a_line(door, wrong):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as raised:
            door(wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["linear", "knn", "prototype", "forest", "gbm", "mlp", "stack"])
def test_heads_take_0_and_1_as_bool_and_refuse_other_labels(name):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)).astype(np.float32), rng.random((60, 3)) < 0.4
    options = {"epochs": 2, "progress": False} if name == "mlp" else {}
    options |= {"heads": ["linear"]} if name == "stack" else {}

    def fitted(*labels):
        return heads.make(name, **options).fit(X, *labels)

    expected = fitted(Y).predict_proba(X)
    for form in (Y.astype(int), Y.astype(float), scipy.sparse.csr_array(Y.astype(int))):
        np.testing.assert_array_equal(fitted(form).predict_proba(X), expected)
    for wrong in (2 * Y.astype(int), np.where(Y, 1, -1), Y[1:]):
        with pytest.raises(DataError, match="labels must be"):
            fitted(wrong)
    with pytest.raises(DataError, match=r"labels must be a table \(60, 3\)"):
        fitted(Y, X, Y[:, :2])
    with pytest.raises(DataError, match="labels must be 0 or 1"):
        fitted(Y, X, 2 * Y.astype(int))


@examples(60)
@given(labels=tables, seed=st.integers(0, 99))
def test_metrics_of_labels_of_any_dtype_equal_scikit_learns(labels, seed):
    scores = np.random.default_rng(seed).integers(0, 9, labels.shape) / 8
    predictions, names = scores >= 0.5, [*map(str, range(labels.shape[1]))]
    present = labels.any(axis=0)
    expected = {"micro_f1": sklearn.f1_score(labels, predictions, average="micro", zero_division=0)}
    if present.any():
        expected["mAP"] = sklearn.average_precision_score(labels[:, present], scores[:, present])
    figures = measure(labels, predictions, scores, names)
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    for form, predicted in zip(forms(labels), forms(predictions), strict=True):
        if not isinstance(form, torch.Tensor):
            assert measure(form, predicted, scores, names) == figures


@examples(30)
@given(
    labels=tables, seed=st.integers(0, 99), objective=st.sampled_from(["macro", "samples", "global-micro"])
)
def test_thresholds_and_folds_of_labels_of_any_dtype_are_those_of_bool(labels, seed, objective):
    scores = np.random.default_rng(seed).integers(0, 9, labels.shape) / 8
    draws = splits.position_draws(len(labels), seed)
    thresholds = DecisionSpec(objective).fit(scores, labels).thresholds
    folds = splits.folds("kfold:2", labels, {}, draws) if len(labels) > 1 else []
    for dtype in DTYPES:
        form = labels.astype(dtype)
        np.testing.assert_array_equal(DecisionSpec(objective).fit(scores, form).thresholds, thresholds)
        np.testing.assert_array_equal(tune(scores, form, objective), tune(scores, labels, objective))
        for rows, same in zip(folds, splits.folds("kfold:2", form, {}, draws) if folds else [], strict=True):
            np.testing.assert_array_equal(rows, same)


@pytest.mark.parametrize(
    "wrong",
    [
        *(np.where(LABELS, value, SCORES) for value in (np.nan, np.inf, -np.inf)),
        *(
            SCORES[:2],
            SCORES[:, :1],
            SCORES[0],
            SCORES.astype(str),
            SCORES.astype(object),
            [[0.1], [0.2, 0.3]],
        ),
    ],
)
def test_scores_that_are_not_finite_or_of_another_shape_are_refused_in_a_line(wrong):
    for door in (
        lambda: as_scores(wrong, LABELS),
        lambda: measure(LABELS, LABELS, wrong, ["a", "b"]),
        lambda: resampled(LABELS, LABELS, wrong, draws=2),
        lambda: DecisionSpec().fit(wrong, LABELS),
    ):
        with pytest.raises(DataError, match=r"scores must be") as raised:
            door()
        assert "\n" not in str(raised.value)


def test_a_table_of_classes_needs_as_many_names():
    with pytest.raises(DataError, match=r"\(rows, 3\)"):
        measure(LABELS, LABELS, SCORES, ["a", "b", "c"])
