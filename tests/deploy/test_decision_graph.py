"""Decision rules as ONNX operators, run by onnxruntime, against the rules and sums over all outcomes."""

import io
from dataclasses import replace
from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from encode_once.cache.process import silenced
from encode_once.classify import DecisionSpec
from encode_once.classify.data.hierarchy import raised
from encode_once.classify.decisions.expected_f1 import expected_f1
from encode_once.classify.decisions.expected_mean import quadrature
from encode_once.deploy.decision_graph import DecisionGraph, ExpectedF1Graph
from tests.conftest import examples


def sigmoid(z):
    return (1 / (1 + np.exp(-z))).astype(np.float32)


def rule_of(spec, n, c, seed=0, least=0):
    """A rule, fitted on random scores of which many are tied."""
    rng = np.random.default_rng(seed)
    scores = sigmoid(rng.normal(size=(n, c)) * 2 - 1).round(1 + seed % 3)
    labels = rng.random((n, c)) < scores
    labels[:, 0] |= labels.sum(axis=1) < least
    return spec.fit(scores, labels)


def run_graph(rule, scores):
    """Probabilities and labels that onnxruntime gives."""
    file = io.BytesIO()
    names = ["scores", "probabilities", "labels"]
    with silenced(1, 2):
        torch.onnx.export(
            DecisionGraph(rule), (torch.from_numpy(scores),), file,
            input_names=names[:1], output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names}, opset_version=17, dynamo=False,
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"scores": scores})


SPECS = [
    DecisionSpec(),
    DecisionSpec(at_least=2, at_most=3),
    DecisionSpec(at_most=1),
    DecisionSpec(calibrate="none"),
    DecisionSpec(decide="expected-f1", at_least=2, at_most=3),
    DecisionSpec(decide="expected-f1", calibrate="none"),
    DecisionSpec(calibrate="isotonic"),
    DecisionSpec("macro"),
    DecisionSpec("micro", calibrate="sigmoid"),
    DecisionSpec("micro", calibrate="isotonic"),
    DecisionSpec("samples", at_least=1),
    DecisionSpec("micro", at_least=1, at_most=2, calibrate="temperature"),
    DecisionSpec("precision:0.9"),
    DecisionSpec("none"),
    DecisionSpec(decide="argmax"),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("n", "c", "least"), [(40, 1, 0), (60, 5, 1), (80, 40, 0)])
def test_onnxruntime_chooses_the_labels_of_the_rule(spec, n, c, least):
    if spec.decide == "argmax" and c == 1:
        pytest.skip("argmax chooses among several classes")
    rule = rule_of(spec, n, c, seed=c, least=least)
    rng = np.random.default_rng(1)
    scores = sigmoid(rng.normal(size=(50, c)) * 3 - 1)
    scores[::2] = scores[::2].round(1)  # ties within a row, scores of exactly 0 and 1
    scores[0], scores[1] = 0, 1
    probabilities, labels = run_graph(rule, scores)
    expected = rule.probabilities(scores)
    np.testing.assert_allclose(probabilities, expected, atol=1e-12)
    np.testing.assert_array_equal(labels, rule.choose(expected))


@pytest.mark.parametrize("spec", [DecisionSpec(), DecisionSpec("macro", at_most=2)], ids=str)
def test_onnxruntime_closes_scores_and_labels_upward(spec):
    c = 7
    pairs = np.array([[0, 1], [0, 4], [1, 4], [2, 4], [3, 5], [0, 5]])
    rng = np.random.default_rng(0)
    rule = spec.fit(sigmoid(rng.normal(size=(60, c))), raised(rng.random((60, c)) < 0.2, pairs), pairs=pairs)
    scores = sigmoid(rng.normal(size=(50, c)) * 3 - 1)
    probabilities, labels = run_graph(rule, scores)
    expected = rule.probabilities(scores)
    np.testing.assert_allclose(probabilities, expected, atol=1e-12)
    np.testing.assert_array_equal(labels, rule.choose(expected))
    without = rule.with_pairs(None)
    assert (labels != without(scores)).any()
    assert (probabilities - without.probabilities(scores) > 0.01).any()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.booleans())
@examples(60)
def test_the_integral_is_the_expected_f1_over_all_outcomes(p, may_be_empty):
    p = np.array(p)
    c = len(p)
    rule = rule_of(DecisionSpec(decide="expected-f1", calibrate="none"), 30, c)
    graph = ExpectedF1Graph(replace(rule, sizes=(1 - may_be_empty, c)))
    outcomes = np.array([*product([0, 1], repeat=c)])
    chances = np.where(outcomes, p, 1 - p).prod(axis=1)
    order = np.argsort(-p, kind="stable")
    values = [chances[outcomes.sum(axis=1) == 0].sum() if may_be_empty else -1]
    for k in range(1, c + 1):
        hits = outcomes[:, order[:k]].sum(axis=1)
        values.append((chances * 2 * hits / (k + outcomes.sum(axis=1))).sum())
    gaps = max(values) - np.array(values)
    assume(((gaps < 1e-13) | (gaps > 1e-11)).all())  # else it depends on rounding which sets are equal
    _, size = graph(torch.from_numpy(p)[None])
    assert size.item() == int(np.argmax(gaps < 1e-12))


@pytest.mark.parametrize(("c", "largest"), [(1, 1), (2, 2), (80, 80), (400, 20), (1000, 60)])
@pytest.mark.parametrize("mean", [0.01, 3, 40])
def test_few_nodes_give_the_sums_of_the_recursion(c, largest, mean):
    """Also where labels are many, and some certain."""
    p = np.sort(np.random.default_rng(0).beta(0.3, 2, c))[::-1]
    p = np.clip(p * mean / p.sum(), 0, 1)[None]
    nodes, weights = quadrature(c, largest, p.sum())
    factors = 1 - p.T + p.T * nodes  # (c, nodes)
    sums = (p.T / factors).cumsum(axis=0)[:largest]
    integrals = (sums * factors.prod(axis=0) * weights.T).sum(axis=1)
    np.testing.assert_allclose(integrals, expected_f1(p, largest, c)[0], rtol=0, atol=1e-13)
