"""What every head does."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from encode_once.classify.arrays import PartialLabels, RowIndex, Scores, State
from encode_once.classify.data.matrix import MatrixLike
from encode_once.classify.heads.history import Epoch
from encode_once.classify.heads.search_space import Space


class Head(ABC):
    """A classifier by scikit-learn's contract: the constructor only stores its options.

    X (n, d) is float32 and standardised; Y (n, c) is bool, or int8 with unknown entries if a head takes these
    (`PARTIAL`). X may be an array or anything else with a length, a shape and `X[rows]` (`MatrixLike`): a
    run's is read from the store as rows are asked for. So a head asks for a batch or a chunk at a time, and
    holds more only where it cannot learn otherwise.

    Four options are filled in by `fit` of a run where a head has them: `shapes`, the length and width of
    each feature's block of columns; `classes`, the names of Y's columns; `seed`; and `task`, "multi", or
    "single" if each row of Y has exactly one label: then scores sum to 1. Those of a head without this option
    are divided by their sum.
    """

    LOSSES: ClassVar[Sequence[str]] = ()  # values of the option `loss`
    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {}  # the names that other options may have
    OWN: ClassVar[Sequence[str]] = ()  # options that may name code of the user's own, as `file.py:Name`
    SPACE: ClassVar[Space] = {}  # what `sweep --search` tries
    SEEDED: ClassVar[bool] = True  # whether `seed` changes what is learned where validation rows are given
    # Whether `fit` takes labels with unknown entries, which then must not affect what is learned.
    PARTIAL: ClassVar[bool] = False
    STATE: ClassVar[Sequence[str]] = ()  # names of the learned arrays, which are attributes with a trailing _
    history_: Sequence[Epoch] = ()  # of the last `fit`; empty for a head that does not learn in epochs
    warnings_: Sequence[str] = ()  # of the last `fit`

    @property
    def notes(self) -> Sequence[str]:
        """What the last `fit` decided, as lines for the user: its `notes_`; most heads have none."""
        return getattr(self, "notes_", ())

    @property
    def takes_raw(self) -> bool:
        """Whether X must come as it is, rather than standardised."""
        return False

    def check(self) -> None:  # noqa: B027 — most have nothing to check
        """Raise for options that cannot be used, before anything is read.

        Raises:
            UsageError: an option is wrong.
        """

    @abstractmethod
    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Head":
        """Learn from X and Y; choose settings and stop on the validation rows.

        Without validation rows, the settings come from cross-validation or from a tenth of the rows, and
        what is kept is learned from all rows.

        Raises:
            DataError: an option is unknown, or what was learned is not finite.
        """

    @abstractmethod
    def predict_proba(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of the classes for the rows X (n, d)."""

    def state(self) -> State:
        """What was learned, as named arrays."""
        return {name: getattr(self, f"{name}_") for name in self.STATE}

    def load_state(self, state: State) -> None:
        """Restore what a head of the same options learned: its scores are then the same."""
        for name in self.STATE:
            setattr(self, f"{name}_", state[name])


class CrossFittingHead(Head):
    """A head that cross-fits while it learns, so that no head has to be fitted without each fold for that."""

    @abstractmethod
    def fit_out_of_fold(self, X: MatrixLike, Y: PartialLabels, folds: Sequence[RowIndex]) -> Scores:
        """Learn from all rows, and return the scores (n, c) of each by a model fitted on the other folds."""
