"""The heads by name. One more is one file here and one line in `HEADS`."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from encode_once.cache.errors import DataError, unknown_name
from encode_once.classify.arrays import LabelMatrix, Scores
from encode_once.classify.data.matrix import MatrixLike
from encode_once.classify.heads.search_space import Space

# name → where its class is, imported when it is asked for, and what is set there
HEADS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "linear": ("encode_once.classify.heads.linear", "Linear", {}),
    "mlp": ("encode_once.classify.heads.mlp", "MLP", {}),
    "knn": ("encode_once.classify.heads.knn", "KNN", {}),
    "prototype": ("encode_once.classify.heads.prototype", "Prototype", {}),
    "forest": ("encode_once.classify.heads.forest", "Forest", {}),
    "gbm": ("encode_once.classify.heads.gbm", "GBM", {}),
    "bilstm": ("encode_once.classify.heads.fused", "Fused", {"reader": "bilstm"}),
    "bigru": ("encode_once.classify.heads.fused", "Fused", {"reader": "bigru"}),
    "transformer": ("encode_once.classify.heads.fused", "Fused", {"reader": "transformer"}),
    "concat": ("encode_once.classify.heads.fused", "Fused", {"fusion": "concat"}),
    "bilinear": ("encode_once.classify.heads.fused", "Fused", {"fusion": "bilinear", "width": 64}),
    "mutan": ("encode_once.classify.heads.fused", "Fused", {"fusion": "mutan"}),
    "gated": ("encode_once.classify.heads.fused", "Fused", {"fusion": "gated"}),
    "attention": ("encode_once.classify.heads.attention", "Attention", {}),
    "label-rnn": ("encode_once.classify.heads.label_rnn", "LabelRNN", {}),
    "stack": ("encode_once.classify.heads.stack", "Stack", {}),
}


class Head(Protocol):
    """What every head does, by scikit-learn's contract: the constructor only stores its options.

    X (n, d) is float32 and standardised (unless the head `takes_raw`), Y (n, c) bool. X may be an array or
    anything else with a length, a shape and `X[rows]` (`MatrixLike`): a run's is read from the store as rows
    are asked for. So a head asks for a batch or a chunk at a time, and holds more only where it cannot learn
    otherwise.
    """

    def fit(
        self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike | None = None, Y_val: LabelMatrix | None = None
    ) -> "Head":
        """Learn from X and Y; choose settings and stop on the validation rows.

        Without validation rows, some of the rows given are held out for that.
        """
        ...

    def predict_proba(self, X: MatrixLike) -> Scores:
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
    known = options_of(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of head {name!r}", option, known)
    head: Head = _class_of(name)(**{**HEADS[name][2], **options})
    return head


def _class_of(name: str) -> Any:
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    module, class_name, _ = HEADS[name]
    return getattr(import_module(module), class_name)


def options_of(name: str) -> list[str]:
    """The options of a head. One that has `shapes` is told by it how the columns of X are made up.

    These are the length and width of each feature's block, side by side; other heads take vectors alone.
    Raises DataError for a name there is not.
    """
    return [*inspect.signature(_class_of(name)).parameters]


def defaults_of(name: str) -> dict[str, Any]:
    """The options of a head as they are where nothing is said of them."""
    parameters = inspect.signature(_class_of(name)).parameters
    return {option: one.default for option, one in parameters.items()} | HEADS[name][2]


def losses_of(name: str) -> Sequence[str]:
    """The losses a head can be trained under; none where it has one of its own."""
    losses: Sequence[str] = getattr(_class_of(name), "LOSSES", ())
    return losses


def space_of(name: str) -> Space:
    """What there is to try of a head's options; of some nothing."""
    space: Space = getattr(_class_of(name), "SPACE", {})
    return space


def takes_raw(head: Head) -> bool:
    """Whether a head needs the features' columns as they are, rather than standardised: it says `raw`."""
    return getattr(head, "raw", False)


def with_shapes(
    name: str, options: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """The options of a head that is to take features of these lengths and widths.

    Raises DataError where one is a sequence and the head takes vectors alone.
    """
    if "shapes" in options_of(name):
        return {**options, "shapes": [*shapes.values()]}
    sequences = [feature for feature, (length, _) in shapes.items() if length > 1]
    if sequences:
        able = ", ".join(head for head in HEADS if "shapes" in options_of(head))
        raise DataError(f"{sequences[0]} holds a sequence a row, which head {name} cannot take; {able} can")
    return dict(options)
