"""From the cache to matrices: X from features, read when rows are asked for, Y from the labels of a table."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from encode_once.cache import DataError, Feature, MissingRowsError, Store, Table, UsageError
from encode_once.cache.captions import captioner_feature, with_captions
from encode_once.cache.keys import KEY_BYTES, Keys, present
from encode_once.cache.names import OWN, FeatureName
from encode_once.classify.arrays import FloatArray, LabelMatrix, RowIndex, Vectors
from encode_once.classify.data import text as corpus
from encode_once.classify.data.blocks import Block, Matrix, StoredBlock, TextBlock
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.data.text import Vectoriser


@dataclass(frozen=True)
class StoredFeature:
    """A feature as a run takes it; of a feature of captions, whose: "table", a captioner's, or joined."""

    feature: Feature
    captions: str = OWN
    written: Feature | None = None  # by the captioner: its texts, by image
    length: int | None = None  # of its sequences; by default that of the longest

    @property
    def name(self) -> str:
        """As `fit --features` has it."""
        return str(replace(FeatureName.parse(self.feature.name, OWN), captions=self.captions))

    @property
    def remarks(self) -> list[str]:
        """What the person should know who uses it."""
        return [
            f"{feature.name} has RANDOM weights: its {what} mean nothing"
            for feature, what in ((self.feature, "vectors"), (self.written, "texts"))
            if feature and str(feature.spec.get("weights")).startswith("RANDOM")
        ]

    def block(self, table: Table) -> Block:
        """The feature of a table's rows.

        Raises:
            MissingRowsError: rows that were never extracted.
        """
        if self.written is not None:
            self._found(self.written, table.all_keys("image"), table)
        keys = with_captions(table, self.captions, self.written).all_keys(self.feature.modality)
        rows = self._found(self.feature, keys, table)
        return StoredBlock(self.name, self.feature, rows, self.length or self._longest(rows))

    def _longest(self, rows: RowIndex) -> int:
        """Of the sequences of rows (k, n), those of a sample one behind the other."""
        if not self.feature.ragged:
            return 1
        lengths = np.append(self.feature.lengths(), 0)  # the last is that of row -1
        return max(int(lengths[rows].sum(axis=0).max(initial=0)), 1)

    def _found(self, feature: Feature, keys: Keys, table: Table) -> RowIndex:
        """Rows (k, n) of the keys (k, n, 16); -1 where that failed or there is no content."""
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
class LearnedFeature:
    """A feature of captions that a run learns from its training rows, such as `tfidf:1000`."""

    name: str
    vectoriser: Vectoriser | None = None  # of a run that has learned it
    remarks: ClassVar[Sequence[str]] = ()

    def block(self, table: Table) -> Block:
        """The feature of a table's rows; several captions of a row make one text."""
        captions = zip(table.captions, *table.more_captions, strict=True)
        return TextBlock(self.name, [" ".join(filter(None, row)) for row in captions], self.vectoriser)


FeatureSource = StoredFeature | LearnedFeature


def choose(store: Store, names: Sequence[str]) -> list[FeatureSource]:
    """The features of those names, or every one that holds one vector a row.

    Raises:
        UnknownFeatureError: a name the store does not have.
        DataError: there is none to take, or one holds texts.
    """
    if names:
        named = (find_feature(store, name) for name in names)
        return list({one.name: one for one in named}.values())
    features = [store.feature(name) for name in store.features()]
    chosen: list[FeatureSource] = [
        StoredFeature(feature) for feature in features if len(feature) and not feature.ragged
    ]
    if not chosen:
        raise DataError(f"{store.path} holds no features yet: run extract first")
    return chosen


def find_feature(store: Store, name: str) -> FeatureSource:
    """What a name stands for: a feature, `FEATURE@CAPTIONS` as `clip-vit-l/text@coca-b32`, or `tfidf:1000`.

    Raises:
        UnknownFeatureError: the store has no such feature, or nothing of that captioner.
        DataError: there are no vectors by that name.
    """
    if corpus.is_corpus(name):
        corpus.make(name)
        return LearnedFeature(name)
    parsed = FeatureName.parse(name, OWN if name in store.features() else None)
    feature = store.feature(parsed.stored)
    if feature.holds_texts:
        raise DataError(
            f"{name} holds captions, not vectors: extract --encoder NAME --captions {feature.encoder} gives "
            f"their vectors, for instance NAME/text@{feature.encoder}"
        )
    captions = parsed.captions
    if captions != OWN and feature.modality != "caption":
        raise UsageError(
            f"{name}: {feature.name} is of images; only a feature of captions can be @{captions}"
        )
    return StoredFeature(feature, captions, captioner_feature(captions, store))


def load(references: Sequence[FeatureSource], table: Table) -> Matrix:
    """Those features of a table's rows.

    Raises:
        MissingRowsError: rows that were never extracted; those that failed are NaN, and counted.
    """
    blocks = [one.block(table) for one in references]
    warnings: list[str] = []
    for one, block in zip(references, blocks, strict=True):
        warnings += one.remarks
        lacking = int(block.missing().sum())
        if lacking:
            warnings.append(
                f"{one.name}: {lacking} of {len(table)} rows have no vector; "
                "the average of the others stands in"
            )
    return Matrix(blocks, warnings)


@dataclass(frozen=True)
class Samples:
    """A labelled table, the features chosen of it, and both as matrices."""

    table: Table
    references: Sequence[FeatureSource]
    X: Matrix  # (n, d)
    Y: LabelMatrix  # (n, c)
    classes: list[str]


def samples(store: Store, names: Sequence[str], table: Table) -> Samples:
    """What a store holds of a labelled table to learn from: see `choose` and `load`.

    Raises:
        EncodeOnceError: a feature cannot be used, or no row has a label.
    """
    references = choose(store, names)
    X = load(references, table)
    assert table.labels is not None
    classes = class_names(table.labels)
    if not classes:
        raise DataError(f"{table.source} has no label in any row: there is nothing to learn")
    return Samples(table, references, X, label_matrix(table.labels, classes), classes)


def standardisation(X: MatrixLike, shapes: Sequence[tuple[int, int]]) -> tuple[Vectors, Vectors]:
    """Mean and scale (d,) that give every column mean 0, and every feature the same share of the variance.

    Where all columns had variance 1, a feature of 1,280 columns would drown one of 50: heads that shrink
    weights or drop inputs pay for each column. Of a feature's width w, columns each get a variance in
    proportion to 1/w; over all columns it is 1 on average. All places of a sequence count as rows of the same
    w columns. NaN is passed over; a constant column keeps its scale.

    Args:
        shapes: length and width of each feature's block of X's columns.
    """
    mean = _means(X, None, shapes)
    variance = _means(X, mean, shapes)
    widths = np.array([width for _, width in shapes])
    shares = np.sqrt(widths.sum() / (len(widths) * widths))  # (features,)
    share = np.repeat(shares, [length * width for length, width in shapes])
    scale = np.sqrt(np.where(variance > 0, variance, 1)) / share
    return mean.astype(np.float32), scale.astype(np.float32)


def _means(X: MatrixLike, center: FloatArray | None, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Means (d,) of X's entries, or of the squares of their distances to a center (d,), NaN passed over.

    They are NaN where all are. StandardScaler.partial_fit is no use here: a chunk in which all of a column is
    NaN makes its mean NaN.
    """
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for part in chunks(*X.shape):
        values = X[part] if center is None else (X[part] - center) ** 2
        total += np.nansum(values, axis=0, dtype=np.float64)
        count += len(values) - np.isnan(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return _over_places(total, shapes) / _over_places(count, shapes)


def _over_places(sums: FloatArray, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Sums (d,) of columns; those of a sequence's places are put together, and each place is given them."""
    ends = np.cumsum([length * width for length, width in shapes])[:-1]
    blocks = zip(np.split(sums, ends), shapes, strict=True)
    return np.concatenate([np.tile(block.reshape(shape).sum(axis=0), shape[0]) for block, shape in blocks])


def choose_table(store: Store, data: str | os.PathLike[str] | None) -> Table:
    """The labelled table to learn from: that of some data, or the only one; of its splits, that called train.

    Raises:
        DataError: there is none, or several, or its file changed since it was extracted.
    """
    tables = [header for header in store.headers() if header.labelled]
    if data is not None:
        root = Path(data).resolve()
        tables = [header for header in tables if Path(header.source).is_relative_to(root)]
    if not tables:
        raise DataError(
            f"{store.path} knows no table with labels{f' in {data}' if data else ''}: run extract first"
        )
    if len(tables) > 1:
        tables = [header for header in tables if header.split.startswith("train")] or tables
    if len(tables) > 1:
        known = ", ".join(header.source for header in tables)
        raise DataError(
            f"{store.path} knows {len(tables)} tables with labels ({known}): choose one with --data"
        )
    if store.is_outdated(tables[0]):
        raise DataError(f"{tables[0].source} changed since: run extract again (it encodes only what is new)")
    return store.load(tables[0])


def label_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelMatrix:
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
