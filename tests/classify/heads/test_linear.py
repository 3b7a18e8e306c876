import gzip

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from encode_once.cache.errors import DataError
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.splits import position_draws, validation_split
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads import linear, sparse_rows
from encode_once.classify.heads.linear import Linear, _Problem
from encode_once.classify.heads.mlp import MLP
from tests.conftest import examples

CS = (0.001, 0.01, 0.1, 1.0, 10.0)


def problem(seed, n, d, c=3):
    """Correlated features of different scales and means, and labels from rare to common."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * rng.lognormal(size=d) + rng.normal(size=d)
    Y = X @ rng.normal(size=(d, c)) / X.std() + rng.logistic(size=(n, c)) > np.linspace(-2, 3, c)
    Y[:2], Y[2:4] = True, False  # both occur in every class
    return X.astype(np.float32), Y


def logistic(X, y, C):
    return LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(X.astype(np.float64), y)


@examples(25)
@given(seed=st.integers(0, 10_000), n=st.integers(30, 200), d=st.integers(1, 60), C=st.sampled_from(CS))
def test_scores_are_those_of_logistic_regression(seed, n, d, C):
    X, Y = problem(seed, n, d)
    scores = Linear(Cs=[C], tolerance=1e-6, device="cpu").fit(X, Y, X, Y).predict_proba(X)
    for k in range(Y.shape[1]):
        assert scores[:, k] == pytest.approx(logistic(X, Y[:, k], C).predict_proba(X)[:, 1], abs=2e-3)


def one_label(seed, n, d, c):
    """The same features, and rows of one class each, all of which occur."""
    X, _ = problem(seed, n, d)
    rng = np.random.default_rng(seed)
    truth = (X @ rng.normal(size=(d, c)) / X.std() + rng.gumbel(size=(n, c))).argmax(axis=1)
    truth[:c] = np.arange(c)
    return X, truth, np.eye(c, dtype=bool)[truth]


@examples(15)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(30, 150),
    d=st.integers(1, 40),
    c=st.integers(3, 6),
    C=st.sampled_from(CS),
)
def test_of_one_label_per_row_scores_are_those_of_multinomial_regression(seed, n, d, c, C):
    X, truth, Y = one_label(seed, n, d, c)
    head = Linear(Cs=[C], tolerance=1e-6, device="cpu", task="single").fit(X, Y, X, Y)
    expected = logistic(X, truth, C).predict_proba(X)
    assert head.predict_proba(X) == pytest.approx(expected, abs=4e-3)
    assert (head.predict(X).sum(axis=1) == 1).all()


def test_of_one_label_per_row_the_least_cross_entropy_chooses_the_strength():
    X, truth, Y = one_label(3, 300, 30, 4)
    head = Linear(Cs=CS, tolerance=1e-6, device="cpu", task="single").fit(X[150:], Y[150:], X[:150], Y[:150])
    losses = [log_loss(truth[:150], logistic(X[150:], truth[150:], C).predict_proba(X[:150])) for C in CS]
    np.testing.assert_allclose(head.C_, CS[int(np.argmin(losses))])


def test_of_one_label_per_row_sparse_rows_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.random((120, 300)) * (rng.random((120, 300)) < 0.03)).astype(np.float32)
    Y = np.eye(3, dtype=bool)[np.arange(120) % 3]
    options = {"Cs": [1.0], "tolerance": 1e-6, "device": "cpu", "task": "single"}
    dense = Linear(**options).fit(X, Y, X, Y).predict_proba(X)
    monkeypatch.setattr(sparse_rows, "WIDE", 100)
    assert Linear(**options).fit(X, Y, X, Y).predict_proba(X) == pytest.approx(dense, abs=1e-3)


@pytest.mark.parametrize("head", [Linear, MLP])
def test_rows_of_no_or_several_labels_are_refused_where_each_must_have_one(head):
    X, _, Y = one_label(3, 30, 5, 4)
    Y[:2], Y[2] = False, True
    with pytest.raises(DataError, match="table: 2 of 30 rows have no label, and 1 of 30 rows have several"):
        head(task="single", device="cpu").fit(X, Y)


def test_all_classes_share_the_strength_of_least_validation_loss():
    X, Y = problem(1, 400, 30)
    X_val, Y_val, X, Y = X[:200], Y[:200], X[200:], Y[200:]
    losses = [
        [log_loss(Y_val[:, k], logistic(X, Y[:, k], C).predict_proba(X_val)[:, 1]) for k in range(3)]
        for C in CS
    ]
    head = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X, Y, X_val, Y_val)
    shared = CS[int(np.mean(losses, axis=1).argmin())]
    np.testing.assert_allclose(head.C_, shared)
    assert {CS[best] for best in np.argmin(losses, axis=0)} > {shared}  # a class alone would differ


@pytest.mark.parametrize(("n", "d"), [(400, 60), (60, 200), (400, 10)])
def test_components_confine_the_weights_to_the_first_principal_axes(n, d):
    X, Y = problem(4, n, d)
    X[:, :5] *= 100  # so that five axes are certain
    head = Linear(Cs=[0.01], components=5, tolerance=1e-6, device="cpu").fit(X, Y, X, Y)
    centred = X - X.mean(axis=0)
    axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][:5].T
    for k in range(Y.shape[1]):
        expected = logistic(centred @ axes, Y[:, k], 0.01).predict_proba(centred @ axes)[:, 1]
        assert head.predict_proba(X)[:, k] == pytest.approx(expected, abs=5e-3)
    assert np.linalg.matrix_rank(head.coef_ @ axes @ axes.T - head.coef_, tol=1e-3) == 0


@pytest.mark.parametrize(("n", "d"), [(3_000, 400), (300, 500)])
def test_components_are_close_to_the_first_principal_axes_of_slowly_decaying_variances(n, d):
    """A sample of the rows, or no iteration, finds an overlap of .7 or less."""
    rng = np.random.default_rng(0)
    Z = (rng.normal(size=(n, d)) / np.sqrt(np.arange(1, d + 1))).astype(np.float32)
    Z -= Z.mean(axis=0)
    variances, axes = (part.numpy() for part in linear._principal_axes(torch.from_numpy(Z), 40))
    _, singular, rows = np.linalg.svd(Z.astype(np.float64), full_matrices=False)
    assert np.allclose(axes.T @ axes, np.eye(40), atol=1e-5)
    assert ((rows[:40] @ axes) ** 2).sum() / 40 > 0.93
    explained = (singular[:40] ** 2).sum() / n
    assert 0.99 * explained < variances.sum() <= explained * (1 + 1e-5)


def test_as_many_components_as_columns_or_rows_are_all_of_them():
    X, Y = problem(5, 100, 30)
    plain = Linear(Cs=CS, device="cpu").fit(X, Y, X, Y).predict_proba(X)
    for components in (30, 5_000):
        scores = Linear(Cs=CS, components=components, device="cpu").fit(X, Y, X, Y).predict_proba(X)
        assert scores == pytest.approx(plain, abs=1e-3)


def test_components_of_sparse_rows_are_all_columns_and_a_note_says_so(monkeypatch):
    monkeypatch.setattr(sparse_rows, "WIDE", 100)
    rng = np.random.default_rng(0)
    X = (rng.random((120, 300)) * (rng.random((120, 300)) < 0.03)).astype(np.float32)
    Y = X[:, :3] > 0
    head = Linear(Cs=[1.0], components=5, device="cpu").fit(X, Y, X, Y)
    assert head.notes == [
        "head linear kept all columns, which are sparse: its option components has no effect"
    ]
    plain = Linear(Cs=[1.0], device="cpu").fit(X, Y, X, Y)
    assert not plain.notes
    assert np.array_equal(head.coef_, plain.coef_)


def test_weaker_penalties_are_not_tried_once_the_validation_loss_rises(monkeypatch):
    X, Y = problem(1, 400, 30)
    solved, solve = [], _Problem.solve
    monkeypatch.setattr(_Problem, "solve", lambda self, C, tol: solved.append(C) or solve(self, C, tol))
    head = Linear(Cs=CS[::-1], device="cpu").fit(X[200:], Y[200:], X[:200], Y[:200])
    best = CS.index(pytest.approx(head.C_[0]))
    assert solved == [*CS[: best + 2]]
    assert len(solved) < len(CS)


def test_without_validation_rows_a_part_chooses_the_strength_and_all_rows_are_fitted():
    X, Y = problem(2, 400, 30)
    head = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X, Y)
    rows, validation = validation_split(Y, np.arange(400), 0.1, position_draws(400, 0))
    chosen = Linear(Cs=CS, tolerance=1e-6, device="cpu").fit(X[rows], Y[rows], X[validation], Y[validation])
    assert np.array_equal(head.C_, chosen.C_)
    for k in range(Y.shape[1]):
        expected = logistic(X, Y[:, k], head.C_[k]).predict_proba(X)[:, 1]
        assert head.predict_proba(X)[:, k] == pytest.approx(expected, abs=2e-3)


def test_classes_that_do_not_converge_are_counted_in_a_warning(monkeypatch):
    X, Y = problem(2, 400, 30)
    assert not Linear(Cs=CS, device="cpu").fit(X, Y).warnings_
    monkeypatch.setattr(linear, "MAX_STEPS", 1)
    Y[:, 0] = False  # a constant class needs no step
    for validation in ((X, Y), ()):
        (warning,) = Linear(Cs=[10.0], tolerance=0.1, device="cpu").fit(X, Y, *validation).warnings_
        assert "not converged for 2 of 3 classes after 1 steps at C = 10," in warning


def test_separable_and_constant_classes_have_finite_scores():
    X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    Y = np.hstack([X > 0, np.zeros_like(X, dtype=bool), np.ones_like(X, dtype=bool)])
    scores = Linear(Cs=[1e6], device="cpu").fit(X, Y, X, Y).predict_proba(X)
    assert np.array_equal(scores > 0.5, Y)


def mean_objective(X, y, w, b, C):
    """mean BCE + |w|² / (2 C n), in float64."""
    z = X @ w.astype(np.float64) + b
    return np.logaddexp(0, np.where(y, -z, z)).mean() + (w.astype(np.float64) ** 2).sum() / (2 * C * len(X))


def degenerate_problem(seed):
    """Fewer rows than columns, which may be duplicated, constant, nearly dependent, tiny or huge."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 80))
    d = int(rng.integers(n + 1, 4 * n))
    X = rng.normal(size=(n, d))
    copies = d // 4
    X[:, rng.choice(d, copies)] = X[:, rng.choice(d, copies)]
    X[:, rng.choice(d, 2)] = 100 * rng.normal()
    first, second = rng.choice(d, 2, replace=False)
    X[:, first] = X[:, second] * (1 + 1e-6 * rng.normal(size=n))
    w = rng.normal(size=d) / np.sqrt(d)
    Y = (X @ w + rng.logistic(size=n) / 2)[:, None] > [0, 1]
    Y[0], Y[1] = True, False
    X *= 10.0 ** (rng.uniform(-4, 4, size=d) if seed % 3 == 0 else rng.choice([-6, -3, 0, 3, 6]))
    return X.astype(np.float32), Y, 10.0 ** rng.uniform(-3, 1)


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (50, 100, 150))])
def test_with_fewer_rows_than_columns_the_objective_is_scikit_learns(first):
    """To 2e-4 of the mean loss. scikit-learn solves it exactly in the coordinates of a float64 SVD."""
    for seed in range(first, first + 50):
        X, Y, C = degenerate_problem(seed)
        head = Linear(Cs=[C], device="cpu").fit(X, Y, X, Y)
        assert np.isfinite(head.coef_).all(), seed
        assert np.isfinite(head.predict_proba(X)).all(), seed
        X = X.astype(np.float64)
        left, singular, _ = np.linalg.svd(X - X.mean(0), full_matrices=False)
        T = left * singular
        for k in range(2):
            exact = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
            exact.fit(T, Y[:, k])
            least = mean_objective(T, Y[:, k], exact.coef_[0], exact.intercept_[0], C)
            reached = mean_objective(X, Y[:, k], head.coef_[k], head.intercept_[k], C)
            assert least - 1e-5 < reached < least + 2e-4, seed


def test_factorisations_are_in_float64_and_of_the_shorter_side(monkeypatch):
    solve, calls = torch.linalg.eigh, []

    def eigh(matrix):
        calls.append((matrix.dtype, *matrix.shape))
        return solve(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    for n, d in ((30, 2000), (200, 20)):
        X, Y = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32), np.arange(n)[:, None] % 2 > 0
        Linear(Cs=[1.0], device="cpu").fit(X, Y, X, Y)
    assert calls == [(torch.float64, 30, 30), (torch.float64, 20, 20)]


def test_the_penalty_is_rounded_once():
    """An error in its last bit changes scores by up to 1e-4."""
    n = 809
    at_n = _Problem(np.eye(n, 1, dtype=np.float32), torch.eye(n, 1))
    for C in Linear().Cs:
        np.testing.assert_array_equal(at_n._penalty(C)[:, 0], [np.float32(1 / (C * n)), 0])


def test_a_factorisation_that_returns_nan_is_an_error(monkeypatch):
    X, Y = problem(3, 100, 8)

    def eigh(matrix):
        return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    with pytest.raises(DataError, match="variances of the rows for head linear: 8 of 8 values are NaN"):
        Linear(device="cpu").fit(X, Y, X, Y)


def test_saturated_rare_classes_stay_finite_under_weak_penalties():
    """The mean of p(1 - p) almost vanishes for a label of one row in 300 and many columns."""
    rng = np.random.default_rng(0)
    X = (rng.random((300, 1500)) < 0.01).astype(np.float32)
    X = ((X - X.mean(0)) / np.maximum(X.std(0), 1e-3)).astype(np.float32)
    Y = np.zeros((300, 20), bool)
    Y[np.arange(15), np.arange(15)] = True
    Y[:, 19] = True  # p becomes exactly 1
    problem = _Problem(X, torch.tensor(Y).float())
    for C in (0.01, 1.0, 10.0, 1e4):
        layer, _ = problem.solve(C, 1e-4)
        logits = torch.tensor(X) @ layer[:-1] + layer[-1]
        assert logits.abs().max() < 1e3
        loss = bce(logits, torch.tensor(Y).float())
        assert loss < 0.02


@pytest.mark.parametrize("evaluations", [1, 2, 4, 20])
def test_a_step_never_raises_the_loss_however_few_lengths_are_tried(evaluations, monkeypatch):
    """A step a million times too long once let logits grow to 1e23."""
    monkeypatch.setattr(linear, "MAX_EVALUATIONS", evaluations)
    rng = np.random.default_rng(0)
    logits, Y = torch.tensor(rng.normal(size=(50, 40)) * 3), torch.tensor(rng.random((50, 40)) < 0.1).double()
    change = torch.tensor(rng.normal(size=(50, 40)) * 10.0 ** rng.uniform(-4, 6, size=40))
    slopes = ((logits.sigmoid() - Y) * change).mean(0)
    change *= -slopes.sign()  # downhill
    zero = torch.zeros(40).double()
    length = linear._line_minimum(logits, change, Y, zero, zero)

    def loss(t):
        return bce(logits + t * change, Y, reduction="none").mean(0)

    assert (loss(length) <= loss(zero)).all()
    if evaluations == 20:
        nearby = torch.stack([loss(length * factor) for factor in (0.25, 0.5, 2.0, 4.0)])
        assert (loss(length) <= nearby + 1e-9).all()


@pytest.mark.real
@pytest.mark.parametrize("seed", range(3))
def test_medical_with_fewer_rows_than_columns(shared, seed):
    """300 notes of 1,449 words: float32 eigenvalues were NaN for seed 2, and all scores 0.5."""
    X, Y = medical(shared, "train")
    X_test, Y_test = medical(shared, "test")
    rows, validation = validation_split(Y, np.arange(len(Y)), 0.1, position_draws(len(Y), seed))
    assert len(rows) < X.shape[1]
    standard = [Standardised(matrix, *standardisation(X[rows], [(1, X.shape[1])])) for matrix in (X, X_test)]
    fit_part, val_part = (RowView(standard[0], part) for part in (rows, validation))
    head = Linear(device="cpu").fit(fit_part, Y[rows], val_part, Y[validation])
    decision = DecisionSpec("micro").fit(head.predict_proba(val_part), Y[validation])
    scores = head.predict_proba(standard[1])
    assert np.isfinite(scores).all()
    assert f1_score(Y_test, decision(scores), average="micro") > 0.62
    occurs = Y_test.any(axis=0)
    assert average_precision_score(Y_test[:, occurs], scores[:, occurs]) > 0.45


def medical(shared, part):
    """Words (n, 1449) and labels (n, 45) of a file of sparse ARFF."""
    with gzip.open(shared / "multilabel" / f"medical-{part}.arff.gz", "rt") as file:
        lines = [line[1:-1] for line in file.read().splitlines() if line.startswith("{")]
    cells = np.zeros((len(lines), 1494), np.float32)
    for row, line in enumerate(lines):
        for cell in line.split(","):
            column, value = cell.split()
            cells[row, int(column)] = float(value)
    return cells[:, :-45], cells[:, -45:] > 0
