"""From the cache to matrices: X from features, read when rows are asked for, Y from the labels of a table."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache import DataError, Feature, MissingRowsError, Store, Table, UsageError, content_key
from cache.keys import Keys, pack, present
from cache.texts import OWN, captioned, texts_of
from classify.matrices import MatrixLike, chunks

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A feature as a run takes it; of a feature of captions, whose: "table", a captioner's, or joined."""

    feature: Feature
    captions: str = OWN
    written: Feature | None = None  # by the captioner: its texts, by image

    @property
    def name(self) -> str:
        """As `fit --features` has it."""
        return self.feature.name if self.written is None else f"{self.feature.name}@{self.captions}"

    def find(self, table: Table) -> NDArray[np.intp]:
        """The feature's row of each of a table's rows, (n,), or -1 where it failed or there is no content.

        Raises:
            MissingRowsError: rows that were never extracted.
        """
        if self.written is not None:
            self._found(self.written, table.keys("image"), table)
        keys = captioned(table, self.captions, self.written).keys(self.feature.modality)
        return self._found(self.feature, keys, table)

    def _found(self, feature: Feature, keys: Keys, table: Table) -> NDArray[np.intp]:
        found = feature.find(keys)
        failed = feature.failures()
        waiting = sum(key.tobytes() not in failed for key in keys[(found < 0) & present(keys)])
        if waiting:
            how = "" if self.written is None else f" --captions {self.captions}"
            raise MissingRowsError(
                f"{feature.name} lacks {waiting} of the {len(table)} rows of {table.source}: run extract{how}"
            )
        return found


@dataclass(frozen=True)
class Matrix:
    """Features side by side, one row a sample, (n, d); `matrix[rows]` reads those rows from the store."""

    references: Sequence[Reference]
    rows: Sequence[NDArray[np.intp]]  # of each feature, (n,): its row of every sample, -1 where it has none
    warnings: list[str]

    @property
    def dims(self) -> dict[str, int]:
        """Reference → how many of the d columns are its, in order."""
        return {one.name: one.feature.dim or 0 for one in self.references}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(self.dims.values())

    def __len__(self) -> int:
        return len(self.rows[0])

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Floats:
        """Those rows, (m, d); NaN where one has no vector of a feature."""
        wanted = [found[rows] for found in self.rows]
        X = np.full((len(wanted[0]), self.shape[1]), np.nan, np.float32)
        starts = np.cumsum(list(self.dims.values()))[:-1]
        for one, found, columns in zip(self.references, wanted, np.split(X, starts, axis=1), strict=True):
            there = found >= 0
            # torch makes float32 of float16 ten times as fast as numpy does
            columns[there] = torch.tensor(one.feature.take(found[there]), dtype=torch.float32)
        return X


def choose(store: Store, names: Sequence[str]) -> list[Reference]:
    """The features of those names, or every one that holds one vector a row.

    Raises:
        UnknownFeatureError: a name the store does not have.
        DataError: there is none to take, or one holds texts or sequences.
    """
    if names:
        named = (refer(store, name) for name in names)
        return list({one.name: one for one in named}.values())
    features = [store.feature(name) for name in store.features()]
    chosen = [Reference(feature) for feature in features if len(feature) and not feature.ragged]
    if not chosen:
        raise DataError(f"{store.path} holds no features yet: run extract first")
    return chosen


def refer(store: Store, name: str) -> Reference:
    """What a name stands for: a feature, or `FEATURE@CAPTIONS`, as `clip-vit-l/text@coca-b32`.

    Raises:
        UnknownFeatureError: the store has no such feature, or nothing of that captioner.
        DataError: there are no vectors by that name, one a row.
    """
    alone, at, captions = (name, "", OWN) if name in store.features() else name.partition("@")
    feature = store.feature(alone)
    if feature.holds_texts:
        raise DataError(
            f"{name} holds captions, not vectors: extract --encoder NAME --captions {feature.encoder} gives "
            f"their vectors, for instance NAME/text@{feature.encoder}"
        )
    if feature.ragged:
        raise DataError(f"{feature.name} holds a sequence a row, which this head cannot take")
    if at and feature.modality != "caption":
        raise UsageError(f"{name}: {alone} is of images; only a feature of captions can be @{captions}")
    return Reference(feature, captions, texts_of(captions, store))


def load(references: Sequence[Reference], table: Table) -> Matrix:
    """Those features of a table's rows.

    Raises:
        MissingRowsError: rows that were never extracted; those that failed are NaN, and counted.
    """
    rows, warnings = [], []
    for one in references:
        warnings += [
            f"{feature.name} has RANDOM weights: its {what} mean nothing"
            for feature, what in ((one.feature, "vectors"), (one.written, "texts"))
            if feature and str(feature.spec.get("weights")).startswith("RANDOM")
        ]
        found = one.find(table)
        there = found >= 0
        if not there.all():
            warnings.append(
                f"{one.name}: {int((~there).sum())} of {len(table)} rows have no vector; "
                "the average of the others stands in"
            )
        rows.append(found)
    return Matrix(references, rows, warnings)


def standardisation(X: MatrixLike, dims: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Mean and scale (d,) that give every column mean 0, and every feature the same share of the variance.

    Where all columns had variance 1, a feature of 1,280 columns would drown one of 50: heads that shrink
    weights or drop inputs pay for each column. A feature's d columns each get a variance in proportion to
    1/d; over all columns it is 1 on average. NaN is passed over; a constant column keeps its scale.
    """
    mean = _column_means(X, lambda values: values)
    variance = _column_means(X, lambda values: (values - mean) ** 2)
    sizes = np.array(list(dims.values()))
    share = np.sqrt(sizes.sum() / (len(sizes) * sizes))  # (features,)
    scale = np.sqrt(np.where(variance > 0, variance, 1)) / np.repeat(share, sizes)
    return mean.astype(np.float32), scale.astype(np.float32)


def _column_means(X: MatrixLike, function: Callable[[Floats], NDArray[np.floating]]) -> NDArray[np.float64]:
    """Means (d,) of a function of X's entries, over those that are not NaN; NaN where all are.

    StandardScaler.partial_fit is no use here: a chunk in which all of a column is NaN makes its mean NaN.
    """
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for part in chunks(len(X)):
        values = function(X[part])
        total += np.nansum(values, axis=0, dtype=np.float64)
        count += len(values) - np.isnan(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / count


def sample_keys(table: Table) -> Keys:
    """One key a row, (n, 16), of all that the sample holds: its image and its caption."""
    pairs = np.concatenate([table.keys("image"), table.keys("caption")], axis=1)
    return pack(content_key(pair.tobytes()) for pair in pairs)


def choose_table(store: Store, data: str | os.PathLike[str] | None) -> Table:
    """The labelled table to learn from: that of a data folder, or the only one the store knows.

    Raises:
        DataError: there is none, or several, or its file changed since it was extracted.
    """
    tables = [table for table in store.tables() if table.labels is not None]
    if data is not None:
        tables = [table for table in tables if Path(table.source).parent == Path(data).resolve()]
    if not tables:
        raise DataError(
            f"{store.path} knows no table with labels{f' in {data}' if data else ''}: run extract first"
        )
    if len(tables) > 1:
        known = ", ".join(str(Path(table.source).parent) for table in tables)
        raise DataError(
            f"{store.path} knows {len(tables)} tables with labels ({known}): choose one with --data"
        )
    if store.is_outdated(tables[0]):
        raise DataError(f"{tables[0].source} changed since: run extract again (it encodes only what is new)")
    return tables[0]


def label_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Labels as (n, c) bool; names that are no class are left out."""
    number = {name: c for c, name in enumerate(classes)}
    Y = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        Y[row, [number[name] for name in names if name in number]] = True
    return Y


def class_names(labels: Sequence[Sequence[str]]) -> list[str]:
    """Every label that occurs, numbers within names in numeric order: 2 before 10."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]

    return sorted({label for row in labels for label in row}, key=natural)
