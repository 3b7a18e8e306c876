"""Read the files of a run that others may have written: checked types, shapes and values.

Any bytes give a valid value, or one `RunError` that names the file.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from encode_once.cache import DataError, EncodeOnceError
from encode_once.cache.format import files
from encode_once.cache.format.hdf5 import open_hdf5, read_array, read_heap_texts, read_texts
from encode_once.cache.keys import KEY_BYTES, Keys, content_key, pack
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import UNKNOWN, FloatArray, PartialLabels, State
from encode_once.classify.decisions.rule import DecisionRule
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.heads.history import Epoch
from encode_once.classify.heads.state import MAY_BE_INFINITE, SEPARATOR
from encode_once.classify.runs import upgrades
from encode_once.classify.runs.upgrades import VERSION, WITH_BYTES, WITH_KEYS

ROUNDING = 1e-5  # how far a score may be outside of [0, 1]


class RunError(EncodeOnceError, OSError):
    """A run's folder cannot be read."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error of the block, which reads the file, into a `RunError` of one line that names it."""
    try:
        with files.reading(path):
            yield
    except RunError:
        raise
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: fit it again") from error
    except EncodeOnceError as error:
        message = " ".join(str(error).split())
        named = message if message.startswith(str(path)) else f"{path} cannot be read ({message})"
        raise RunError(f"{named}: fit it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    with reading(path):
        content = files.read_json(path)
        # Fails for half a surrogate pair, unless it stands for a byte of a path that is not UTF-8.
        json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
        if not isinstance(content, dict):
            raise ValueError(f"it is {type(content).__name__}, not an object")
        return content


# ------------------------------------------------------------------------------------------- thresholds.json


@dataclass(frozen=True)
class _GuaranteeFile:
    measure: str
    at_least: float
    confidence: float
    never: list[str]
    always: list[str]
    expected_precision: dict[str, float | None]
    expected_recall: dict[str, float | None]


@dataclass(frozen=True)
class _RuleFile:
    """The types in `thresholds.json`; `DecisionSpec` checks the values of its own fields."""

    objective: str
    shrink: bool
    decide: str
    calibrate: str
    at_least: int
    at_most: int | None
    thresholds: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    expected_loss: float | None
    guarantee: _GuaranteeFile | None
    calibrated_by: str
    calibration: dict[str, list[float]] | dict[str, list[list[float]]] | None
    folds: list["_RuleFile"]
    precedence: list[str] | None = None
    sizes: list[int] | None = None
    gains: dict[str, list[float]] | None = None
    hierarchy: bool = False


def read_rule(path: Path, classes: Sequence[str], folds: int, version: int = VERSION) -> DecisionRule:
    """The decision rule in `thresholds.json` of a run with these classes, and that many folds or 0."""
    content = read_json(path)
    with reading(path):
        content = upgrades.rule(content, version)
        files.typed(_RuleFile, content)
        rule = DecisionRule.of_json(content, classes)
        _check_rule(rule, len(classes))
        if len(rule.folds) not in (0, folds):
            raise ValueError(f"it has {len(rule.folds)} folds, and scores.h5 {folds}")
        for fold in rule.folds:
            _check_rule(fold, len(classes))
            if fold.spec != rule.spec or fold.folds:
                raise ValueError("a fold has another rule, or folds")
        return rule


@dataclass(frozen=True)
class _ThresholdsFile:
    thresholds: dict[str, float]


def read_thresholds(path: Path, classes: Sequence[str]) -> FloatArray:
    """The thresholds (c,) that a person chose, in a JSON file with `{"thresholds": {class: number}}`.

    A report page exports such a file, and the `thresholds.json` of another run is one.

    Raises:
        DataError: it is not such a file, a class is missing or unknown, or a threshold is negative.
    """
    try:
        content = read_json(path)
        with reading(path):
            values = files.typed(_ThresholdsFile, {"thresholds": content["thresholds"]}).thresholds
    except RunError as error:
        expected = 'expected a JSON object with "thresholds": {class: number}'
        raise DataError(f"{str(error).removesuffix(': fit it again')}: {expected}") from error
    if content.get("decide") == "thresholds" and content.get("calibrated_by", "none") != "none":
        raise DataError(f"{path} has thresholds of calibrated scores, which other runs do not have")
    if differing := set(classes) ^ set(values):
        missing, unknown = set(classes) & differing, set(values) & differing
        parts = [f"{text}: {short_list(sorted(names))}" for text, names in
                 (("no threshold of", missing), ("unknown classes", unknown)) if names]  # fmt: skip
        raise DataError(f"{path} does not have the classes of the run ({'; '.join(parts)})")
    thresholds = np.array([values[name] for name in classes], np.float64)
    if not (np.isfinite(thresholds) & (thresholds >= 0)).all():
        raise DataError(
            f"{path} has a threshold that is negative or not finite; above 1, the class is never predicted"
        )
    return thresholds


def _check_rule(rule: DecisionRule, c: int) -> None:
    estimate, calibration = rule.estimate, rule.calibration
    missing = np.isnan(estimate.thresholds).all() and rule.spec.decide != "thresholds"
    if not (np.isfinite(estimate.thresholds).all() or missing):
        raise ValueError(f"its thresholds do not fit the rule {rule.spec.decide!r}")
    least, most = rule.sizes or (0, c)
    if not 0 <= least <= most <= c:
        raise ValueError(f"no row has {least} to {most} of {c} labels")
    if rule.gains is not None and not (rule.gains.shape == (2, c) and np.isfinite(rule.gains).all()):
        raise ValueError("the gains of a class are not two numbers")
    intervals = estimate.intervals
    if intervals is not None and intervals.shape != (c, 2):
        raise ValueError("an interval has not two ends")
    if (calibration.method if calibration else "none") != rule.spec.calibration:
        raise ValueError(f"its scores are not calibrated by {rule.spec.calibration}")
    for values in calibration.parameters if calibration else ():
        _check_calibration(rule.spec.calibration, values)


def _check_calibration(method: str, values: FloatArray) -> None:
    isotonic = method == "isotonic"
    fits = values.ndim == 1 + isotonic and len(values) == 2 and values.size
    if not fits or not np.isfinite(values).all():
        raise ValueError(f"it has no {method} calibration of every class")
    if isotonic and (np.diff(values[0]) < 0).any():
        raise ValueError("the corners of a calibration do not rise")


# ------------------------------------------------------------------------------------------------ scores.h5


@dataclass(frozen=True)
class KeptScores:
    """The content of `scores.h5`."""

    validation: ScoredRows
    eval: ScoredRows
    fitted_on: Keys


def read_scores(path: Path, classes: Sequence[str], features: int, version: int = VERSION) -> KeptScores:
    """The content of `scores.h5` of a run with these classes, and that many features.

    Rows without a recorded content key have one of their id: runs on the same rows can be compared with each
    other.
    """
    in_heap = version < WITH_BYTES
    with reading(path), open_hdf5(path, texts_in_heap=in_heap) as file:
        texts = partial(read_heap_texts, path) if in_heap else read_texts
        if texts(file, "classes") != list(classes):
            raise ValueError("its classes are not those of run.json")
        fitted_on = read_array(file, "fitted_on", "u", (None, KEY_BYTES)).astype(np.uint8, casting="no")
        validation, evaluated = (
            _scored_rows(file, name, texts(file, f"{name}/ids"), len(classes), features, version >= WITH_KEYS)
            for name in ("tune", "eval")
        )
        return KeptScores(validation, evaluated, fitted_on)


def _scored_rows(
    file: h5py.File, name: str, ids: list[str], c: int, features: int, has_keys: bool
) -> ScoredRows:
    group = file.get(name)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"there is no group {name}")
    n = len(ids)
    scores = read_array(group, "scores", "f", (n, c))
    if not ((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all():  # NaN is neither
        raise ValueError(f"scores of {name} are not between 0 and 1")
    if not n:
        raise ValueError(f"{name} has no rows")

    def optional(dataset: str, kinds: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        return read_array(group, dataset, kinds, shape) if dataset in group else None

    folds, missing = optional("folds", "iu", (n,)), optional("missing", "b", (n, features))
    if folds is not None and not (folds.max() < n and {*folds.tolist()} == {*range(int(folds.max()) + 1)}):
        raise ValueError(f"folds of {name} are not numbered from 0")
    if has_keys:
        keys = read_array(group, "keys", "u", (n, KEY_BYTES)).astype(np.uint8, casting="no")
    else:
        keys = pack(content_key(f"id {row_id}".encode("utf-8", "surrogateescape")) for row_id in ids)
    return ScoredRows(
        ids=ids,
        keys=keys,
        scores=scores,
        labels=_labels(read_array(group, "labels", "bi", (n, c))),
        folds=folds,
        missing=None if missing is None else _booleans(missing),
        groups=optional("groups", "iu", (n,)),
    )


def _labels(values: NDArray[Any]) -> PartialLabels:
    if values.dtype == np.bool_:
        return _booleans(values)
    if values.dtype != np.int8 or not np.isin(values, (0, 1, UNKNOWN)).all():
        raise ValueError(f"a label is neither 0 nor 1, nor {UNKNOWN} for unknown")
    return values


def _booleans(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if (values.view(np.uint8) > 1).any():
        raise ValueError("a label is neither 0 nor 1")
    return values


# --------------------------------------------------------------------------------------- weights and history


def read_weights(path: Path, version: int = VERSION) -> State:
    """The arrays in `weights.safetensors`, without NaN and infinity."""
    with reading(path), files.open_without_links(path):
        arrays: Mapping[str, NDArray[Any]] = upgrades.weights(load_file(path), version)
        for name, values in arrays.items():
            if values.dtype == np.bool_:
                _booleans(values)
            elif not np.isfinite(values).all() and name.rpartition(SEPARATOR)[2] not in MAY_BE_INFINITE:
                raise ValueError(f"{name} holds NaN or infinity")
            elif np.isnan(values).any():
                raise ValueError(f"{name} holds NaN")
        return dict(arrays)


def read_history(path: Path) -> list[Epoch]:
    """The epochs in `history.csv`."""
    with (
        reading(path),
        files.open_without_links(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
    ):
        _, *rows = csv.reader(text)
        return [
            Epoch(int(model), int(epoch), float(loss), float(validation), float(score) if score else None)
            for model, epoch, loss, validation, score in rows
        ]
