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
from cache.keys import KEY_BYTES, Keys, pack, present
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
        """The feature's rows of a table's n rows, (k, n), one for each of its images or k captions.

        It is -1 where that failed or there is no content.

        Raises:
            MissingRowsError: rows that were never extracted.
        """
        if self.written is not None:
            self._found(self.written, table.all_keys("image"), table)
        keys = captioned(table, self.captions, self.written).all_keys(self.feature.modality)
        return self._found(self.feature, keys, table)

    def _found(self, feature: Feature, keys: Keys, table: Table) -> NDArray[np.intp]:
        keys = keys.reshape(-1, KEY_BYTES)  # (k * n, 16)
        found = feature.find(keys)
        failed = feature.failures()
        lacking = np.flatnonzero((found < 0) & present(keys))
        waiting = len({i % len(table) for i in lacking.tolist() if keys[i].tobytes() not in failed})
        if waiting:
            how = "" if self.written is None else f" --captions {self.captions}"
            raise MissingRowsError(
                f"{feature.name} lacks {waiting} of the {len(table)} rows of {table.source}: run extract{how}"
            )
        return found.reshape(-1, len(table))


@dataclass(frozen=True)
class Matrix:
    """Features side by side, one row a sample, (n, d); `matrix[rows]` reads those rows from the store."""

    references: Sequence[Reference]
    # Of each feature, (k, n): its row of each of a sample's k captions, or of its image; -1 for none.
    # A sample of several captions has the mean of their vectors.
    rows: Sequence[NDArray[np.intp]]
    warnings: list[str]

    @property
    def dims(self) -> dict[str, int]:
        """Reference → how many of the d columns are its, in order."""
        return {one.name: one.feature.dim or 0 for one in self.references}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(self.dims.values())

    def __len__(self) -> int:
        return int(self.rows[0].shape[1])

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Floats:
        """Those rows, (m, d); NaN where one has no vector of a feature."""
        wanted = [found[:, rows] for found in self.rows]  # (k, m) each
        X = np.full((wanted[0].shape[1], self.shape[1]), np.nan, np.float32)
        starts = np.cumsum(list(self.dims.values()))[:-1]
        for one, found, columns in zip(self.references, wanted, np.split(X, starts, axis=1), strict=True):
            there = found >= 0
            if len(found) == 1:
                columns[there[0]] = _take(one.feature, found[0, there[0]])
                continue
            columns[there.any(axis=0)] = 0
            for row, has in zip(found, there, strict=True):
                columns[has] += _take(one.feature, row[has])
            columns /= np.maximum(there.sum(axis=0), 1)[:, None]
        return X


def _take(feature: Feature, rows: NDArray[np.intp]) -> Floats:
    """Rows of a feature, (m, d)."""
    # torch makes float32 of float16 ten times as fast as numpy does
    return torch.tensor(feature.take(rows), dtype=torch.float32).numpy()


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
        there = (found >= 0).any(axis=0)
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
    """One key a row, (n, 16), of all that the sample holds: its image and its captions."""
    captions = table.all_keys("caption")
    held = np.concatenate([table.keys("image"), *captions], axis=1)  # (n, (1 + k) 16)
    # Not the places of captions that only other rows of the table have; that of the first belongs to the key.
    ends = KEY_BYTES * (1 + np.maximum(captions.any(axis=2).sum(axis=0), 1))
    return pack(content_key(row[:end].tobytes()) for row, end in zip(held, ends.tolist(), strict=True))


def choose_table(store: Store, data: str | os.PathLike[str] | None) -> Table:
    """The labelled table to learn from: that of some data, or the only one; of its splits, that called train.

    Raises:
        DataError: there is none, or several, or its file changed since it was extracted.
    """
    tables = [table for table in store.tables() if table.labels is not None]
    if data is not None:
        root = Path(data).resolve()
        tables = [table for table in tables if Path(table.source).is_relative_to(root)]
    if not tables:
        raise DataError(
            f"{store.path} knows no table with labels{f' in {data}' if data else ''}: run extract first"
        )
    if len(tables) > 1:
        tables = [table for table in tables if table.split.startswith("train")] or tables
    if len(tables) > 1:
        known = ", ".join(table.source for table in tables)
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
