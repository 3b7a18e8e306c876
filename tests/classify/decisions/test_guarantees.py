"""Guaranteed precision and recall, compared with SciPy's exact interval and in a simulation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from encode_once.classify.bench.intervals import guarantees
from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.guarantees import MISSES, _pass_by_row
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from tests.conftest import examples


def bound(hits, size):
    """SciPy's one-sided Clopper-Pearson bound."""
    test = binomtest(hits, size, alternative="greater")
    return test.proportion_ci(confidence_level=1 - MISSES, method="exact").low


def certified(scores, labels, objective):
    """How many scores a class's threshold selects, computed plainly with SciPy."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], labels[order]
    measure, share = objective.split(":")
    ends = [k for k in range(1, len(truth) + 1) if k == len(truth) or ranked[k - 1] > ranked[k]]
    if not truth.any():
        return 0
    if measure == "recall":
        sure = (k for k in ends if truth[:k].any() and bound(truth[:k].sum(), truth.sum()) >= float(share))
        return next(sure, len(truth))
    first = next(k for k in range(1, 10_000) if bound(k, k) >= float(share))
    taken = 0
    for k in ends:
        if k < first:
            continue
        if bound(truth[:k].sum(), k) < float(share):
            break
        taken = k
    return taken


@examples(60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    steps=st.integers(1, 200),
    frequency=st.floats(0, 1),
    objective=st.sampled_from(["precision:0.5", "precision:0.8", "recall:0.5", "recall:0.9"]),
)
def test_thresholds_are_those_of_scipys_exact_bound(seed, n, steps, frequency, objective):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 2)) < frequency
    scores = np.round((0.5 * labels + 0.5 * rng.random((n, 2))) * steps) / steps
    thresholds = DecisionSpec(objective).fit(scores, labels).thresholds
    for k in range(2):
        assert (scores[:, k] >= thresholds[k]).sum() == certified(scores[:, k], labels[:, k], objective)


def test_the_sequence_of_tests_stops_at_the_first_that_fails():
    """4 of 4 pass, 4 of 5 fail, 34 of 35 would pass again: the best of many tests may pass by chance."""
    labels = np.ones((40, 1), bool)
    labels[4] = labels[35:] = False
    scores = np.linspace(0.9, 0.1, 40)[:, None]
    predictions = DecisionSpec("precision:0.5").fit(scores, labels)(scores)
    assert predictions.sum() == 4 == certified(scores[:, 0], labels[:, 0], "precision:0.5")


def test_at_most_the_stated_share_of_classes_misses_on_unseen_rows():
    """Without the guarantee about half of them miss; the expected cost is the real one."""
    for row in guarantees(1000, repeats=10, classes=19):
        assert row["tuned on"] == 1000
        if row["guarantee"] == "yes":
            assert row["missing"] <= MISSES + 2 * row["standard error of missing"], row
            assert row["expected"] == pytest.approx(row["real"], abs=0.02)
        else:
            assert row["missing"] > 0.45, row


def test_classes_with_too_few_positives_are_never_or_always_predicted_and_counted():
    """20 positives of as many rows cannot prove .9, as .9²⁰ = .12; 22 can."""
    labels = np.ones((60, 3), bool)
    labels[20:, 0] = labels[22:, 1] = labels[:, 2] = False
    scores = np.where(labels, 0.8, 0.2) - np.arange(60)[:, None] / 1000
    rule = DecisionSpec("precision:0.9").fit(scores, labels)
    assert rule(scores).sum(axis=0).tolist() == [0, 22, 0]
    guarantee = rule.as_json(["few", "enough", "none"])["guarantee"]
    assert guarantee == {
        "measure": "precision",
        "at_least": 0.9,
        "confidence": 0.9,
        "never": ["few", "none"],
        "always": [],
        "expected_precision": {"few": None, "enough": 1.0, "none": None},
        "expected_recall": {"few": 0.0, "enough": 1.0, "none": None},
    }
    assert rule.summary["guarantee"].startswith("expected recall 0.500")
    assert "2 of 3 classes never predicted" in rule.summary["guarantee"]
    assert "--no-shrink" in rule.summary["guarantee"]
    rule = DecisionSpec("recall:0.9").fit(scores, labels)
    assert rule(scores).sum(axis=0).tolist() == [60, 22, 0]
    guarantee = rule.as_json(["few", "enough", "none"])["guarantee"]
    assert (guarantee["never"], guarantee["always"]) == (["none"], ["few"])
    assert "1 of 3 classes predicted in every row" in rule.summary["guarantee"]


@pytest.mark.parametrize("objective", ["precision:0.9", "global-recall:0.5", "precision:1", "recall:0"])
def test_a_guarantee_survives_json(objective):
    classes = [*map(str, range(5))]
    rule = DecisionSpec(objective).fit(*synthetic_scores(400, 5))
    content = json.loads(json.dumps(rule.as_json(classes), allow_nan=False))
    again = DecisionRule.of_json(content, classes)
    assert again.as_json(classes) == content
    assert again.summary == rule.summary
    del content["guarantee"]  # of a run of an earlier version
    assert DecisionRule.of_json(content, classes).estimate.guarantee is None


def test_no_shrink_keeps_the_optimum_on_the_tuning_rows():
    scores, labels = synthetic_scores(500, 6)
    for objective in ("precision:0.9", "global-recall:0.9"):
        rule = DecisionSpec(objective, shrink=False).fit(scores, labels)
        np.testing.assert_array_equal(rule.thresholds, tune(scores, labels, objective))
        assert rule.as_json([*"abcdef"])["guarantee"] is None
        assert rule.summary["decided"].endswith("exactly")


@pytest.mark.parametrize("objective", ["global-precision:0.9", "global-recall:0.9"])
def test_a_shared_threshold_holds_for_all_classes_together(objective):
    unseen, truth = synthetic_scores(30_000, 10, 999)
    missed = 0
    for seed in range(40):
        predicted = unseen >= DecisionSpec(objective).fit(*synthetic_scores(1000, 10, seed)).thresholds
        size = predicted.sum() if "precision" in objective else truth.sum()
        missed += (predicted & truth).sum() < 0.9 * size
    assert missed <= 10  # 4 and three standard errors of 1.9


def test_several_scores_of_a_row_count_as_one():
    """Incremental sums of squares by row, compared with summing the first k scores again for every k."""
    rng = np.random.default_rng(0)
    steps, rows, start = rng.normal(0.05, 1, 50), rng.integers(0, 8, 50), rng.normal(size=8)
    for begin in (np.zeros(8), start):
        expected = []
        for k in range(51):
            sums = np.bincount(rows[:k], steps[:k], minlength=8) + begin
            expected.append(norm.sf(sums.sum() / max(np.sqrt((sums**2).sum()), 1e-6)) <= MISSES)
        assert _pass_by_row(steps, rows, begin).tolist() == expected
    assert 0 < sum(expected) < 51
