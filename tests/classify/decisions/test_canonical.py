"""Nothing that is decided or measured depends on the order of rows and classes."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit

from encode_once.cache import content_key
from encode_once.cache.keys import pack
from encode_once.classify.data.rows import content_order
from encode_once.classify.decisions.calibration import METHODS
from encode_once.classify.decisions.canonical import canonical_order
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.objectives import NAMES
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.evaluation.intervals import CLASS_F1, resampled
from encode_once.classify.evaluation.metrics import measure
from tests.conftest import examples


@st.composite
def problems(draw, steps=(2, 5, 1000)):
    """Scores and labels, often with ties, empty and full classes; an order of the rows and of the classes."""
    n, c = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = draw(st.sampled_from(steps))
    labels = rng.random((n, c)) < rng.random(c) ** 2
    noise = rng.random((n, c))
    scores = np.round((0.4 * labels + 0.6 * noise) * levels) / levels
    return scores.astype(np.float32), labels, rng.permutation(n), rng.permutation(c)


def distinguishable(scores, labels):
    """Whether no two classes have the same scores and labels in some order of the rows."""
    columns = [
        sorted(zip(*column, strict=True)) for column in zip(scores.T.tolist(), labels.T.tolist(), strict=True)
    ]
    return all(column not in columns[:c] for c, column in enumerate(columns))


@examples(200)
@given(problem=problems())
def test_the_order_of_distinct_rows_and_classes_depends_on_their_contents(problem):
    scores, labels, rows, classes = problem
    assume(distinguishable(scores, labels))
    tables = []
    for block in (np.ix_(np.arange(len(rows)), np.arange(len(classes))), np.ix_(rows, classes)):
        order = np.ix_(*canonical_order(scores[block], labels[block]))
        tables.append((scores[block][order], labels[block][order]))
    np.testing.assert_array_equal(*(first for first, _ in tables))
    np.testing.assert_array_equal(*(second for _, second in tables))


def test_numpy_and_torch_have_the_same_order_also_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 7)), rng.random((50, 7)) < 0.4
    expected = canonical_order(scores, labels)
    monkeypatch.setattr("encode_once.classify.decisions.canonical.BLOCK", 20)
    for of_blocks, of_torch, order in zip(
        canonical_order(scores, labels),
        canonical_order(torch.from_numpy(scores), torch.from_numpy(labels)),
        expected,
        strict=True,
    ):
        np.testing.assert_array_equal(of_blocks, order)
        np.testing.assert_array_equal(of_torch.numpy(), order)


def fitted(spec, scores, labels):
    """The rule, and everything in it that belongs to a class."""
    rule = spec.fit(scores, labels)
    per_class = [rule.thresholds]
    if rule.estimate.intervals is not None:
        per_class += [*rule.estimate.intervals.T]
    if rule.estimate.guarantee is not None:
        per_class += [rule.estimate.guarantee.precision, rule.estimate.guarantee.recall]
    if rule.calibration and rule.calibration.method != "isotonic":
        per_class += [*np.transpose(rule.calibration.parameters)]
    return rule, np.stack(per_class)


SPECS = [
    *(DecisionSpec(objective, shrink) for objective in NAMES for shrink in (True, False)),
    *(DecisionSpec(calibrate=method) for method in METHODS),
    *(DecisionSpec(decide="expected-f1", calibrate=method) for method in ("none", *METHODS)),
    DecisionSpec("micro", at_least=1, at_most=2),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@examples(20)
@given(problem=problems())
def test_no_rule_depends_on_the_order_of_rows_and_classes(spec, problem):
    """Two classes are permuted alike unless nothing but their place distinguishes them."""
    scores, labels, rows, classes = problem
    assume(distinguishable(scores, labels))
    block = np.ix_(rows, classes)
    rule, per_class = fitted(spec, scores, labels)
    permuted, of_permuted = fitted(spec, scores[block], labels[block])
    np.testing.assert_array_equal(of_permuted, per_class[:, classes])
    assert rule.estimate.loss == permuted.estimate.loss
    np.testing.assert_array_equal(permuted.probabilities(scores[block]), rule.probabilities(scores)[block])
    np.testing.assert_array_equal(permuted(scores[block]), rule(scores)[block])


@pytest.mark.parametrize("objective", [name for name in NAMES if name != "samples"])
@examples(20)
@given(problem=problems(steps=(1, 2)))
def test_equal_classes_have_equal_thresholds(objective, problem):
    scores, labels, _, _ = problem
    twice = np.r_[np.arange(scores.shape[1]), 0]
    for shrink in (True, False):
        thresholds = DecisionSpec(objective, shrink).fit(scores[:, twice], labels[:, twice]).thresholds
        assert thresholds[0] == thresholds[-1]


@pytest.mark.parametrize("objective", NAMES)
@examples(20)
@given(problem=problems())
def test_exact_thresholds_do_not_depend_on_the_order(objective, problem):
    scores, labels, rows, classes = problem
    assume(distinguishable(scores, labels))
    thresholds = tune(scores[rows][:, classes], labels[rows][:, classes], objective)
    np.testing.assert_array_equal(thresholds, tune(scores, labels, objective)[classes])


@examples(60)
@given(
    problem=problems(steps=(2, 5)),
    at_most=st.none() | st.integers(1, 3),
    decide=st.sampled_from(["thresholds", "expected-f1"]),
)
def test_ties_within_a_row_go_to_the_most_frequent_label_after_a_round_trip_too(problem, at_most, decide):
    scores, labels, _, classes = problem
    names = [f"class {number}" for number in range(len(classes))]
    spec = DecisionSpec("at:0.4", decide=decide, calibrate="none", at_least=1, at_most=at_most)
    rule = spec.fit(scores, labels)
    reversed_names = names[::-1]
    again = DecisionRule.of_json(rule.as_json(names), reversed_names)
    predictions = rule(scores)
    np.testing.assert_array_equal(again(scores[:, ::-1]), predictions[:, ::-1])
    support = labels.sum(axis=0)
    for row, chosen in zip(scores, predictions, strict=True):
        for first in np.flatnonzero(chosen):
            tied = (row == row[first]) & ~chosen
            assert (support[tied] <= support[first]).all()


@examples(40)
@given(problem=problems(), together=st.integers(1, 5), seed=st.integers(0, 3))
def test_no_interval_depends_on_the_order_of_rows_and_classes(problem, together, seed):
    scores, labels, rows, classes = problem
    predictions = scores >= 0.5
    groups = np.arange(len(rows)) // together
    keys = pack(content_key(b"%d" % (row // 2)) for row in range(len(rows)))
    ids = [f"{row:03}" for row in range(len(rows))]
    expected = resampled(labels, predictions, scores, groups, 20, seed, content_order(keys, ids))
    block = np.ix_(rows, classes)
    order = content_order(keys[rows], [ids[row] for row in rows])
    other_numbers = groups.max() - groups[rows]
    drawn = resampled(labels[block], predictions[block], scores[block], other_numbers, 20, seed, order)
    for name, values in expected.items():
        same = values[:, classes] if name == CLASS_F1 else values
        np.testing.assert_allclose(drawn[name], same, rtol=0, atol=1e-12, err_msg=name)


@examples(60)
@given(problem=problems())
def test_no_metric_depends_on_the_order_of_rows_and_classes(problem):
    scores, labels, rows, classes = problem
    block, predictions = np.ix_(rows, classes), scores >= 0.5
    names = [f"class {number}" for number in range(len(classes))]
    first = measure(labels, predictions, scores, names)
    second = measure(labels[block], predictions[block], scores[block], [names[c] for c in classes])
    by_class = {row["label"]: row for row in second.pop("per_class")}
    for row in first.pop("per_class"):
        assert by_class[row["label"]] == pytest.approx(row, abs=1e-12)
    cells, others = (
        [*map(sorted, map(dict.items, figures.pop("confusion", ())))] for figures in (first, second)
    )
    assert sorted(cells, key=str) == sorted(others, key=str)
    assert second == pytest.approx(first, abs=1e-12)


def test_macro_f1_is_the_same_for_twelve_orders_of_the_classes():
    """It was .600 to .629: the bootstrap's draws were dealt out in the order of the classes."""
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 1.5, (250, 12))
    labels, scores = rng.random(z.shape) < expit(z), expit(z + rng.normal(0, 1, z.shape))
    figures = set()
    for _ in range(12):
        order = rng.permutation(12)
        rule = DecisionSpec("macro").fit(scores[:, order], labels[:, order])
        figures.add(
            measure(labels[:, order], rule(scores[:, order]), scores[:, order], ["c"] * 12)["macro_f1"]
        )
    assert max(figures) - min(figures) < 1e-12
