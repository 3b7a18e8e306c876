"""The heads by name. One more is one file here and one line in `HEADS`."""

import inspect
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache.errors import unknown_name
from classify.matrices import MatrixLike

HEADS = {  # name → where its class is; imported when it is asked for
    "linear": ("classify.heads.linear", "Linear"),
    "mlp": ("classify.heads.mlp", "MLP"),
    "knn": ("classify.heads.knn", "KNN"),
    "forest": ("classify.heads.forest", "Forest"),
    "gbm": ("classify.heads.gbm", "GBM"),
}


class Head(Protocol):
    """What every head does, by scikit-learn's contract: the constructor only stores its options.

    X (n, d) is float32 and standardised, Y (n, c) bool. X may be an array or anything else with a length, a
    shape and `X[rows]` (`MatrixLike`): a run's is read from the store as rows are asked for. So a head asks
    for a batch or a chunk at a time, and holds more only where it cannot learn otherwise.
    """

    def fit(
        self,
        X: MatrixLike,
        Y: NDArray[np.bool_],
        X_val: MatrixLike | None = None,
        Y_val: NDArray[np.bool_] | None = None,
    ) -> "Head":
        """Learn from X and Y; choose settings and stop on the validation rows.

        Without validation rows, some of the rows given are held out for that.
        """
        ...

    def predict_proba(self, X: MatrixLike) -> NDArray[np.float32]:
        """Probabilities of the labels, (n, c) float32."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, as named arrays."""
        ...

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Take up what another head of the same options learned: scores are then the same."""
        ...


def make(name: str, **options: Any) -> Head:
    """A head by its name, with its options.

    Raises DataError for a name or an option there is not, with the nearest that there is.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    module, class_name = HEADS[name]
    head: type[Head] = getattr(import_module(module), class_name)
    known = inspect.signature(head).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of head {name!r}", option, known)
    return head(**options)
