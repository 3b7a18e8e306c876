"""Checks of parts that others write: `check_head` of a head, with no test framework needed.

Examples:
    >>> from encode_once.testing import check_head
    >>> check_head("linear")
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from encode_once.cache.errors import DataError
from encode_once.classify import heads
from encode_once.classify.arrays import LabelMatrix, Scores, Vectors
from encode_once.classify.data.matrix import RowView
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.state import is_restored

ROWS, COLUMNS, CLASSES = 240, 12, 4
CLOSE = 1e-4  # of scores whose sums are rounded in another order
SAME_OPTIMUM = 1e-3  # of scores by a solver that stops near the optimum


@dataclass(frozen=True)
class _Case:
    """A head to check, and data of three learnable labels and one that no row has."""

    new: Callable[[], Head]
    X: Vectors
    Y: LabelMatrix

    def fitted(self) -> Head:
        head = self.new()
        head.fit(self.X[:160], self.Y[:160], self.X[160:200], self.Y[160:200])
        return head


def check_head(head: type[Head] | Head | str, *, any_row_order: bool = False, **options: Any) -> None:
    """Check that a head keeps the contract of `docs/extending.md`, on 240 rows.

    Args:
        head: a class, a head, whose options are taken, or a name as `fit --head` takes it.
        any_row_order: also check that it learns the same from rows in any order.
        options: of the class or the name.

    Raises:
        AssertionError: it does not; the message says what, and how it should be.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    Y = X @ rng.normal(size=(COLUMNS, CLASSES)) + rng.normal(size=(ROWS, CLASSES)) > [0.0, 1, 2, np.inf]
    case = _Case(_maker(head, options), X, Y)
    for check in (_options, _scores, _repeatable, _rows, _without_validation, _state, _nan, _degenerate):
        check(case)
    if any_row_order:
        _row_order(case)


def _maker(head: type[Head] | Head | str, options: dict[str, Any]) -> Callable[[], Head]:
    if isinstance(head, str):
        return lambda: heads.make(head, **options)
    if isinstance(head, type):
        return lambda: head(**options)
    from sklearn.base import clone

    assert not options, "a head has its options already"
    return lambda: clone(head)


def _options(case: _Case) -> None:
    """The constructor only stores its options, so that a run's head can be made again."""
    head = case.new()
    assert isinstance(head, Head), f"{type(head).__name__} is no subclass of Head"
    if hasattr(head, "get_params"):
        from sklearn.base import clone

        try:
            clone(head)
        except RuntimeError as error:
            raise AssertionError(f"the constructor changes an option: {error}") from error


def _scores(case: _Case) -> None:
    """`fit` returns the head, and scores are float32 probabilities, (n, c), for none or one row, too."""
    head = case.new()
    result = head.fit(case.X[:160], case.Y[:160], case.X[160:200], case.Y[160:200])
    assert result is head, "fit does not return self"
    for n in (40, 1, 0):
        scores = head.predict_proba(case.X[200 : 200 + n])
        _are_scores(scores, n)
    learned = head.predict_proba(case.X[200:])[:, : CLASSES - 1]
    assert np.ptp(learned, axis=0).max() > 0, "all rows have the same scores"


def _are_scores(scores: Scores, n: int) -> None:
    assert isinstance(scores, np.ndarray), f"scores are {type(scores).__name__}, not an array of NumPy"
    assert scores.shape == (n, CLASSES), f"scores of {n} rows are {scores.shape}, not {(n, CLASSES)}"
    assert scores.dtype == np.float32, f"scores are {scores.dtype}, not float32"
    assert np.isfinite(scores).all(), "a score is NaN or infinite"
    assert ((scores >= 0) & (scores <= 1)).all(), "a score is not between 0 and 1"


def _rows(case: _Case) -> None:
    """X may have only a length, a shape and `X[rows]`; a row's scores do not depend on the others."""
    head = case.fitted()
    all_rows = np.arange(ROWS)
    lazy = case.new()
    lazy.fit(
        RowView(case.X, all_rows[:160]), case.Y[:160], RowView(case.X, all_rows[160:200]), case.Y[160:200]
    )
    expected = head.predict_proba(case.X[200:])
    from_lazy = lazy.predict_proba(RowView(case.X, all_rows[200:]))
    _are_close(from_lazy, expected, "an array, and rows that are read when they are asked for,")
    backwards = head.predict_proba(case.X[:199:-1])[::-1]
    _are_close(backwards, expected, "rows to score in another order")
    _are_close(head.predict_proba(case.X[200:201]), expected[:1], "a row alone and among others")


def _without_validation(case: _Case) -> None:
    """`fit` needs no validation rows, and forgets what it learned before."""
    expected = case.new().fit(case.X, case.Y).predict_proba(case.X)
    _are_scores(expected, ROWS)
    again = case.new().fit(case.X[:100, :5], ~case.Y[:100, :2])
    again = again.fit(case.X, case.Y)
    assert np.array_equal(again.predict_proba(case.X), expected), "fit continues from an earlier fit"


def _repeatable(case: _Case) -> None:
    """Equal options and rows give equal scores, and the caller's random numbers are not drawn."""
    np.random.seed(7)  # noqa: NPY002 — the generator that a head must not use
    expected = case.fitted().predict_proba(case.X)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert np.random.random() == drawn, "fit draws from the random numbers of the process: use seed"  # noqa: NPY002
    np.random.seed(8)  # noqa: NPY002
    scores = case.fitted().predict_proba(case.X)
    assert np.array_equal(scores, expected), "two fits with the same seed differ"


def _state(case: _Case) -> None:
    """A head of the same options that loads the state gives equal scores; a file can hold the state."""
    head = case.fitted()
    state = {name: np.ascontiguousarray(array) for name, array in head.state().items()}
    assert state, "state() holds nothing"
    for name, array in state.items():
        assert array.dtype.kind in "biuf", f"state()[{name!r}] is {array.dtype}, not numbers"
        assert is_restored(name) or np.isfinite(array).all(), f"state()[{name!r}] has NaN or infinity"
    other = case.new()
    other.load_state(load(save(state)))
    rows = RowView(case.X, np.arange(ROWS))
    assert np.array_equal(other.predict_proba(rows), head.predict_proba(rows)), (
        "a head that loads the state gives other scores"
    )


def _nan(case: _Case) -> None:
    """Features that are NaN are refused rather than learned from."""
    X = case.X.copy()
    X[3, 1] = np.nan
    head = case.new()
    try:
        head.fit(X, case.Y)
    except (DataError, ValueError):
        return
    raise AssertionError("fit accepts NaN: derive from Estimator, or raise DataError")


def _degenerate(case: _Case) -> None:
    """Few rows, constant columns and classes that all rows have give scores, or one clear error."""
    constant = case.X[:30].copy()
    constant[:, :6] = 1
    everywhere = case.Y.copy()
    everywhere[:, 0] = True
    for what, X, Y in (
        ("constant columns", constant, case.Y[:30]),
        ("a class that all rows have", case.X, everywhere),
        ("six rows", case.X[:6], case.Y[:6]),
    ):
        try:
            scores = case.new().fit(X, Y).predict_proba(X)
        except DataError:
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__} ({error}), not a DataError") from error
        _are_scores(scores, len(X))


def _row_order(case: _Case) -> None:
    """Train rows in another order give the same head; without validation rows, some are drawn."""
    order = np.random.default_rng(1).permutation(160)
    expected = case.fitted().predict_proba(case.X)
    head = case.new().fit(case.X[order], case.Y[order], case.X[160:200], case.Y[160:200])
    scores = head.predict_proba(case.X)
    _are_close(scores, expected, "train rows in another order", SAME_OPTIMUM)


def _are_close(scores: Scores, expected: Scores, what: str, close: float = CLOSE) -> None:
    difference = float(np.abs(scores - expected).max())
    assert difference <= close, f"{what} give scores that differ by {difference:.1e}"
