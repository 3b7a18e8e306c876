"""Stratified splits next to iterative-stratification: seconds, and how even the label shares are."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

from encode_once.cache import DataError
from encode_once.cache.bench.stopwatch import timed
from encode_once.classify.arrays import LabelMatrix, RowIndex
from encode_once.classify.data import splits

SPECS = ("stratified:0.1", "kfold:5")
SEEDS = range(5)
FREQUENCIES = 0.4, 0.001  # of the synthetic classes, from the first to the last


def synthetic_labels(rows: int, classes: int, seed: int = 0) -> LabelMatrix:
    """Labels (rows, classes) from common to rare; some rows have many, as pictures of busy scenes do."""
    rng = np.random.default_rng(seed)
    busy = rng.gamma(2, 0.5, (rows, 1))
    return np.asarray(rng.random((rows, classes), np.float32) < busy * np.geomspace(*FREQUENCIES, classes))


def contest(name: str, labels: LabelMatrix, specs: Sequence[str] = SPECS) -> Iterator[dict[str, Any]]:
    """A row per SPEC: the median seconds of both over `SEEDS`, and how uneven label shares are on average.

    `uneven` is in hundred thousandths, see `unevenness`.

    Raises:
        DataError: iterative-stratification is not installed.
    """
    for spec in specs:
        seconds, uneven = _over_seeds(labels, partial(_ours, spec, labels))
        peer_seconds, peer_uneven = _over_seeds(labels, partial(_peer, spec, labels))
        yield {
            "labels": f"{name}, {len(labels):,} × {labels.shape[1]}",
            "split": spec,
            "seconds": seconds,
            "peer's seconds": peer_seconds,
            "times as fast": peer_seconds / seconds,
            "uneven": 1e5 * uneven,
            "peer's uneven": 1e5 * peer_uneven,
        }


def _ours(spec: str, labels: LabelMatrix, seed: int) -> list[RowIndex]:
    return splits.folds(spec, labels, {}, splits.position_draws(len(labels), seed))


def unevenness(labels: LabelMatrix, folds: Sequence[RowIndex]) -> float:
    """How far a label's share of the eval rows is from its share of all, the mean over labels and folds."""
    whole = labels.mean(axis=0)
    return float(np.mean([np.abs(labels[rows].mean(axis=0) - whole).mean() for rows in folds]))


def _over_seeds(labels: LabelMatrix, split: Callable[[int], Sequence[RowIndex]]) -> tuple[float, float]:
    """The median seconds of a split, and its mean unevenness."""
    seconds, folds = zip(*(timed(partial(split, seed)) for seed in SEEDS), strict=True)
    return median(seconds), float(np.mean([unevenness(labels, rows) for rows in folds]))


def _peer(spec: str, labels: LabelMatrix, seed: int) -> list[RowIndex]:
    try:
        library = import_module("iterstrat.ml_stratifiers")
    except ImportError as error:
        raise DataError("bench split needs its peer: pip install iterative-stratification") from error
    rule, _, amount = spec.partition(":")
    if rule == "kfold":
        splitter = library.MultilabelStratifiedKFold(int(amount), shuffle=True, random_state=seed)
    else:
        splitter = library.MultilabelStratifiedShuffleSplit(1, test_size=float(amount), random_state=seed)
    Y = labels.astype(int)
    return [rows for _, rows in splitter.split(Y, Y)]
