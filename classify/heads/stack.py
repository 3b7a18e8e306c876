"""Late fusion: a head for each feature, and one more over their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import LabelMatrix, Scores, State, Vectors
from encode_once.classify.data import splits
from encode_once.classify.data.matrix import ColumnView, MatrixLike, RowView
from encode_once.classify.heads import make, with_shapes
from encode_once.classify.heads import state as states
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_finite
from encode_once.classify.heads.torch.networks import Shapes
from encode_once.classify.heads.validation import with_validation

LIMITS = 1e-4  # of probabilities, for their logits
MEAN = "mean"


@dataclass(eq=False, repr=False)
class Stack(Head, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Heads whose out-of-fold scores another head, `combiner`, learns to weigh (Wolpert, 1992).

    The combiner sees the logits of each training row by heads that were fitted on the other folds; then the
    heads are fitted on all training rows. The combiner "mean" averages logits and learns nothing: then each
    head is fitted once.

    shapes: length and width of each feature's block of X's columns; by default all are one vector.
    heads: their names, one a part; by default `bigru` where a feature holds sequences, else `mlp`.
    parts: the features each head takes, by their numbers from 0; by default each feature is a part.
    options: of each head, in their order.
    combiner, combiner_options: the head over the scores: `linear`, `bilinear`, any other, or "mean".
    """

    shapes: Shapes | None = None
    heads: Sequence[str] | None = None
    parts: Sequence[Sequence[int]] | None = None
    options: Sequence[Mapping[str, Any]] | None = None
    combiner: str = "linear"
    combiner_options: Mapping[str, Any] | None = None
    folds: int = 4
    seed: int = 0

    def fit(
        self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike | None = None, Y_val: LabelMatrix | None = None
    ) -> "Stack":
        """Learn the labels Y (n, c) of the rows X (n, d)."""
        X, Y, X_val, Y_val = with_validation(X, Y, X_val, Y_val, self.seed)
        self.size_ = np.array([X.shape[1], Y.shape[1]])
        combiner = None if self.combiner == MEAN else self._new_combiner()  # a wrong name is told at once
        self.heads_ = self._fitted(X, Y, X_val, Y_val)
        if combiner:
            logits = self._out_of_fold(X, Y, X_val, Y_val)
            self.combiner_ = combiner.fit(logits, Y, self._logits(self.heads_, X_val), Y_val)
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of the labels of the rows X (n, d)."""
        logits = self._logits(self.heads_, X)
        if self.combiner != MEAN:
            return self.combiner_.predict_proba(logits)
        means: Scores = expit(logits.reshape(len(X), len(self.heads_), -1).mean(axis=1))
        return means

    def state(self) -> State:
        """The numbers of columns and classes, (2,), and what each head and the combiner learned."""
        learned = {str(i): head for i, head in enumerate(self.heads_)}
        if self.combiner != MEAN:
            learned["combiner"] = self.combiner_
        return {"size": self.size_, **states.joined(learned)}

    def load_state(self, state: State) -> None:
        """Take up what another stack of the same options learned."""

        def loaded(head: Head, who: str) -> Head:
            head.load_state(states.part(state, who))
            return head

        self.size_ = state["size"]
        self.heads_ = [loaded(head, str(i)) for i, head in enumerate(self._new_heads())]
        if self.combiner != MEAN:
            self.combiner_ = loaded(self._new_combiner(), "combiner")

    @property
    def _shapes(self) -> Shapes:
        return self.shapes or [(1, int(self.size_[0]))]

    @property
    def _parts(self) -> Sequence[Sequence[int]]:
        return self.parts or [[i] for i in range(len(self._shapes))]

    def _new_heads(self) -> list[Head]:
        parts = self._parts
        sequences = [any(self._shapes[i][0] > 1 for i in part) for part in parts]
        names = self.heads or ["bigru" if sequence else "mlp" for sequence in sequences]
        options = self.options or [{} for _ in parts]
        if not len(names) == len(options) == len(parts):
            raise DataError(
                f"{len(parts)} parts take as many heads and options, not {len(names)} and {len(options)}"
            )
        made = [
            make(name, **with_shapes(name, {"seed": self.seed, **some}, self._of(part)))
            for name, some, part in zip(names, options, parts, strict=True)
        ]
        for name, head in zip(names, made, strict=True):
            if head.takes_raw:
                raise DataError(f"head {name} takes vectors as they are, and those of stack are standardised")
        return made

    def _of(self, part: Sequence[int]) -> dict[str, tuple[int, int]]:
        return {f"feature {i}": (self._shapes[i][0], self._shapes[i][1]) for i in part}

    def _new_combiner(self) -> Head:
        scores = {f"head {i}": (1, int(self.size_[1])) for i in range(len(self._parts))}
        options = {"seed": self.seed, **(self.combiner_options or {})}
        return make(self.combiner, **with_shapes(self.combiner, options, scores))

    def _columns(self, X: MatrixLike, part: Sequence[int]) -> ColumnView:
        ends = np.cumsum([0, *(length * width for length, width in self._shapes)])
        return ColumnView(X, np.concatenate([np.arange(ends[i], ends[i + 1]) for i in part]))

    def _fitted(self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike, Y_val: LabelMatrix) -> list[Head]:
        return [
            head.fit(self._columns(X, part), Y, self._columns(X_val, part), Y_val)
            for head, part in zip(self._new_heads(), self._parts, strict=True)
        ]

    def _out_of_fold(self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike, Y_val: LabelMatrix) -> Vectors:
        """The logits (n, heads · c) of each row by heads that were fitted on the other folds."""
        logits = np.empty((len(Y), len(self._parts) * Y.shape[1]), np.float32)
        for held in splits.folds(f"kfold:{self.folds}", Y, {}, self.seed):
            rows = np.setdiff1d(np.arange(len(Y)), held)
            fitted = self._fitted(RowView(X, rows), Y[rows], X_val, Y_val)
            logits[held] = self._logits(fitted, RowView(X, held))
        return logits

    def _logits(self, fitted: Sequence[Head], X: MatrixLike) -> Vectors:
        """The logits of the rows by each head, side by side, (n, heads · c)."""
        pairs = zip(fitted, self._parts, strict=True)
        scores = [
            require_finite(head.predict_proba(self._columns(X, part)), f"scores of head {i} of the stack")
            for i, (head, part) in enumerate(pairs)
        ]
        logits: Vectors = logit(np.concatenate(scores, axis=1).clip(LIMITS, 1 - LIMITS))
        return logits
