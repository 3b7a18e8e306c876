"""Multi-label data sets as MULAN and MEKA distribute them (ARFF), and each as a store that `fit` reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import DataError, MissingDataError, Store, Table, content_key
from encode_once.cache.arff import BINARY, ArffFile, read_arff
from encode_once.cache.keys import pack
from encode_once.classify.arrays import LabelMatrix, Vectors

# The number of labels of sets whose features are 0/1 too; the labels are the last columns of every set.
LABELS = {"medical": 45, "delicious": 983}
PARTS = ("train", "test")


@dataclass(frozen=True)
class PublishedSet:
    """A data set with its standard split."""

    name: str
    path: Path  # of its train rows
    X: Vectors  # (n, d), the train rows first
    Y: LabelMatrix  # (n, c)
    labels: list[str]  # (c,)
    train: int  # number of train rows


def published_names(folder: Path) -> list[str]:
    """The names of the sets in a folder, which holds NAME-train.arff and NAME-test.arff, or these as .gz."""
    files = {path.name.removesuffix(".gz").removesuffix(".arff") for path in folder.glob("*.arff*")}
    return sorted(file[:-6] for file in files if file.endswith("-train") and f"{file[:-6]}-test" in files)


def read_published(folder: Path, name: str, labels: int | None = None) -> PublishedSet:
    """A data set of a folder.

    Args:
        labels: the number of its labels, which are its last columns. By default it is looked up in `LABELS`;
            for a set with numeric features, the labels are all 0/1 columns after the last numeric one.

    Raises:
        DataError: a file is missing or not understood, or the number of labels is not clear.
    """
    paths = [_path(folder, f"{name}-{part}") for part in PARTS]
    train, test = map(read_arff, paths)
    columns = train.columns
    if columns != test.columns:
        raise DataError(f"{paths[0]} and {paths[1]} have different columns")
    labels = labels or LABELS.get(name) or _trailing_binary(columns)
    if not 0 < labels < len(columns):
        raise DataError(
            f"{paths[0]}: which of its {len(columns)} columns are labels is not clear: say how many of the "
            f"last ones with --labels {name}=NUMBER"
        )
    values = np.concatenate([_dense(train), _dense(test)])
    Y = values[:, -labels:]
    if not np.isin(Y, (0, 1)).all():
        raise DataError(f"{paths[0]}: the last {labels} columns are not all 0/1")
    names = [name for name, _ in columns[-labels:]]
    return PublishedSet(name, paths[0], values[:, :-labels], Y.astype(np.bool_), names, train.values.shape[0])


@contextmanager
def published_store(data: PublishedSet) -> Iterator[Store]:
    """A temporary store with a set's vectors and labels; the column `split` says train or test."""
    keys = pack(content_key(row.tobytes()) for row in data.X)
    n = len(keys)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        _, first = np.unique(keys, axis=0, return_index=True)
        first.sort()  # equal rows share a vector
        with store.declare(f"{data.name}/vectors", {"modality": "image"}).writer(len(first)) as writer:
            writer.append(keys[first], data.X[first])
        ids = [*map(str, range(n))]
        labels = [tuple(data.labels[k] for k in np.flatnonzero(row)) for row in data.Y]
        split = [PARTS[row >= data.train] for row in range(n)]
        store.save(
            Table(str(data.path), ids, ids, ids, labels, columns={"split": split}, image_keys=keys,
                  caption_keys=keys)
        )  # fmt: skip
        yield store


def _dense(file: ArffFile) -> Vectors:
    values: Vectors = file.values if isinstance(file.values, np.ndarray) else file.values.toarray()
    return values


def _path(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.arff", folder / f"{stem}.arff.gz"):
        if path.exists():
            return path
    raise MissingDataError(f"{folder} has no {stem}.arff or {stem}.arff.gz")


def _trailing_binary(columns: list[tuple[str, Any]]) -> int:
    """The number of 0/1 columns after the last numeric one; 0 if no column is numeric."""
    numeric = [place for place, (_, kind) in enumerate(columns) if kind != BINARY]
    return len(columns) - 1 - numeric[-1] if numeric else 0
