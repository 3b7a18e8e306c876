"""Late fusion: a head for each feature, and one more over their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import PartialLabels, RowIndex, Scores, State, Vectors, as_partial_labels
from encode_once.classify.data import splits
from encode_once.classify.data.matrix import ColumnView, MatrixLike, RowView
from encode_once.classify.heads import make, with_seed, with_shapes
from encode_once.classify.heads import state as states
from encode_once.classify.heads.base import CrossFittingHead, Head
from encode_once.classify.heads.checks import require_finite
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.torch.networks import Shapes

CLIP = 1e-4  # scores are clipped to [CLIP, 1 - CLIP] for their logits
MEAN = "mean"


@dataclass(eq=False, repr=False)
class Stack(Head, Estimator):
    """Heads whose out-of-fold scores are the input of another head, the combiner (Wolpert, 1992).

    The combiner is fitted on the logits of each train row by heads that were fitted on the other folds; then
    the heads are fitted on all train rows. The combiner "mean" averages logits and is not fitted, so that
    each head is fitted once.

    With unknown labels, all heads and the combiner must take these.

    shapes: length and width of each feature's block of X's columns; by default X is one vector.
    heads: the name of the head for each part; by default `bigru` if a feature holds sequences, else `mlp`.
    parts: the features that each head takes, by their indices; by default each feature is a part.
    options: of each head, in the order of `heads`.
    combiner, combiner_options: the head over the scores, or "mean".
    """

    PARTIAL: ClassVar[bool] = True

    shapes: Shapes | None = None
    heads: Sequence[str] | None = None
    parts: Sequence[Sequence[int]] | None = None
    options: Sequence[Mapping[str, Any]] | None = None
    combiner: str = "linear"
    combiner_options: Mapping[str, Any] | None = None
    folds: int = 4
    seed: int = 0

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Stack":
        """Learn the labels Y (n, c) of the rows X (n, d); without validation rows, all heads do without."""
        Y = as_partial_labels(Y, len(X))
        self.size_ = np.array([X.shape[1], Y.shape[1]])
        combiner = None if self.combiner == MEAN else self._new_combiner()  # first, to raise before fitting
        self.heads_ = self._fitted(X, Y, X_val, Y_val)
        if combiner:
            logits = self._out_of_fold(X, Y, X_val, Y_val)
            logits_val = None if X_val is None else self.logits(X_val)
            self.combiner_ = combiner.fit(logits, Y, logits_val, Y_val)
        fitted = [*self.heads_, *([combiner] if combiner else [])]
        self.warnings_ = [warning for head in fitted for warning in head.warnings_]
        return self

    @property
    def notes(self) -> Sequence[str]:
        return [note for head in self.heads_ for note in head.notes]

    def predict_proba(self, X: MatrixLike) -> Scores:
        logits = self.logits(X)
        if self.combiner != MEAN:
            return self.combiner_.predict_proba(logits)
        by_head = logits.reshape(len(X), len(self.heads_), -1)
        means: Scores = expit(by_head.mean(axis=1))
        return means

    def state(self) -> State:
        """The numbers of columns and classes, (2,), and what each head and the combiner learned."""
        learned = {str(i): head for i, head in enumerate(self.heads_)}
        if self.combiner != MEAN:
            learned["combiner"] = self.combiner_
        return {"size": self.size_, **states.merge(learned)}

    def load_state(self, state: State) -> None:
        def load(head: Head, owner: str) -> Head:
            head.load_state(states.state_of(owner, state))
            return head

        self.size_ = state["size"]
        self.heads_ = [load(head, str(i)) for i, head in enumerate(self._new_heads())]
        if self.combiner != MEAN:
            self.combiner_ = load(self._new_combiner(), "combiner")

    def logits(self, X: MatrixLike) -> Vectors:
        """The logits of the rows X (n, d) by each fitted head, side by side, (n, heads · c)."""
        return self._logits(self.heads_, X)

    def fit_out_of_fold(self, X: MatrixLike, Y: PartialLabels, folds: Sequence[RowIndex]) -> Vectors:
        """Fit heads that cross-fit themselves, without a combiner; return their logits, (n, heads · c)."""
        self.size_ = np.array([X.shape[1], Y.shape[1]])
        self.heads_ = self._new_heads()
        scores = []
        for head, part in zip(self.heads_, self._parts, strict=True):
            assert isinstance(head, CrossFittingHead)
            scores.append(head.fit_out_of_fold(self._columns(X, part), Y, folds))
        return _logits(scores)

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
        heads = [
            make(name, **with_shapes(name, with_seed(name, head_options, self.seed), self._shapes_of(part)))
            for name, head_options, part in zip(names, options, parts, strict=True)
        ]
        for name, head in zip(names, heads, strict=True):
            if head.takes_raw:
                raise DataError(f"head {name} cannot be part of a stack, whose features are standardised")
        return heads

    def _shapes_of(self, part: Sequence[int]) -> dict[str, tuple[int, int]]:
        return {f"feature {i}": (self._shapes[i][0], self._shapes[i][1]) for i in part}

    def _new_combiner(self) -> Head:
        scores = {f"head {i}": (1, int(self.size_[1])) for i in range(len(self._parts))}
        options = with_seed(self.combiner, self.combiner_options or {}, self.seed)
        return make(self.combiner, **with_shapes(self.combiner, options, scores))

    def _columns(self, X: MatrixLike, part: Sequence[int]) -> ColumnView:
        ends = np.cumsum([0, *(length * width for length, width in self._shapes)])
        return ColumnView(X, np.concatenate([np.arange(ends[i], ends[i + 1]) for i in part]))

    def _fitted(
        self, X: MatrixLike, Y: PartialLabels, X_val: MatrixLike | None, Y_val: PartialLabels | None
    ) -> list[Head]:
        def fitted(head: Head, part: Sequence[int]) -> Head:
            columns_val = None if X_val is None else self._columns(X_val, part)
            return head.fit(self._columns(X, part), Y, columns_val, Y_val)

        return [fitted(head, part) for head, part in zip(self._new_heads(), self._parts, strict=True)]

    def _out_of_fold(
        self, X: MatrixLike, Y: PartialLabels, X_val: MatrixLike | None, Y_val: PartialLabels | None
    ) -> Vectors:
        """The logits (n, heads · c) of each row by heads that were fitted on the other folds."""
        logits = np.empty((len(Y), len(self._parts) * Y.shape[1]), np.float32)
        for fold in splits.folds(f"kfold:{self.folds}", Y, {}, splits.position_draws(len(Y), self.seed)):
            others = np.setdiff1d(np.arange(len(Y)), fold)
            fitted = self._fitted(RowView(X, others), Y[others], X_val, Y_val)
            logits[fold] = self._logits(fitted, RowView(X, fold))
        return logits

    def _logits(self, fitted: Sequence[Head], X: MatrixLike) -> Vectors:
        """The logits of the rows by each head, side by side, (n, heads · c)."""
        pairs = zip(fitted, self._parts, strict=True)
        scores = [
            require_finite(head.predict_proba(self._columns(X, part)), f"scores of head {i} of the stack")
            for i, (head, part) in enumerate(pairs)
        ]
        return _logits(scores)


def _logits(scores: Sequence[Scores]) -> Vectors:
    """The logits of the scores (n, c) of each head, side by side."""
    logits: Vectors = logit(np.concatenate(scores, axis=1).clip(CLIP, 1 - CLIP))
    return logits
