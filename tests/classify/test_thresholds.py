import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from cache.errors import DataError
from classify.thresholds import OBJECTIVES, fixed_cut, tune

OWN_CUTS = ["macro", "weighted", "micro", "samples"]
AVERAGES = ["macro", "weighted", "micro", "samples"]


@st.composite
def problems(draw, max_rows=7, max_classes=3):
    """Scores full of ties, or of neighbouring floats, with any labels: classes may be empty or full."""
    shape = draw(st.tuples(st.integers(1, max_rows), st.integers(2, max_classes)))
    coarse = st.integers(0, 4).map(lambda i: i / 4)
    close = st.integers(0, 5).map(lambda i: 0.3 + i * 2.0**-54)  # one unit in the last place apart
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = draw(arrays(np.float64, shape, elements=draw(st.sampled_from([coarse, close, st.floats(0, 1)]))))
    return scores.astype(dtype), draw(arrays(bool, shape))


def f1(labels, predictions, average):
    """scikit-learn's, which is too slow to try all combinations of cuts with."""
    axis = {"micro": None, "samples": 1}.get(average, 0)
    size = labels.sum(axis) + predictions.sum(axis)
    scores = 2 * (labels & predictions).sum(axis) / np.maximum(size, 1)
    return np.average(scores, weights=labels.sum(0) if average == "weighted" and labels.any() else None)


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=50, deadline=None)
@given(problem=problems())
def test_the_f1_of_these_tests_is_that_of_scikit_learn(average, problem):
    scores, labels = problem
    expected = f1_score(labels, scores >= 0.5, average=average, zero_division=0)
    assert f1(labels, scores >= 0.5, average) == pytest.approx(expected)


def all_cuts(scores):
    """Every value at which predictions can change, and one that predicts nothing."""
    return [*np.unique(scores).astype(np.float64), 2.0]


def best_of_all_cuts(scores, labels, average):
    columns = [[scores[:, c] >= cut for cut in all_cuts(scores[:, c])] for c in range(scores.shape[1])]
    return max(f1(labels, np.column_stack(choice), average) for choice in itertools.product(*columns))


@pytest.mark.parametrize("objective", ["macro", "weighted", "micro"])
@settings(max_examples=60, deadline=None)
@given(problem=problems(max_rows=5))
def test_own_cuts_reach_the_best_of_all_combinations(objective, problem):
    scores, labels = problem
    reached = f1(labels, scores >= tune(scores, labels, objective), objective)
    assert reached == pytest.approx(best_of_all_cuts(scores, labels, objective), abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_a_global_cut_reaches_the_best_of_all_cuts(average, problem):
    scores, labels = problem
    thresholds = tune(scores, labels, f"global-{average}")
    best = max(f1(labels, scores >= cut, average) for cut in all_cuts(scores))
    assert f1(labels, scores >= thresholds, average) == pytest.approx(best, abs=1e-12)
    assert len(set(thresholds)) == 1


@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_samples_never_falls_below_its_start_and_no_single_cut_improves_it(problem):
    scores, labels = problem
    thresholds = tune(scores, labels, "samples")
    reached = f1(labels, scores >= thresholds, "samples")
    assert reached >= f1(labels, scores >= tune(scores, labels, "global-samples"), "samples") - 1e-12
    for c, class_scores in enumerate(scores.T):
        for cut in all_cuts(class_scores):
            changed = thresholds.copy()
            changed[c] = cut
            assert f1(labels, scores >= changed, "samples") <= reached + 1e-9


@pytest.mark.parametrize("objective", OWN_CUTS)
@settings(max_examples=50, deadline=None)
@given(problem=problems())
def test_classes_without_positives_are_never_predicted_and_without_negatives_always(objective, problem):
    scores, labels = problem
    thresholds = tune(scores, labels, objective)
    one, zero = np.ones_like(scores), np.zeros_like(scores)
    assert not (one >= thresholds)[:, ~labels.any(axis=0)].any()
    assert (zero >= thresholds)[:, labels.all(axis=0)].all()


@pytest.mark.parametrize("objective", ["none", *OBJECTIVES])
@settings(max_examples=30, deadline=None)
@given(problem=problems())
def test_float32_and_float64_agree_and_survive_json(objective, problem):
    scores, labels = problem
    narrow = scores.astype(np.float32)
    thresholds = tune(narrow, labels, objective)
    assert thresholds.shape == (scores.shape[1],)
    assert thresholds.dtype == np.float64
    assert np.array_equal(thresholds, tune(narrow.astype(np.float64), labels, objective))
    assert np.array_equal(thresholds, json.loads(json.dumps(thresholds.tolist(), allow_nan=False)))


def test_a_cut_lies_midway_between_the_scores_it_parts():
    scores = np.array([[0.2], [0.4], [0.8], [0.9]])
    labels = np.array([[False], [False], [True], [True]])
    for objective in set(OBJECTIVES) - {"samples", "global-samples"}:
        assert tune(scores, labels, objective) == pytest.approx([0.6])


def test_none_is_one_half():
    assert tune(np.array([[0.1, 0.9]]), np.array([[True, False]]), "none").tolist() == [0.5, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_scores_that_are_no_probabilities_are_refused(bad):
    with pytest.raises(DataError, match="NaN or outside"):
        tune(np.array([[0.5, bad]]), np.array([[True, False]]), "macro")


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 2)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(DataError, match="share one shape"):
        tune(np.zeros(shape), np.zeros((0, 2) if shape == (0, 2) else (3, 2), dtype=bool), "macro")


def test_an_unknown_objective_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'micro'"):
        tune(np.zeros((1, 1)), np.zeros((1, 1), dtype=bool), "mirco")


@pytest.mark.parametrize(
    ("objective", "cut"), [("none", 0.5), ("at:0.375", 0.375), ("at:0", 0), ("macro", None)]
)
def test_fixed_cuts(objective, cut):
    assert fixed_cut(objective) == cut
    if cut is not None:
        scores = np.array([[0.1, 0.2], [0.9, 0.8]])
        assert tune(scores, scores > 0.5, objective).tolist() == [cut, cut]


@pytest.mark.parametrize("objective", ["at:", "at:1.5", "at:nan", "at:x", "at", "0.5", "mikro"])
def test_no_such_objective(objective):
    with pytest.raises(DataError, match="unknown objective"):
        fixed_cut(objective)
