import time

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.metrics import log_loss

from encode_once.cache.errors import DataError, UsageError
from encode_once.classify import fit, heads
from encode_once.classify.data import splits
from encode_once.classify.heads import auto, make
from encode_once.classify.heads.auto import Auto
from encode_once.classify.runs.loading import load_run

QUICK = {"heads": ["linear", "knn"], "progress": False}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)).astype(np.float32)
    return X, X @ rng.normal(size=(6, 3)) + rng.normal(size=(120, 3)) > 0


class Scripted(BaseEstimator):
    """A head whose scores are columns of X from `first` on, and which counts its fits and their rows."""

    takes_raw, warnings_, notes, STATE, CHOICES, OWN = False, (), (), (), {}, ()
    fits = ()  # the first column and the number of rows of each

    def __init__(self, first=0, seconds=0.0, seed=0):
        self.first, self.seconds, self.seed = first, seconds, seed

    def fit(self, X, Y, X_val=None, Y_val=None):
        time.sleep(self.seconds)
        self.c = Y.shape[1]
        Scripted.fits = [*Scripted.fits, (self.first, len(X))]
        return self

    def check(self):
        pass

    def predict_proba(self, X):
        return X[:][:, self.first : self.first + self.c]

    def state(self):
        return {}


@pytest.fixture
def scripted(monkeypatch):
    """Heads a, b and c, whose scores are columns of X: near the labels, nearer, and of a coin."""
    monkeypatch.setattr(Scripted, "fits", ())
    for name, first in (("a", 0), ("b", 2), ("c", 4)):
        monkeypatch.setitem(heads.HEADS, name, (__name__, "Scripted", {"first": first}))
    rng = np.random.default_rng(1)
    Y = rng.random((400, 2)) < 0.4
    noise = rng.normal(size=(3, 400, 2)) * np.array([1.5, 1.5, 2])[:, None, None]
    slopes = np.array([1.0, 1.1, 0])[:, None, None]
    logits = slopes * (2 * Y - 1.0) + noise
    return expit(np.concatenate([*logits], axis=1)).astype(np.float32), Y


def blend_of(head, logits):
    """The scores of a head's blend, from the logits of each of its heads, (heads, n, c)."""
    return expit(np.tensordot(head.weights_, logits, 1) + head.intercept_)


def test_heads_that_help_are_blended(scripted):
    X, Y = scripted
    head = Auto(heads=["a", "b", "c"], folds=4, progress=False).fit(X, Y)
    scores = X.reshape(400, 3, 2).swapaxes(0, 1)
    losses = [2 * log_loss(Y.ravel(), of_head.ravel().astype(float)) for of_head in scores]
    np.testing.assert_allclose(head.losses_, losses, rtol=1e-4)
    assert (head.weights_ > 0).tolist() == [True, True, False]
    np.testing.assert_allclose(head.predict_proba(X), blend_of(head, logit(scores)), atol=1e-4)
    assert 2 * log_loss(Y.ravel(), head.predict_proba(X).ravel().astype(float)) < min(losses)
    # Each head is fitted without each fold; those of the blend then on all rows.
    assert [*Scripted.fits] == [*[(0, 300)] * 4, *[(2, 300)] * 4, *[(4, 300)] * 4, (0, 400), (2, 400)]


def test_one_head_is_enough_where_another_adds_nothing(scripted):
    X, Y = scripted
    head = Auto(heads=["c", "b"], folds=2, progress=False).fit(X, Y)
    assert (head.weights_ > 0).tolist() == [False, True]
    assert [line.split()[::4] for line in head.notes[1:]] == [["b"], ["c"]]
    assert head.notes[1].endswith("100%")


def test_scores_out_of_fold_are_those_of_the_blend(data):
    X, Y = data
    folds = np.array_split(np.random.default_rng(3).permutation(120), 3)
    head = Auto(**QUICK)
    scores = head.fit_out_of_fold(X, Y, folds)
    for fold in folds:
        others = np.setdiff1d(np.arange(120), fold)
        fitted = [make(name).fit(X[others], Y[others]) for name in QUICK["heads"]]
        logits = [logit(head_of_fold.predict_proba(X[fold]).clip(1e-4, 1 - 1e-4)) for head_of_fold in fitted]
        np.testing.assert_allclose(scores[fold], blend_of(head, logits), atol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "tried", "fits"),
    [
        # Each fit of b takes less than the budget, but all of them take more.
        ({"b": 0.3}, ["a", "c"], 1),
        ({}, ["a", "b", "c"], 3),
    ],
)
def test_heads_beyond_the_budget_are_left_out_and_named(scripted, seconds, tried, fits):
    X, Y = scripted
    options = {name: {"seconds": value} for name, value in seconds.items()}
    head = Auto(heads=["a", "b", "c"], options=options, budget=1.0, folds=3, progress=False).fit(X, Y)
    assert [name for name, loss in zip("abc", head.losses_, strict=True) if loss >= 0] == tried
    assert sum(first == 2 and rows < 400 for first, rows in Scripted.fits) == fits
    if seconds:
        (warning,) = head.warnings_
        assert "left out" in warning
        assert "b (0.9 s)" in warning
        assert "--budget SECONDS" in warning
        assert [line.split()[0] for line in head.notes if line.endswith("left out")] == ["b"]
    else:
        assert not head.warnings_


def test_the_first_head_is_fitted_whatever_the_budget(data):
    X, Y = data
    head = Auto(budget=1e-9, folds=2, progress=False).fit(X, Y)
    assert [line.split()[0] for line in head.notes if line.endswith("100%")] == ["knn"]  # the cheapest
    assert "linear" in head.warnings_[0]
    assert "gbm" in head.warnings_[0]


def test_a_head_that_cross_fits_itself_is_fitted_once(data):
    X, Y = data
    options = {"gbm": {"rounds": 10, "min_rows": 5, "jobs": 1}}
    head = Auto(heads=["gbm"], options=options, progress=False)
    folds = np.array_split(np.arange(120), 4)
    scores = head.fit_out_of_fold(X, Y, folds)
    alone = make("gbm", progress=False, **options["gbm"])
    out_of_fold = alone.fit_out_of_fold(X, Y, folds)
    np.testing.assert_allclose(scores, blend_of(head, logit(out_of_fold)[None]), atol=1e-4)
    np.testing.assert_allclose(
        head.predict_proba(X), blend_of(head, logit(alone.predict_proba(X))[None]), atol=1e-4
    )


@pytest.mark.parametrize("validation", [True, False])
def test_many_rows_are_scored_once_by_heads_that_are_fitted_on_the_others(scripted, monkeypatch, validation):
    monkeypatch.setattr(auto, "CROSS_FITTED_UP_TO", 200)
    X, Y = scripted
    rows, other = np.arange(320), np.arange(320, 400)
    head = Auto(heads=["a", "b", "c"], progress=False)
    head.fit(X[rows], Y[rows], *((X[other], Y[other]) if validation else ()))
    fitted = 320 if validation else 288
    refitted = (
        []
        if validation
        else [(first, 320) for first, weight in zip((0, 2, 4), head.weights_, strict=True) if weight]
    )
    assert (*Scripted.fits,) == ((0, fitted), (2, fitted), (4, fitted), *refitted)
    if validation:
        expected = [2 * log_loss(Y[other].ravel(), X[other, k : k + 2].ravel()) for k in (0, 2, 4)]
        np.testing.assert_allclose(head.losses_, expected, rtol=1e-4)
    expected = blend_of(head, logit(X.reshape(400, 3, 2).swapaxes(0, 1)))
    np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-4)


def test_times_of_other_heads_are_estimated_from_those_that_were_fitted():
    clock = auto._Clock(100, (1000, 50, 10))
    assert clock.seconds_of("gbm") == 0
    for name in ("linear", "knn", "forest"):
        clock._seconds[name] = 2 * auto.COSTS[name](1000, 50, 10)
    assert clock.seconds_of("gbm") == pytest.approx(2 * auto.COSTS["gbm"](1000, 50, 10))
    assert clock.seconds_of("forest") == 2 * auto.COSTS["forest"](1000, 50, 10)
    clock._seconds["forest"] = clock._seconds["knn"] = 1e6  # a machine is not that slow
    assert clock.seconds_of("gbm") == pytest.approx(auto.SPEED * auto.COSTS["gbm"](1000, 50, 10))


def test_a_run_keeps_the_choice_and_tunes_on_scores_out_of_fold(filled, tmp_path):
    options = {**QUICK, "folds": 3}
    run, _ = fit(filled(90), "auto", options=options, validation="folds", run=tmp_path / "run")
    assert len(run.validation.scores) == len(run.fitted_on)
    (tmp_path / "run").rename(tmp_path / "moved")
    loaded = load_run(tmp_path / "moved")
    assert loaded.model.head.notes == run.model.head.notes
    X = np.random.default_rng(0).normal(size=(5, run.model.mean.size)).astype(np.float32)
    np.testing.assert_allclose(loaded.model.scores(X), run.model.scores(X), atol=1e-6)


def test_sequences_are_read_by_heads_that_can(data):
    X, Y = data
    X, Y = X[:30], Y[:30]
    options = {"attention": {"epochs": 1, "width": 8}}
    head = Auto(shapes=[(1, 2), (2, 2)], heads=["linear", "attention"], options=options, folds=2,
                progress=False)  # fmt: skip
    head.fit(X, Y)
    assert (head.losses_ > 0).all()
    folds = splits.folds("kfold:2", Y, {}, splits.position_draws(len(Y), 0))
    scores = np.empty(Y.shape)
    for fold, others in (folds, folds[::-1]):  # linear learns from the vectors alone
        scores[fold] = make("linear").fit(X[others, :2], Y[others]).predict_proba(X[fold, :2])
    assert head.losses_[0] == pytest.approx(3 * log_loss(Y.ravel(), scores.ravel()), rel=1e-3)
    assert Auto(shapes=[(1, 2), (2, 2)])._names == [*auto.VECTOR_HEADS, *auto.SEQUENCE_HEADS]
    assert Auto(shapes=[(2, 2)])._names == [*auto.SEQUENCE_HEADS]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0}, UsageError, "a budget of 0 s allows no fit"),
        ({"heads": ["linaer"]}, UsageError, "did you mean 'linear'"),
        ({"options": {"linaer": {}}}, UsageError, "unknown head of auto 'linaer': did you mean 'linear'"),
        ({"options": {"linear": {"C": 1}}}, UsageError, "unknown option of head 'linear' 'C'"),
        ({"shapes": [(2, 3)], "heads": ["linear"]}, DataError, "head linear cannot take"),
    ],
)
def test_options_that_cannot_be_used_are_an_error(data, options, error, message):
    with pytest.raises(error, match=message):
        Auto(**options).fit(*data)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("losses", lambda losses: losses[:1], "losses and weights"),
        ("weights", lambda weights: 0 * weights, "losses and weights"),
        ("intercept", lambda intercept: intercept[:0], "one intercept"),
    ],
)
def test_a_damaged_state_is_an_error(data, name, change, message):
    state = Auto(**QUICK).fit(*data).state()
    with pytest.raises(ValueError, match=message):
        Auto(**QUICK).load_state({**state, name: change(state[name])})
