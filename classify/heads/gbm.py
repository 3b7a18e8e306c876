"""Gradient-boosted trees: a LightGBM booster for each class, on the features and a projection of them."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import lightgbm
import numpy as np

from encode_once.cache.progress import ProgressBar
from encode_once.cache.terminal import one_line
from encode_once.classify.arrays import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    PartialLabels,
    RowIndex,
    Scores,
    State,
    as_partial_labels,
)
from encode_once.classify.data import splits
from encode_once.classify.data.matrix import CHUNK, MatrixLike, chunks, is_large
from encode_once.classify.heads import projection
from encode_once.classify.heads.base import CrossFittingHead
from encode_once.classify.heads.booster_text import checked
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.history import Epoch
from encode_once.classify.heads.search_space import Range, Space
from encode_once.classify.partial import frequencies, is_partial, unknown_entries

FOLDS = 3  # of the cross-validation of rounds; more take longer, for little
TIMED = 10  # classes whose time all others are estimated from …
TIMED_SECONDS = 60  # … or however many are fitted in so many seconds
SLOW = 600  # seconds from which on a warning is due


@dataclass(eq=False, repr=False)
class GBM(CrossFittingHead, Estimator):
    """A LightGBM booster for each class, stopped by its log loss on other rows.

    A booster has a single output; all boosters share one table of binned columns: the features, if these are
    few, `components` principal components and cross-fitted ridge regressions (`classify.heads.projection`).
    Each tree is grown on a share of them, `max_features`: a third ranked better on medical and scene, but
    worse on captions of COCO. A class that is constant in the train rows has no booster, and that constant as
    its score. Rows whose label is unknown have no weight in the booster of that class.
    """

    PARTIAL: ClassVar[bool] = True
    SPACE: ClassVar[Space] = {
        "components": Range(8, 128, log=True),
        "learning_rate": Range(0.02, 0.2, log=True),
        "leaves": Range(4, 63, log=True),
        "min_rows": Range(5, 100, log=True),
        "max_features": Range(0.2, 1.0),
    }

    rounds: int = 300
    components: int = 32
    learning_rate: float = 0.05
    leaves: int = 15
    min_rows: int = 40
    max_features: float = 1.0
    patience: int = 20
    progress: bool = True
    jobs: int = 0
    seed: int = 0

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "GBM":
        """Learn the labels Y (n, c) of the rows X (n, d).

        Without validation rows, the rounds of each class are chosen by cross-validation; then its booster
        learns from all rows. A tenth of the rows chooses worse (cross-validation on emotions and medical).
        """
        Y = as_partial_labels(Y, len(X))
        if X_val is None or Y_val is None:
            draws = splits.position_draws(len(Y), self.seed)
            self.fit_out_of_fold(X, Y, splits.folds(f"kfold:{FOLDS}", Y, {}, draws))
            return self
        Z = self._projected(X, Y)
        table = _table(Z)
        Z_val = projection.project(X_val, self.center_, self.axes_)
        validation = lightgbm.Dataset(Z_val, reference=table, free_raw_data=False)
        self._boost(
            table, Y, partial(self._stopped, validation, as_partial_labels(Y_val, len(Z_val), Y.shape[1]))
        )
        return self

    def fit_out_of_fold(self, X: MatrixLike, Y: PartialLabels, folds: Sequence[RowIndex]) -> Scores:
        """Learn from all rows, with the rounds that are best out of fold; return these scores (n, c)."""
        Y = as_partial_labels(Y, len(X))
        Z = self._projected(X, Y)
        scores = np.tile(self.frequencies_, (len(Z), 1))
        pairs = [(np.setdiff1d(np.arange(len(Z)), fold), np.asarray(fold)) for fold in folds]
        self._boost(
            _table(Z),
            Y,
            partial(self._cross_validated, Z, pairs, ~unknown_entries(Y), scores),
        )
        return scores

    def _projected(self, X: MatrixLike, Y: PartialLabels) -> MatrixLike:
        """The columns (n, a) of the train rows X (n, d); what makes them, and the frequencies, are set."""
        self.center_, self.axes_, columns, self.notes_ = projection.learn(X, Y, self.components, self.seed)
        self.frequencies_ = frequencies(Y).astype(np.float32)
        return columns

    def _boost(self, table: Any, Y: PartialLabels, booster: Callable[[int, Any], Any]) -> None:
        """Set the boosters, made from the number of a class and the table with its labels."""
        self.history_, self.boosters_, self.warnings_ = [], [], []
        start, is_estimated = time.monotonic(), False
        hidden = None if self.progress else True  # None: only if stderr is not a terminal
        with ProgressBar(total=Y.shape[1], unit="class", leave=False, disable=hidden) as bar:
            for c, share in enumerate(self.frequencies_):
                _set_labels(table, Y[:, c])
                self.boosters_.append(booster(c, table) if 0 < share < 1 else None)
                bar.update()
                fitted, seconds = sum(map(bool, self.boosters_)), time.monotonic() - start
                is_timed = fitted == TIMED or (fitted and seconds > TIMED_SECONDS)
                if is_timed and not is_estimated and c + 1 < Y.shape[1]:
                    is_estimated = True
                    self._warn_if_slow(seconds / fitted * Y.shape[1], Y.shape[1])

    def _warn_if_slow(self, seconds: float, classes: int) -> None:
        """Warn as soon as a long fit is foreseeable."""
        if seconds < SLOW:
            return
        duration = f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
        self.warnings_ = [
            f"head gbm takes about {duration} for {classes} classes, as it fits a booster for each; "
            "--head forest or --head linear takes minutes"
        ]
        if self.progress:
            ProgressBar.write(one_line(self.warnings_[0]), file=sys.stderr)

    def predict_proba(self, X: MatrixLike) -> Scores:
        Z = projection.project(X, self.center_, self.axes_)
        scores = np.tile(self.frequencies_, (len(Z), 1))
        for c, booster in enumerate(self.boosters_):
            if booster:
                scores[:, c] = booster.predict(Z, num_threads=self.jobs)
        return scores

    def state(self) -> State:
        """The projection, each class's frequency, and its booster as LightGBM's text in UTF-8."""
        texts = {
            f"booster.{c}": np.frombuffer(booster.model_to_string().encode(), np.uint8)
            for c, booster in enumerate(self.boosters_)
            if booster
        }
        return {"center": self.center_, "axes": self.axes_, "frequencies": self.frequencies_, **texts}

    def load_state(self, state: State) -> None:
        self.center_, self.axes_, self.frequencies_ = state["center"], state["axes"], state["frequencies"]
        texts = (state.get(f"booster.{c}") for c in range(len(self.frequencies_)))
        self.history_ = []
        self.boosters_ = [
            None
            if text is None
            else lightgbm.Booster(model_str=checked(text.tobytes().decode(), len(self.axes_)))
            for text in texts
        ]

    @property
    def _params(self) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_rows,
            "feature_fraction": self.max_features,
            "num_threads": self.jobs,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,  # else LightGBM takes the faster way, which changes the rounding
            "verbosity": -1,
        }

    def _stopped(self, validation: Any, Y_val: PartialLabels, c: int, table: Any) -> Any:
        """The booster of class c with the rounds that are best for the validation rows, if some are known."""
        if (Y_val[:, c] == UNKNOWN).all():
            return None
        _set_labels(validation, Y_val[:, c])
        losses: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            self._params,
            table,
            self.rounds,
            valid_sets=[table, validation],
            valid_names=["train", "validation"],
            callbacks=[self._early_stopping(), lightgbm.record_evaluation(losses)],
        )
        self._record(c, losses["train"]["binary_logloss"], losses["validation"]["binary_logloss"])
        return booster

    def _cross_validated(
        self,
        Z: MatrixLike,
        folds: Sequence[tuple[RowIndex, RowIndex]],
        counted: BoolArray,
        scores: Scores,
        c: int,
        table: Any,
    ) -> Any:
        """The booster of class c, of all rows, with the rounds that are best in cross-validation.

        The class's scores (n, c) of the rows Z (n, a) out of fold are set. There is no booster if no label of
        a fold is known; counted (n, c): which labels are.
        """
        if not all(counted[fold, c].any() for _, fold in folds):
            return None
        results: dict[str, Any] = lightgbm.cv(
            self._params,
            table,
            self.rounds,
            folds=folds,
            callbacks=[self._early_stopping()],
            eval_train_metric=True,
            return_cvbooster=True,
        )
        train, validation = (results[f"{rows} binary_logloss-mean"] for rows in ("train", "valid"))
        self._record(c, train, validation)
        rounds = len(validation)
        for (_, fold), booster in zip(folds, results["cvbooster"].boosters, strict=True):
            for part in chunks(len(fold)) if is_large(Z) else [slice(None)]:
                rows = fold[part]
                scores[rows, c] = booster.predict(Z[rows], num_iteration=rounds, num_threads=self.jobs)
        return lightgbm.train(self._params, table, rounds)

    def _early_stopping(self) -> Any:
        return lightgbm.early_stopping(self.patience, first_metric_only=True, verbose=False)

    def _record(self, c: int, train: Sequence[float], validation: Sequence[float]) -> None:
        """Add the log losses of the rounds of class c to the history."""
        pairs = enumerate(zip(train, validation, strict=True), start=1)
        self.history_ = [*self.history_, *(Epoch(c, number, *pair, None) for number, pair in pairs)]


class _Rows(lightgbm.Sequence):
    """Rows (n, a) that LightGBM bins a batch at a time."""

    batch_size = CHUNK

    def __init__(self, Z: MatrixLike) -> None:
        self.Z = Z

    def __len__(self) -> int:
        return len(self.Z)

    def __getitem__(self, rows: int | slice | list[int]) -> FloatArray:
        if isinstance(rows, slice):
            return self.Z[rows].astype(np.float64)
        numbers = np.atleast_1d(np.array(rows, np.intp))
        return self.Z[numbers].astype(np.float64).reshape(*np.shape(rows), -1)


def _table(Z: MatrixLike) -> Any:
    """LightGBM's table of rows (n, a): a byte for each number, besides the array, if it is one."""
    if isinstance(Z, np.ndarray):
        return lightgbm.Dataset(Z, free_raw_data=False)
    return lightgbm.Dataset(_Rows(Z))


def _set_labels(table: Any, labels: PartialLabels) -> None:
    """Set the labels (n,) of a class in LightGBM's table, with the weight 0 where they are unknown."""
    table.set_label((labels == 1).astype(float))
    if is_partial(labels):
        table.set_weight((labels != UNKNOWN).astype(float))
