"""The blend of heads that has the least cross-fitted loss, within a budget of time."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from encode_once.cache.errors import DataError, InsufficientMemoryError, UsageError, unknown_name
from encode_once.cache.progress import ProgressBar
from encode_once.cache.text_table import table_text
from encode_once.classify.arrays import PartialLabels, RowIndex, Scores, State, Vectors, as_partial_labels
from encode_once.classify.data import splits
from encode_once.classify.data.matrix import MatrixLike, RowView
from encode_once.classify.heads import cross_fits, options_of
from encode_once.classify.heads.base import CrossFittingHead
from encode_once.classify.heads.blend import blended, fit_blend, log_loss
from encode_once.classify.heads.checks import torch_memory
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.stack import MEAN, Stack
from encode_once.classify.heads.torch.networks import Shapes
from encode_once.classify.heads.validation import with_validation

VECTOR_HEADS = ("linear", "knn", "prototype", "forest", "mlp", "gbm")
SEQUENCE_HEADS = ("bigru", "attention")  # tried as well if a feature holds sequences
CROSS_FITTED_UP_TO = 5000  # train rows, of which a tenth would be too few to choose a blend by
SHORT_OF_MEMORY = (InsufficientMemoryError, MemoryError)
UNTRIED = -1.0  # the loss of a head that was left out, in the state


def _columns(d: int, c: int) -> int:
    """How many columns trees choose from; see `classify.heads.projection`."""
    return (d if d <= 512 else 0) + 32 + (c if c <= d else 0)


# Seconds of one fit on a core, for n rows, d columns and c classes. They are rough: as soon as heads have
# been timed on this machine, only their ratios count.
COSTS: Mapping[str, Callable[[int, int, int], float]] = {
    "linear": lambda n, d, c: 0.02 + n * min(n, d) * (2e-10 * d + 3e-8 * c),
    "knn": lambda n, d, c: 0.01 + n * (5e-11 * n * d + 2e-7 * c),
    "prototype": lambda n, d, c: 0.04 + n * (1e-10 * n * (d + c) + 5e-6 * c),
    "forest": lambda n, d, c: 0.1 + 1e-7 * n * np.log2(n) * _columns(d, c) * (1 + min(c, 64) / 10),
    "mlp": lambda n, d, c: 1.2 + (d + c) * (1.6e-3 + 7e-6 * n),
    "gbm": lambda n, d, c: c * (0.1 + 2e-7 * n * _columns(d, c)),
    "bigru": lambda n, d, c: 3 + 3e-5 * n * (d + c),
    "attention": lambda n, d, c: 3 + 3e-5 * n * (d + c),
}
SPEED = 4.0  # by how much this machine may be faster or slower than these


@dataclass(eq=False, repr=False)
class Auto(CrossFittingHead, Estimator):
    """Heads are cross-fitted on the train rows, from cheap to slow, and those that help are blended.

    The weights of their logits minimise the log loss out of fold: see `classify.heads.blend`. The heads that
    have a weight are then fitted on all train rows. More than `CROSS_FITTED_UP_TO` train rows have enough
    validation rows to choose by, and each head is fitted once.

    shapes: length and width of each feature's block of X's columns; by default X is one vector.
    budget: seconds that all fits may take. A head is left out if it would take longer than what remains, by
        the time of the heads before it and of its own first fold; `warnings` name it. The first head is
        always fitted. Only a budget that is reached makes the result depend on the speed of the machine.
        Heads that would need more memory than is available are left out, too.
    heads: the heads to try, in this order; by default those for vectors, and two that read sequences if a
        feature holds any, from cheap to slow.
    options: by the name of the head.
    folds: of the cross-fitting, where `fit_out_of_fold` is not given any.
    """

    PARTIAL: ClassVar[bool] = True

    shapes: Shapes | None = None
    budget: float = 300.0
    heads: Sequence[str] | None = None
    options: Mapping[str, Mapping[str, Any]] | None = None
    folds: int = 5
    progress: bool = True
    seed: int = 0

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Auto":
        """Learn the labels Y (n, c) of the rows X (n, d)."""
        Y = as_partial_labels(Y, len(X))
        if len(Y) > CROSS_FITTED_UP_TO:
            self._choose(_OnValidationRows(*with_validation(X, Y, X_val, Y_val, self.seed)))
            if X_val is None or Y_val is None:
                self._refit(self.blend_.heads or (), X, Y, None, None)
        else:
            draws = splits.position_draws(len(Y), self.seed)
            self._choose(_OutOfFold(X, Y, splits.folds(f"kfold:{self.folds}", Y, {}, draws)))
            self._refit(self._partly_fitted(), X, Y, X_val, Y_val)
        self._pass_warnings_on()
        return self

    def fit_out_of_fold(self, X: MatrixLike, Y: PartialLabels, folds: Sequence[RowIndex]) -> Scores:
        """Learn from all rows; return the blend's scores (n, c) of each by heads fitted on other folds."""
        Y = as_partial_labels(Y, len(X))
        scores = self._choose(_OutOfFold(X, Y, folds))
        self._refit(self._partly_fitted(), X, Y, None, None)
        self._pass_warnings_on()
        return scores

    def predict_proba(self, X: MatrixLike) -> Scores:
        by_head = np.split(self.blend_.logits(X), len(self.blend_.heads_), axis=1)
        weights = self.weights_[self.weights_ > 0]
        return np.asarray(expit(blended(by_head, weights, float(self.intercept_[0]))))

    def state(self) -> State:
        """For each head to try its loss (or `UNTRIED`) and weight; the intercept; what the heads learned."""
        of_blend = {"losses": self.losses_, "weights": self.weights_, "intercept": self.intercept_}
        return {**of_blend, **self.blend_.state()}

    def load_state(self, state: State) -> None:
        """Restore what the blend learned.

        Raises:
            ValueError: there are not as many losses and weights as heads to try, no head has a weight, or
                there is not one intercept.
        """
        self.losses_, self.weights_, self.intercept_ = state["losses"], state["weights"], state["intercept"]
        d = int(state["size"][0])
        if not len(self._names) == len(self.losses_) == len(self.weights_) or not (self.weights_ > 0).any():
            raise ValueError("the losses and weights are not those of the heads that the options name")
        if self.intercept_.shape != (1,):
            raise ValueError("the blend has not one intercept")
        self.blend_ = self._blend(d)
        self.blend_.load_state(state)

    @property
    def notes(self) -> list[str]:
        """Why the blend is what it is, as the lines of a table, and the notes of its heads."""
        best = np.where(self.losses_ >= 0, self.losses_, np.inf).min()
        rows = [
            {
                "head": name,
                "log loss": float(loss) if loss >= 0 else None,
                "above the best": float(loss - best) if loss >= 0 else None,
                "share of the blend": f"{weight / self.weights_.sum():.0%}" if loss >= 0 else "left out",
            }
            for name, loss, weight in zip(self._names, self.losses_, self.weights_, strict=True)
        ]
        rows.sort(key=lambda row: np.inf if row["log loss"] is None else row["log loss"])
        return [*table_text(rows).split("\n"), *self.blend_.notes]

    @property
    def _names(self) -> Sequence[str]:
        """The heads to try."""
        if self.heads:
            return self.heads
        lengths = [length for length, _ in self.shapes or [(1, 0)]]
        of_vectors, of_sequences = min(lengths) == 1, max(lengths) > 1
        return [*(VECTOR_HEADS if of_vectors else ()), *(SEQUENCE_HEADS if of_sequences else ())]

    def _stack(self, names: Sequence[str], d: int) -> Stack:
        """These heads on all features that they can take."""
        shapes = self.shapes or [(1, d)]
        parts = []
        for name in names:
            takes_sequences = "shapes" in options_of(name)
            parts.append([i for i, (length, _) in enumerate(shapes) if takes_sequences or length == 1])
            if not parts[-1]:
                raise DataError(f"all features hold a sequence per row, which head {name} cannot take")
        own = self.options or {}
        options = [
            {**({"progress": False} if "progress" in options_of(name) else {}), **own.get(name, {})}
            for name in names
        ]
        return Stack(shapes, names, parts, options, MEAN, seed=self.seed)

    def _blend(self, d: int) -> Stack:
        """The unfitted heads that have a weight."""
        pairs = zip(self._names, self.weights_, strict=True)
        return self._stack([name for name, weight in pairs if weight > 0], d)

    def _partly_fitted(self) -> list[str]:
        """The heads of the blend that have not learned from all rows, as they do not cross-fit themselves."""
        return [name for name in self.blend_.heads or () if not cross_fits(name)]

    def _refit(
        self,
        names: Sequence[str],
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None,
        Y_val: PartialLabels | None,
    ) -> None:
        """Fit these heads of the blend again, on all rows; without the memory for it, one stays as it is."""
        for i, name in enumerate(self.blend_.heads or ()):
            if name in names:
                try:
                    with torch_memory():
                        stack = self._stack([name], X.shape[1]).fit(X, Y, X_val, Y_val)
                except SHORT_OF_MEMORY as error:
                    warning = f"head auto has fitted {name} on a part of the rows only: {error}"
                    self.warnings_ = [*self.warnings_, warning]
                else:
                    self.blend_.heads_[i] = stack.heads_[0]

    def _pass_warnings_on(self) -> None:
        of_heads = [warning for head in self.blend_.heads_ for warning in head.warnings_]
        self.warnings_ = [*self.warnings_, *of_heads]

    def _choose(self, trial: "_OutOfFold | _OnValidationRows") -> Scores:
        """Choose the blend, of heads as they were fitted last; return its scores of the trial's rows."""
        if self.budget <= 0:
            raise UsageError(f"a budget of {self.budget} s allows no fit: --budget 300 is the default")
        for name in self.options or {}:
            if name not in self._names:
                raise unknown_name("head of auto", name, self._names)
        logits, fitted, self.warnings_ = self._tried(trial)
        losses = {name: log_loss(values, trial.truth) for name, values in logits.items()}
        weights, intercept = fit_blend([*logits.values()], trial.truth)
        weight_of = dict(zip(logits, weights, strict=True))
        self.losses_ = np.array([losses.get(name, UNTRIED) for name in self._names], np.float32)
        self.weights_ = np.array([weight_of.get(name, 0) for name in self._names], np.float32)
        self.intercept_ = np.array([intercept], np.float32)
        d = trial.X.shape[1]
        self.blend_ = self._blend(d)
        self.blend_.size_ = np.array([d, trial.truth.shape[1]])
        self.blend_.heads_ = [fitted[name].heads_[0] for name in self.blend_.heads or ()]
        return np.asarray(expit(blended([*logits.values()], weights, intercept)))

    def _tried(
        self, trial: "_OutOfFold | _OnValidationRows"
    ) -> tuple[dict[str, Vectors], dict[str, Stack], list[str]]:
        """By the names of the heads that the budget and the memory allow: their logits of the trial's rows,
        (m, c), and the heads as they were fitted last. Then warnings that name the others.

        Raises:
            InsufficientMemoryError: all heads would need more memory than is available.
        """
        logits: dict[str, Vectors] = {}
        fitted: dict[str, Stack] = {}
        too_slow, too_large = dict[str, float](), dict[str, Exception]()
        (n, d), c = trial.X.shape, trial.truth.shape[1]
        names = list(self._names)
        if not self.heads:
            names.sort(key=lambda name: COSTS[name](n, d, c))
        clock = _Clock(self.budget, (n, d, c))
        hidden = None if self.progress else True  # None: only if stderr is not a terminal
        total = sum(map(trial.fits, names))
        with ProgressBar(total=total, unit="fit", leave=False, disable=hidden) as bar:
            for name in names:
                bar.set_description(f"head {name}")
                values = np.empty(trial.truth.shape, np.float32)
                for number in range(trial.fits(name)):
                    fits = trial.fits(name) - number + trial.refits(name)
                    seconds = clock.seconds_of(name) * fits
                    if logits and seconds > clock.left:
                        too_slow[name] = seconds
                        break
                    try:
                        with torch_memory(), clock.timing(name):
                            fitted[name] = self._stack([name], d)
                            trial.fit(fitted[name], number, values)
                    except SHORT_OF_MEMORY as error:
                        too_large[name] = error
                        break
                    bar.update()
                else:
                    logits[name] = values
                    clock.reserve(name, trial.refits(name))
        if not logits:
            raise next(iter(too_large.values()))
        named = ", ".join(f"{name} ({seconds:.1f} s)" for name, seconds in too_slow.items())
        slow = (
            f"head auto left out what would take longer than the rest of its budget of {self.budget:g} s: "
            f"{named}; --budget SECONDS changes that"
        )
        large = [f"head auto left out {name}: {error}" for name, error in too_large.items()]
        return logits, fitted, [*([slow] if too_slow else []), *large]


@dataclass(frozen=True)
class _OutOfFold:
    """A trial on all rows, each scored by a head that was fitted on the other folds.

    A head that cross-fits itself is fitted once, and learns from all rows then.
    """

    X: MatrixLike
    truth: PartialLabels
    folds: Sequence[RowIndex]

    def fits(self, name: str) -> int:
        """How often a head is fitted."""
        return 1 if cross_fits(name) else len(self.folds)

    def refits(self, name: str) -> int:
        """How often it is fitted if it is chosen."""
        return 0 if cross_fits(name) else 1

    def fit(self, head: Stack, number: int, logits: Vectors) -> None:
        """Fit a head without a fold, and set the fold's logits."""
        if all(cross_fits(name) for name in head.heads or ()):
            logits[:] = head.fit_out_of_fold(self.X, self.truth, self.folds)
            return
        fold = self.folds[number]
        others = np.setdiff1d(np.arange(len(self.truth)), fold)
        head.fit(RowView(self.X, others), self.truth[others])
        logits[fold] = head.logits(RowView(self.X, fold))


@dataclass(frozen=True)
class _OnValidationRows:
    """A trial on validation rows."""

    X: MatrixLike
    Y: PartialLabels
    X_val: MatrixLike
    truth: PartialLabels

    def fits(self, _: str) -> int:
        """How often a head is fitted."""
        return 1

    def refits(self, _: str) -> int:
        """How often it is fitted if it is chosen."""
        return 0

    def fit(self, head: Stack, number: int, logits: Vectors) -> None:
        """Fit a head, and set the logits of the validation rows."""
        head.fit(self.X, self.Y, self.X_val, self.truth)
        logits[:] = head.logits(self.X_val)


class _Clock:
    """What is left of a budget, and how long heads take."""

    def __init__(self, budget: float, size: tuple[int, int, int]) -> None:
        self._end = time.monotonic() + budget
        self._size = size  # n, d and c
        self._seconds: dict[str, float] = {}  # of the last fit of a head
        self._reserved = 0.0  # seconds of the final fits

    @property
    def left(self) -> float:
        """Seconds for heads that have not been tried."""
        return self._end - self._reserved - time.monotonic()

    def seconds_of(self, name: str) -> float:
        """Seconds of a fit: measured, or estimated from the other heads; 0 if nothing is known."""
        if name in self._seconds or name not in COSTS:
            return self._seconds.get(name, 0.0)
        speeds = [
            seconds / COSTS[head](*self._size) for head, seconds in self._seconds.items() if head in COSTS
        ]
        speed = np.median(speeds).clip(1 / SPEED, SPEED) if speeds else 0.0
        return float(COSTS[name](*self._size) * speed)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Measure a fit of a head."""
        start = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - start

    def reserve(self, name: str, fits: int) -> None:
        """Keep the time of further fits of a head."""
        self._reserved += fits * self._seconds[name]
