"""Multi-label data sets as MULAN and MEKA distribute them (ARFF), and each as a store that `fit` reads."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import DataError, MissingDataError, Store, Table, content_key
from encode_once.cache.keys import pack
from encode_once.classify.arrays import LabelMatrix, Vectors

# The number of labels of sets whose features are 0/1 too; the labels are the last columns of every set.
LABELS = {"medical": 45, "delicious": 983}
PARTS = ("train", "test")
BINARY = ["0", "1"]


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
    (columns, train), (others, test) = map(read_arff, paths)
    if columns != others:
        raise DataError(f"{paths[0]} and {paths[1]} have different columns")
    labels = labels or LABELS.get(name) or _trailing_binary(columns)
    if not 0 < labels < len(columns):
        raise DataError(
            f"{paths[0]}: which of its {len(columns)} columns are labels is not clear: say how many of the "
            f"last ones with --labels {name}=NUMBER"
        )
    values = np.concatenate([train, test])
    Y = values[:, -labels:]
    if not np.isin(Y, (0, 1)).all():
        raise DataError(f"{paths[0]}: the last {labels} columns are not all 0/1")
    names = [name for name, _ in columns[-labels:]]
    return PublishedSet(name, paths[0], values[:, :-labels], Y.astype(np.bool_), names, len(train))


def read_arff(path: Path) -> tuple[list[tuple[str, Any]], Vectors]:
    """The columns of an ARFF file, each a name and a type, and its rows, dense or sparse, as (n, columns).

    Raises:
        DataError: it is not ARFF, or a column is neither numeric nor 0/1; liac-arff is not installed.
    """
    try:
        arff = import_module("arff")
    except ImportError as error:
        raise DataError("ARFF files need the extra peers: pip install 'encode-once[peers]'") from error
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        text = file.read()
    sparse = text.lower().partition("@data")[2].lstrip().startswith("{")
    try:
        content = arff.loads(text, return_type=arff.LOD if sparse else arff.DENSE)
    except arff.ArffException as error:
        raise DataError(f"{path}: {error}") from error
    columns: list[tuple[str, Any]] = content["attributes"]
    for name, kind in columns:
        if kind not in ("NUMERIC", "REAL", "INTEGER", BINARY):
            raise DataError(f"{path}: column {name!r} is neither numeric nor {{0,1}}")
    values = np.zeros((len(content["data"]), len(columns)), np.float32)
    for row, cells in enumerate(content["data"]):
        values[row, [*cells] if sparse else slice(None)] = [*cells.values()] if sparse else cells
    if not np.isfinite(values).all():
        raise DataError(f"{path} has missing values")
    return columns, values


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


def _path(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.arff", folder / f"{stem}.arff.gz"):
        if path.exists():
            return path
    raise MissingDataError(f"{folder} has no {stem}.arff or {stem}.arff.gz")


def _trailing_binary(columns: list[tuple[str, Any]]) -> int:
    """The number of 0/1 columns after the last numeric one; 0 if no column is numeric."""
    numeric = [place for place, (_, kind) in enumerate(columns) if kind != BINARY]
    return len(columns) - 1 - numeric[-1] if numeric else 0
