"""Weights of positives: against scikit-learn and torch, by name and in order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits

from encode_once.cache import UsageError
from encode_once.classify import fit, heads
from encode_once.classify.heads import class_weights
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.mlp import MLP
from encode_once.classify.heads.torch import losses
from tests.classify.heads.test_linear import problem
from tests.conftest import examples

TINY = {"hidden": [4], "epochs": 2, "progress": False, "device": "cpu"}


@examples(8)
@given(st.integers(0, 10_000), st.lists(st.floats(0.2, 20), min_size=3, max_size=3))
def test_weighted_logistic_regression_is_that_of_scikit_learn(seed, weights):
    X, Y = problem(seed, 120, 6)
    head = Linear(Cs=[0.1], tolerance=1e-6, class_weights=weights, device="cpu").fit(X, Y, X, Y)
    for k, weight in enumerate(weights):
        other = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000, class_weight={0: 1, 1: weight})
        expected = other.fit(X.astype(np.float64), Y[:, k]).predict_proba(X)[:, 1]
        assert head.predict_proba(X)[:, k] == pytest.approx(expected, abs=2e-3)


def test_unknown_labels_have_no_weight():
    X, Y = problem(0, 120, 6)
    partial = np.where(np.arange(120)[:, None] % 3 == 0, -1, Y).astype(np.int8)
    labelled = np.arange(120) % 3 != 0
    settings = {"tolerance": 1e-6, "class_weights": [3, 1, 0.5], "device": "cpu"}
    head = Linear(Cs=[0.1], **settings).fit(X, partial, X, partial)
    alone = Linear(Cs=[0.1], **settings).fit(X[labelled], Y[labelled], X[labelled], Y[labelled])
    np.testing.assert_allclose(head.predict_proba(X), alone.predict_proba(X), atol=2e-3)


def test_the_loss_counts_positives_as_often_as_they_weigh():
    rng = np.random.default_rng(0)
    logits, Y = (
        torch.tensor(rng.normal(size=(7, 3))).float(),
        torch.tensor(rng.integers(0, 2, (7, 3))).float(),
    )
    weights = np.array([2.0, 1, 5])
    loss = losses.make("bce", Y.numpy(), positives=weights)(logits, Y)
    terms = binary_cross_entropy_with_logits(logits, Y, reduction="none").numpy()
    assert float(loss) == pytest.approx((terms * np.where(Y == 1, weights, 1)).mean(), rel=1e-5)


def test_auto_is_the_loss_with_balanced_weights_and_a_list_follows_the_classes():
    X, Y = problem(1, 80, 5)
    ratios = ((~Y).sum(axis=0) / Y.sum(axis=0)).clip(max=100)
    scores = [
        MLP(**TINY, **options).fit(X, Y, X, Y).predict_proba(X)
        for options in (
            {"class_weights": "auto"},
            {"loss": "bce+pos_weight"},
            {"class_weights": ratios.tolist()},
            {"class_weights": ratios[::-1].tolist()},
        )
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)
    assert np.abs(scores[0] - scores[3]).max() > 0.01


def test_weights_have_the_names_of_classes_in_fit(filled, tmp_path):
    store, settings = filled(), {"split": "tail:100", "validation": "tenth"}

    def scores(weights, **decision):
        run, _ = fit(
            store, "linear", options={"class_weights": weights}, run=tmp_path / str(weights)[:9],
            overwrite=True, **settings, **decision,
        )  # fmt: skip
        return run

    classes = scores("none").record.classes
    named = scores({classes[1]: 4})
    listed = scores([1, 4, *[1] * (len(classes) - 2)], decision="macro")
    np.testing.assert_array_equal(named.eval.scores, listed.eval.scores)
    assert not named.record.warnings
    assert "not probabilities; --calibrate sigmoid corrects them" in " ".join(listed.record.warnings)
    with pytest.raises(UsageError, match="unknown class 'absent'"):
        scores({"absent": 4})
    with pytest.raises(UsageError, match=r"the weight of .* is -1; use a number above 0"):
        scores({classes[0]: -1})


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("mlp", {"class_weights": "auto", "loss": "focal"}, "are for loss bce"),
        ("mlp", {"class_weights": "auto", "task": "single"}, "not for --task single"),
        ("linear", {"class_weights": [2], "task": "single"}, "not for --task single"),
        ("linear", {"class_weights": "aut"}, "did you mean 'auto'"),
        ("linear", {"class_weights": [-1]}, "a number > 0"),
        ("label-rnn", {"class_weights": "auto"}, "leave out class_weights"),
    ],
)
def test_what_has_no_weights_is_refused(head, options, message):
    with pytest.raises(UsageError, match=message):
        heads.make(head, **options)


def test_weights_do_not_fit_other_classes():
    X, Y = problem(1, 40, 4)
    with pytest.raises(UsageError, match="2 weights for 3 classes"):
        Linear(class_weights=[1, 2]).fit(X, Y, X, Y)
    with pytest.raises(UsageError, match="pass a list"):
        Linear(class_weights={"cat": 2}).fit(X, Y, X, Y)


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("linear", {"class_weights": [2.0, 1, 0.5]}),
        ("mlp", {"class_weights": [2.0, 1, 0.5], **TINY}),
        ("mlp", {"learning_rate": [1e-3, 1e-2], **TINY}),
    ],
)
def test_arrays_are_lists(head, options):
    X, Y = problem(1, 40, 4)
    arrays = {name: np.array(value) if isinstance(value, list) else value for name, value in options.items()}
    scores = [heads.make(head, **values).fit(X, Y, X, Y).predict_proba(X) for values in (options, arrays)]
    np.testing.assert_array_equal(*scores)


def test_weights_as_an_array_are_refused_like_a_list():
    assert class_weights.are_set({"class_weights": np.array([2.0, 1])})
    for head in ("linear", "mlp"):
        with pytest.raises(UsageError, match="not for --task single"):
            heads.make(head, class_weights=np.array([2.0]), task="single")
