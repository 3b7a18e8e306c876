"""A fitted model: a head with the standardisation of its features; its file `weights.safetensors`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encode_once.cache.representation import short_repr
from encode_once.classify import heads
from encode_once.classify.arrays import (
    Scores,
    State,
    Vectors,
)
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.learned import make_vectoriser
from encode_once.classify.data.matrix import MatrixLike
from encode_once.classify.data.standardise import Standardised
from encode_once.classify.data.text import Vectoriser
from encode_once.classify.heads import state as states
from encode_once.classify.heads.base import Head
from encode_once.classify.runs.checksums import (
    check_file,
)
from encode_once.classify.runs.reading import (
    read_weights,
    reading,
)
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.spec import FitSpec


@dataclass(frozen=True)
class Model:
    """A fitted head with the standardisation of its features."""

    mean: Vectors  # (d,)
    scale: Vectors  # (d,)
    head: Head
    vectorisers: Mapping[str, Vectoriser]  # by the name of the learned feature
    task: str = MULTI  # see `FitSpec`

    __repr__ = short_repr

    def standardise(self, X: MatrixLike) -> Standardised:
        """Features (n, d) as the head takes them; a missing vector (NaN) is replaced by the training mean."""
        return Standardised(X, self.mean, self.scale)

    def scores(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of features (n, d); of the task "single", they sum to 1."""
        return of_task(self.task, self.head.predict_proba(self.standardise(X)))


def of_task(task: str, scores: Scores) -> Scores:
    """A head's scores (n, c); of the task "single", divided by their sum, which a softmax leaves at 1."""
    if task == MULTI:
        return scores
    total = scores.sum(axis=1, keepdims=True)
    equal = np.float32(1 / scores.shape[1])  # of a row whose scores are all 0
    return np.where(total > 0, scores / np.maximum(total, np.finfo(np.float32).tiny), equal)


def arrays_of(model: Model) -> State:
    """Everything a model learned, as named arrays."""
    parts: dict[str, Head | Vectoriser] = {"head": model.head, **model.vectorisers}
    arrays = {"mean": model.mean, "scale": np.minimum(model.scale, states.INFINITE), **states.merge(parts)}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def load_model(path: Path, checksum: str | None, version: int, spec: FitSpec, record: RunRecord) -> Model:
    """The inverse of `arrays_of`; the model has scored two rows, so that it is known to fit the run.

    checksum: None for a version that has none.
    """
    if checksum is not None:
        check_file(path, checksum)
    with reading(path):
        arrays = read_weights(path, version)
        vectorisers = {}
        for name in record.features.keys() - record.stored.keys():
            vectorisers[name] = make_vectoriser(name)
            vectorisers[name].load_state(states.state_of(name, arrays))
            vectorisers[name].transform(["a caption"]).take(np.arange(1))
        shapes = shapes_of(record, vectorisers)
        d = sum(length * width for length, width in shapes.values())
        mean, scale = arrays["mean"], arrays["scale"]
        if {(mean.shape, mean.dtype), (scale.shape, scale.dtype)} != {((d,), np.dtype(np.float32))}:
            raise ValueError(f"mean and scale are not of {d} columns")
        if not (scale > 0).all():
            raise ValueError("scale is not positive")
        head = heads.make(spec.head, **heads.with_shapes(spec.head, spec.options, shapes))
        head.load_state(states.state_of("head", arrays))
        scale = np.where(scale == states.INFINITE, np.float32(np.inf), scale)
        model = Model(mean, scale, head, vectorisers, spec.task)
        scores = model.scores(np.stack([mean, np.full(d, np.nan, np.float32)]))
        if scores.shape != (2, len(record.classes)) or not np.isfinite(scores).all():
            raise ValueError(f"it does not score {len(record.classes)} classes")
        return model


def shapes_of(record: RunRecord, vectorisers: Mapping[str, Vectoriser]) -> dict[str, tuple[int, int]]:
    """Feature → length and width of its block of columns."""
    return {
        name: (feature.length, feature.dim) if feature else vectorisers[name].shape
        for name, feature in record.features.items()
    }
