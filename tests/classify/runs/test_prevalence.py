"""`predict --prevalence`: labels of rows in which classes are rarer or more frequent than in tuning rows."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from encode_once.cache import DataError, UsageError
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.prevalence import check_correctable, decided, text

CLASSES = ["cat", "dog", "boat"]
SHARES = [0.5, 0.3, 0.2]


def rows_of(rng, n, shares):
    """Scores and labels of n rows with these shares of three classes."""
    labels = rng.random((n, 3)) < shares
    return expit(rng.normal(size=(n, 3)) + 3 * labels - 2), labels.astype(np.int8)


def labelled(run, scores):
    return decided(run, run.decision.probabilities(scores), None)


@pytest.fixture
def run():
    """What `decided` reads of a run with 1,000 tuning rows."""
    scores, labels = rows_of(np.random.default_rng(0), 1000, SHARES)
    return SimpleNamespace(
        path="runs/a",
        spec=SimpleNamespace(task="multi"),
        record=SimpleNamespace(classes=CLASSES, untrained=[]),
        validation=SimpleNamespace(scores=scores, labels=labels),
        decision=DecisionSpec().fit(scores, labels, intervals=False),
        pairs=None,
    )


@pytest.mark.parametrize("rule", ["expected-mean", "expected-f1"])
def test_a_class_that_became_rare_is_predicted_less(run, rule):
    run.decision = DecisionSpec(decide=rule).fit(run.validation.scores, run.validation.labels, False)
    scores, labels = rows_of(np.random.default_rng(1), 2000, [0.05, *SHARES[1:]])
    predicted = labelled(run, scores)
    corrected = decided(run, predicted.probabilities, "em")
    prevalence = corrected.prevalence
    assert prevalence["cat"]["before"] == pytest.approx(0.5, abs=0.03)
    assert prevalence["cat"]["after"] == pytest.approx(0.05, abs=0.02)
    wrong, wrong_before = ((part.labels[:, 0] != labels[:, 0]).sum() for part in (corrected, predicted))
    assert wrong < 0.5 * wrong_before
    assert text(prevalence).startswith("prevalence: cat 0.")
    same = np.array([row["before"] == row["after"] for row in prevalence.values()])
    np.testing.assert_array_equal(corrected.probabilities[:, same], predicted.probabilities[:, same])


def test_the_tuning_rows_have_no_shift(run):
    predicted = labelled(run, run.validation.scores)
    corrected = decided(run, predicted.probabilities, "em")
    prevalence = corrected.prevalence
    np.testing.assert_array_equal(corrected.labels, predicted.labels)
    assert text(prevalence) == "prevalence: 3 of 3 classes without a shift"


def test_a_class_without_a_positive_train_row_is_not_corrected(run):
    run.record.untrained = ["cat"]
    scores, _ = rows_of(np.random.default_rng(1), 500, [0.05, *SHARES[1:]])
    prevalence = decided(run, run.decision.probabilities(scores), "em").prevalence
    assert prevalence["cat"]["before"] == prevalence["cat"]["after"]


def test_probabilities_of_a_hierarchy_stay_closed_upward(run):
    run.pairs = np.array([[1, 0]])  # every dog is a cat
    run.decision = run.decision.with_pairs(run.pairs)
    scores, _ = rows_of(np.random.default_rng(1), 500, [0.05, 0.6, 0.2])
    corrected = decided(run, run.decision.probabilities(scores), "em")
    assert (corrected.probabilities[:, 0] >= corrected.probabilities[:, 1]).all()
    assert (corrected.labels[:, 0] >= corrected.labels[:, 1]).all()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (DecisionSpec("micro"), "needs calibrated scores.*tune runs/a --decide expected-mean"),
        (DecisionSpec("micro", calibrate="sigmoid"), "tuned for the prevalence"),
        (DecisionSpec(decide="argmax"), "exactly one label"),
        (DecisionSpec("at:0.4", calibrate="sigmoid"), None),
        (DecisionSpec("cost:2/1"), None),
    ],
)
def test_rules_that_do_not_follow_from_probabilities_are_refused(run, spec, problem):
    run.decision = spec.fit(run.validation.scores, run.validation.labels, intervals=False)
    if problem is None:
        check_correctable(run)
        return
    with pytest.raises(UsageError, match=problem):
        check_correctable(run)


def test_few_rows_are_refused(run):
    with pytest.raises(DataError, match="49 rows do not say how frequent classes are"):
        decided(run, run.validation.scores[:49], "em")


def test_the_largest_shifts_are_named():
    prevalence = {f"c{k}": {"before": 0.1, "after": 0.1 + 0.1 * k} for k in range(8)}
    assert text(prevalence) == (
        "prevalence: c7 0.100 → 0.800, c6 0.100 → 0.700, c5 0.100 → 0.600, c4 0.100 → 0.500, "
        "c3 0.100 → 0.400, 2 others less, 1 of 8 classes without a shift"
    )
