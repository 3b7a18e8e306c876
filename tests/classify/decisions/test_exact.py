import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import fbeta_score

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.objectives import NAMES, Objective
from tests.conftest import examples, rounds

AVERAGES = ["macro", "weighted", "micro", "samples"]
BETAS = ["", "-f2", "-f0.5"]


@st.composite
def problems(draw, max_rows=7, max_classes=3):
    """Scores full of ties, or of neighbouring floats, with any labels: classes may be empty or full."""
    shape = draw(st.tuples(st.integers(1, max_rows), st.integers(2, max_classes)))
    coarse = st.integers(0, 4).map(lambda i: i / 4)
    close = st.integers(0, 5).map(lambda i: 0.3 + i * 2.0**-54)  # one unit in the last place apart
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = draw(arrays(np.float64, shape, elements=draw(st.sampled_from([coarse, close, st.floats(0, 1)]))))
    return scores.astype(dtype), draw(arrays(bool, shape))


def f(labels, predictions, average, beta=1.0):
    """scikit-learn's is too slow to try all combinations of thresholds."""
    axis = {"micro": None, "samples": 1}.get(average, 0)
    size = beta**2 * labels.sum(axis) + predictions.sum(axis)
    scores = (1 + beta**2) * (labels & predictions).sum(axis) / np.where(size > 0, size, 1)
    return np.average(scores, weights=labels.sum(0) if average == "weighted" and labels.any() else None)


@examples(150)
@given(average=st.sampled_from(AVERAGES), beta=st.sampled_from([1, 2, 0.5]), problem=problems())
def test_the_f_of_these_tests_is_that_of_scikit_learn(average, beta, problem):
    scores, labels = problem
    expected = fbeta_score(labels, scores >= 0.5, beta=beta, average=average, zero_division=0)
    assert f(labels, scores >= 0.5, average, beta) == pytest.approx(expected)


def all_thresholds(scores):
    """Every value at which predictions can change, and one that predicts nothing."""
    return [*np.unique(scores).astype(np.float64), 2.0]


def best_of_all_thresholds(scores, labels, average, beta):
    columns = [
        [scores[:, c] >= tried for tried in all_thresholds(scores[:, c])] for c in range(scores.shape[1])
    ]
    return max(f(labels, np.column_stack(choice), average, beta) for choice in itertools.product(*columns))


def beta_of(suffix):
    return float(suffix.removeprefix("-f") or 1)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("beta", BETAS)
@examples(60)
@given(problem=problems(max_rows=5))
def test_thresholds_per_class_reach_the_best_of_all_combinations(average, beta, problem):
    scores, labels = problem
    reached = f(labels, scores >= tune(scores, labels, average + beta), average, beta_of(beta))
    assert reached == pytest.approx(best_of_all_thresholds(scores, labels, average, beta_of(beta)), abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("beta", BETAS)
@examples(60)
@given(problem=problems())
def test_a_shared_threshold_reaches_the_best_of_all_thresholds(average, beta, problem):
    scores, labels = problem
    thresholds = tune(scores, labels, f"global-{average}{beta}")
    best = max(f(labels, scores >= tried, average, beta_of(beta)) for tried in all_thresholds(scores))
    assert f(labels, scores >= thresholds, average, beta_of(beta)) == pytest.approx(best, abs=1e-12)
    assert len(set(thresholds)) == 1


@pytest.mark.parametrize("beta", BETAS)
@examples(60)
@given(problem=problems())
def test_samples_is_no_worse_than_its_starts_and_no_single_threshold_improves_it(beta, problem):
    scores, labels = problem
    thresholds = tune(scores, labels, f"samples{beta}")

    def reached(tried):
        return f(labels, scores >= tried, "samples", beta_of(beta))

    for start in ("global-samples", "micro", "macro"):
        assert reached(thresholds) >= reached(tune(scores, labels, start + beta)) - 1e-12
    for c, class_scores in enumerate(scores.T):
        for tried in all_thresholds(class_scores):
            changed = thresholds.copy()
            changed[c] = tried
            assert reached(changed) <= reached(thresholds) + 1e-9


def test_samples_reaches_the_optimum_of_nearly_all_small_problems():
    rng, gaps = np.random.default_rng(0), []
    for _ in range(150):
        levels = rng.random(6) ** 4  # many are low, as for rare classes, and shared by several rows
        scores, labels = levels[rng.integers(6, size=(6, 3))], rng.random((6, 3)) < 0.4
        reached = f(labels, scores >= tune(scores, labels, "samples"), "samples")
        gaps.append(best_of_all_thresholds(scores, labels, "samples", 1) - reached)
    assert np.mean(np.array(gaps) < 1e-9) > 0.98
    assert max(gaps) < 0.02


@examples(100)
@given(problem=problems(max_classes=2), share=st.sampled_from(["0.9", "0.7", "0.5", "0.3", "1", "0"]))
def test_precision_and_recall_are_reached_with_the_most_of_the_other(problem, share):
    """Exactly, as fractions: 7 of 10 is a precision of 0.7."""
    scores, labels = problem
    for c in range(labels.shape[1]):
        of_class = scores[:, c : c + 1], labels[:, c : c + 1]
        possible = []
        for tried in all_thresholds(of_class[0]):
            on = of_class[0] >= tried
            tp, k, p = int((on & of_class[1]).sum()), int(on.sum()), int(of_class[1].sum())
            possible.append((tp, k, p))

        def counts(name, of_class=of_class):
            on = of_class[0] >= tune(*of_class, name)
            return int((on & of_class[1]).sum()), int(on.sum())

        precise = [(tp, -k) for tp, k, _ in possible if tp >= Fraction(share) * k]
        tp, k = counts(f"precision:{share}")
        assert (tp, -k) == max(precise)  # the most recall and, if several have it, the fewest predictions
        tp, k = counts(f"recall:{share}")
        if not of_class[1].any():
            assert k == 0
            continue
        complete = [(Fraction(tp, max(k, 1)), tp) for tp, k, p in possible if tp >= Fraction(share) * p]
        assert (Fraction(tp, max(k, 1)), tp) == max(complete)


@examples(50)
@given(problem=problems(), share=st.sampled_from(["0.8", "0.5"]))
def test_global_precision_and_recall_are_of_all_predictions_together(problem, share):
    scores, labels = problem
    together = scores.reshape(-1, 1), labels.reshape(-1, 1)
    for name in (f"precision:{share}", f"recall:{share}"):
        assert set(tune(scores, labels, f"global-{name}")) == set(tune(*together, name))


@pytest.mark.parametrize("objective", AVERAGES)
@examples(50)
@given(problem=problems())
def test_classes_without_positives_are_never_predicted_and_without_negatives_always(objective, problem):
    scores, labels = problem
    thresholds = tune(scores, labels, objective)
    assert (thresholds[~labels.any(axis=0)] > 1).all()
    assert (thresholds[labels.all(axis=0)] <= 0).all()


@pytest.mark.parametrize("objective", NAMES)
@examples(30)
@given(problem=problems())
def test_float32_float64_and_torch_agree_and_survive_json(objective, problem):
    scores, labels = problem
    narrow = scores.astype(np.float32)
    thresholds = tune(narrow, labels, objective)
    assert thresholds.shape == (scores.shape[1],)
    assert thresholds.dtype == np.float64
    assert np.array_equal(thresholds, tune(narrow.astype(np.float64), labels, objective))
    assert np.array_equal(thresholds, json.loads(json.dumps(thresholds.tolist(), allow_nan=False)))
    of_torch = tune(torch.from_numpy(narrow), torch.from_numpy(labels), objective)
    assert isinstance(of_torch, torch.Tensor)
    assert np.array_equal(thresholds, of_torch.numpy())


@pytest.mark.parametrize("objective", [*AVERAGES, "global-macro", "global-samples"])
def test_torch_finds_the_same_thresholds_on_more_rows(objective):
    rng = np.random.default_rng(0)
    labels = rng.random((3000, 8)) < rng.beta(1, 6, size=8)
    scores = np.round(0.3 * labels + 0.7 * rng.random(labels.shape), 3).astype(np.float32)
    of_torch = tune(torch.from_numpy(scores), torch.from_numpy(labels), objective)
    np.testing.assert_array_equal(of_torch.numpy(), tune(scores, labels, objective))


@pytest.mark.parametrize("tensor", [np.asarray, torch.from_numpy])
def test_numpy_and_torch_break_this_tie_alike(tensor):
    """Sums of float F differ with the order of addition: thresholds were 0 with NumPy and .125 with torch."""
    scores = np.array([[0.25, 0.25, 0.25], [0.25, 0.25, 0.25], [0.25, 0.5, 0.0], [0.0, 0.5, 0.5]])
    labels = np.ones((4, 3), dtype=bool)
    labels[2, 2] = False
    assert tune(tensor(scores), tensor(labels), "global-samples").tolist() == [0.125] * 3


def exact_f(labels, predictions, average, beta=1):
    """The sum of the groups' F, with the average's weights, as a fraction."""
    axis = {"micro": None, "samples": 1}.get(average, 0)
    tp, k, p = (np.atleast_1d(x.sum(axis)).tolist() for x in (labels & predictions, predictions, labels))
    weights = p if average == "weighted" else [1] * len(p)
    square = Fraction(beta) ** 2
    counts = zip(weights, tp, k, p, strict=True)
    return sum(w * (1 + square) * t / (square * r + q) if t else 0 for w, t, q, r in counts)


@pytest.mark.parametrize("objective", NAMES)
def test_numpy_and_torch_break_the_ties_of_many_small_problems_alike(objective):
    rng = np.random.default_rng(0)
    for _ in range(rounds(60)):
        shape, levels = rng.integers(1, [8, 5]), rng.integers(1, 5)
        scores, labels = rng.integers(0, levels + 1, shape) / levels, rng.random(shape) < rng.random()
        of_torch = tune(torch.from_numpy(scores), torch.from_numpy(labels), objective)
        np.testing.assert_array_equal(of_torch.numpy(), tune(scores, labels, objective))


@pytest.mark.parametrize("tensor", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("beta", BETAS)
def test_of_equal_combinations_of_thresholds_the_one_that_predicts_fewest_is_taken(average, tensor, beta):
    """Compared with all combinations, by exact fractions; F-beta with weights of classes, too."""
    rng = np.random.default_rng(0)
    for _ in range(rounds(30)):
        shape, levels = rng.integers(1, [7, 4]), rng.integers(1, 4)
        scores, labels = rng.integers(0, levels + 1, shape) / levels, rng.random(shape) < rng.random()
        columns = [[column >= tried for tried in all_thresholds(column)] for column in scores.T]
        combinations = [np.column_stack(choice) for choice in itertools.product(*columns)]
        reached = [exact_f(labels, on, average, beta_of(beta)) for on in combinations]
        best = [on for on, value in zip(combinations, reached, strict=True) if value == max(reached)]
        if average == "weighted":  # a class without positives has no weight: the rule is that of its own F
            labelled = labels.any(axis=0)
            best = [on & labelled for on in best]
        thresholds = np.asarray(tune(tensor(scores), tensor(labels), average + beta))
        np.testing.assert_array_equal(scores >= thresholds, min(best, key=np.sum))
        assert all((on >= min(best, key=np.sum)).all() for on in best)


@pytest.mark.parametrize("tensor", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("average", AVERAGES)
@examples(60)
@given(problem=problems(max_rows=12, max_classes=5))
def test_of_equal_global_thresholds_the_one_that_predicts_fewest_is_taken(average, tensor, problem):
    scores, labels = problem
    expected = max(
        (scores >= tried for tried in all_thresholds(scores)),
        key=lambda predictions: (exact_f(labels, predictions, average), -predictions.sum()),
    )
    thresholds = np.asarray(tune(tensor(scores), tensor(labels), f"global-{average}"))
    np.testing.assert_array_equal(scores >= thresholds, expected)


@pytest.mark.parametrize("tensor", [np.asarray, torch.from_numpy])
@examples(60)
@given(problem=problems(max_rows=12))
def test_of_equal_thresholds_of_a_class_the_one_that_predicts_fewest_is_taken(tensor, problem):
    scores, labels = problem
    thresholds = np.asarray(tune(tensor(scores), tensor(labels), "macro"))
    for of_class, truth, threshold in zip(scores.T, labels.T, thresholds, strict=True):
        expected = max(
            (of_class >= tried for tried in all_thresholds(of_class)),
            key=lambda predictions: (exact_f(truth, predictions, "micro"), -predictions.sum()),
        )
        np.testing.assert_array_equal(of_class >= threshold, expected)


def test_torch_divides_counts_in_float64():
    counts = [[10**7, 10**7 + 1]], [[2 * 10**7, 2 * 10**7 + 1]], [[2 * 10**7]]  # equal F in float32
    objective = Objective.of("macro")
    of_torch, of_numpy = (objective.f(*map(tensor, counts)) for tensor in (torch.tensor, np.array))
    assert of_torch.dtype == torch.float64
    np.testing.assert_array_equal(of_torch.numpy(), of_numpy)


def test_a_beta_of_many_digits_overflows_no_integer():
    """Its numerators and denominators are large, and there are many rows of many classes."""
    scores, labels = synthetic_scores(40_000, 80)
    per_class, shared = (scores >= tune(scores, labels, f"{kind}micro-f0.333") for kind in ("", "global-"))
    assert f(labels, per_class, "micro", 0.333) >= f(labels, shared, "micro", 0.333) > 0.8


def test_inputs_are_left_as_they_are():
    scores, labels = np.array([[0.2, 0.9], [0.7, 0.1]]), np.array([[True, False], [False, True]])
    before = scores.copy(), labels.copy()
    for objective in NAMES:
        tune(scores, labels, objective)
    np.testing.assert_array_equal((scores, labels), before)


def test_a_threshold_lies_halfway_between_the_scores_it_separates():
    scores = np.array([[0.2], [0.4], [0.8], [0.9]])
    labels = np.array([[False], [False], [True], [True]])
    for objective in set(NAMES) - {"none", "at:0.4", "cost:5/1", "samples", "global-samples"}:
        assert tune(scores, labels, objective) == pytest.approx([0.6])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_scores_that_are_no_probabilities_are_refused(bad):
    with pytest.raises(DataError, match="NaN or outside"):
        tune(np.array([[0.5, bad]]), np.array([[True, False]]), "macro")


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 2)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(DataError, match=r"share one shape|must be a table"):
        tune(np.zeros(shape), np.zeros((0, 2) if shape == (0, 2) else (3, 2), dtype=bool), "macro")


@pytest.mark.parametrize("name", ["cost:5", "cost:0/0", "cost:5/-1", "cost:a/b", "cost:", "cost"])
def test_costs_that_are_none_are_refused(name):
    with pytest.raises(UsageError, match="the cost of a false positive and of a missed label"):
        Objective.of(name)


def test_a_cost_is_least_by_its_threshold_for_probabilities():
    rng = np.random.default_rng(0)
    p = rng.random((20_000, 3))
    labels = rng.random(p.shape) < p

    def cost(threshold):
        chosen = p >= threshold
        return 5 * (chosen & ~labels).sum() + 2 * (labels & ~chosen).sum()

    best = min(np.arange(0.01, 1, 0.01), key=cost)
    assert tune(p, labels, "cost:5/2") == pytest.approx(best, abs=0.04)


def test_an_unknown_objective_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'micro'"):
        tune(np.zeros((1, 1)), np.zeros((1, 1), dtype=bool), "mirco")


@pytest.mark.parametrize(
    ("objective", "threshold"),
    [
        ("none", 0.5),
        ("at:0.375", 0.375),
        ("at:0", 0),
        ("at:.4", 0.4),
        ("cost:1/3", 0.25),
        ("cost:.5/0", 1),
        ("macro", None),
    ],
)
def test_fixed_thresholds(objective, threshold):
    assert Objective.of(objective).fixed == threshold
    if threshold is not None:
        scores = np.array([[0.1, 0.2], [0.9, 0.8]])
        assert tune(scores, scores > 0.5, objective).tolist() == [threshold, threshold]


@pytest.mark.parametrize(
    "objective",
    [
        *["at:", "at:1.5", "at:nan", "at:x", "at", "0.5", "mikro", "precision", "recall:2", "global-none"],
        *[
            "macro-f1000",
            "macro-f0.3333",
            "macro-f",
            "macro-f0",
            "macro-f-1",
            "global-at:0.4",
            "micro:0.9",
            "macro\n",
        ],
    ],
)
def test_unknown_objectives_are_refused(objective):
    with pytest.raises(DataError, match=r"unknown objective|expected a number from 0 to 1"):
        Objective.of(objective)
