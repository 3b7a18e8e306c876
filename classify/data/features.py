"""Features by name: stored features, and features that a run learns from captions or other columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from encode_once.cache import DataError, Feature, MissingRowsError, Store, Table, UsageError
from encode_once.cache.captions import captioner_feature, with_captions
from encode_once.cache.keys import KEY_BYTES, Keys, present
from encode_once.cache.names import OWN, FeatureName
from encode_once.cache.terminal import short_list
from encode_once.cache.views import canonical
from encode_once.classify.arrays import RowIndex
from encode_once.classify.data.blocks import Block, Matrix, MemoryRows, SparseBlock, StoredBlock, TextBlock
from encode_once.classify.data.learned import is_learned, make_vectoriser, texts_of
from encode_once.classify.data.text import Vectoriser

REPLACED = ", which the mean of the train rows replaces"  # vectors that rows lack


@dataclass(frozen=True)
class StoredFeature:
    """A feature of the store; if it encodes captions, those of the table, of a captioner, or both joined."""

    feature: Feature
    captions: str = OWN
    written: Feature | None = None  # the captioner's texts, by image
    length: int | None = None  # to cut sequences to; by default that of the longest
    width: int = 0  # of vectors, for a feature that has no rows yet

    @property
    def name(self) -> str:
        """The name as `fit --features` takes it."""
        return str(replace(FeatureName.parse(self.feature.name, OWN), captions=self.captions))

    @property
    def remarks(self) -> list[str]:
        """Warnings for whoever uses the feature."""
        missing = [
            line for feature in (self.feature, self.written) if feature for line in feature.missing_parts()
        ]
        return missing + [
            f"{feature.name} has RANDOM weights: its {what} mean nothing"
            for feature, what in ((self.feature, "vectors"), (self.written, "texts"))
            if feature and feature.is_random
        ]

    def block(self, table: Table) -> Block:
        """The feature of a table's rows.

        Raises:
            MissingRowsError: rows of the table were never extracted.
        """
        if self.written is not None:
            self._find(self.written, table.all_keys("image"), table)
        keys = with_captions(table, self.captions, self.written).all_keys(self.feature.modality)
        rows = self._find(self.feature, keys, table)
        if self.feature.columns:
            return SparseBlock(self.name, self.feature, rows[0])
        length = self.length or self._longest(rows)
        if not len(self.feature) and self.width:
            return StoredBlock(self.name, MemoryRows([], length > 1, self.width), rows, length)
        return StoredBlock(self.name, self.feature, rows, length)

    def _longest(self, rows: RowIndex) -> int:
        """The length of the longest sample, whose sequences are joined; rows is (k, n)."""
        if not self.feature.has_sequences:
            return 1
        lengths = np.append(self.feature.lengths(), 0)  # the last is that of row -1
        return max(int(lengths[rows].sum(axis=0).max(initial=0)), 1)

    def _find(self, feature: Feature, keys: Keys, table: Table) -> RowIndex:
        """Rows (k, n) of the keys (k, n, 16); -1 where there is no content or the encoder failed."""
        keys = keys.reshape(-1, KEY_BYTES)  # (k * n, 16)
        rows = feature.find(keys)
        failed = feature.failures()
        missing = np.flatnonzero((rows < 0) & present(keys))
        not_extracted = {i % len(table) for i in missing.tolist() if keys[i].tobytes() not in failed}
        if not_extracted:
            option = "" if self.written is None else f" --captions {self.captions}"
            command = f"store import {feature.encoder} --append FILE" if feature.is_imported else "extract"
            raise MissingRowsError(
                f"{feature.name} lacks {len(not_extracted)} of the {len(table)} rows of {table.source}: "
                f"run {command}{option}"
            )
        return rows.reshape(-1, len(table))


@dataclass(frozen=True)
class LearnedFeature:
    """A feature that a run learns from its train rows, such as `tfidf:1000` or `column:price`."""

    name: str
    vectoriser: Vectoriser | None = None  # what an earlier run learned
    remarks: ClassVar[Sequence[str]] = ()

    def block(self, table: Table) -> Block:
        """The feature of a table's rows.

        Raises:
            UsageError: the table has no such column.
        """
        return TextBlock(self.name, texts_of(self.name, table), self.vectoriser)


FeatureSource = StoredFeature | LearnedFeature


def choose(store: Store, names: Sequence[str]) -> list[FeatureSource]:
    """The features of these names; without names, every feature of the store with one vector per row.

    Features of random weights are trials, and used only by name.

    The name of an encoder means its output `pooled` or, if it has none, its outputs of one vector per row.

    Raises:
        UnknownFeatureError: the store has no feature of that name.
        DataError: the store has no features, or a feature holds texts.
    """
    if names:
        sources = (find_feature(store, output) for name in names for output in _outputs(store, name))
        return list({source.name: source for source in sources}.values())
    features = [store.feature(name) for name in store.features()]
    pooled = [feature for feature in features if len(feature) and not feature.has_sequences]
    chosen: list[FeatureSource] = [StoredFeature(feature) for feature in pooled if not feature.is_random]
    if pooled and not chosen:
        names = [feature.name for feature in pooled]
        raise DataError(f"{store.location} has RANDOM features only: to try one, --features {names[0]}")
    if not chosen:
        raise DataError(f"{store.location} holds no features yet: run extract first")
    return chosen


def trials(store: Store) -> list[str]:
    """A warning if the store has features of random weights, which `choose` leaves out."""
    names = [name for name in store.features() if store.feature(name).is_random]
    return [f"not used, as their weights are RANDOM: {short_list(names)} (store drop)"] if names else []


def _outputs(store: Store, name: str) -> list[str]:
    """The features that a name of `--features` means: itself, or the outputs of the encoder of that name."""
    encoder = canonical(name)
    encoded = [feature for feature in map(FeatureName.parse, store.features()) if feature.encoder == encoder]
    outputs = [str(feature) for feature in encoded if not store.feature(str(feature)).has_sequences]
    pooled = [output for output in outputs if output.endswith("/pooled")]
    return pooled or outputs or [name]


def find_feature(store: Store, name: str) -> FeatureSource:
    """The feature of a name: `clip-vit-l/image`, `clip-vit-l/text@coca-b32` or `tfidf:1000`.

    Raises:
        UnknownFeatureError: the store has no such feature, or no captions of that captioner.
        DataError: the feature holds texts.
        UsageError: captions are given for a feature of images, or the size of a learned feature is wrong.
    """
    if is_learned(name):
        make_vectoriser(name)  # raises if the size is wrong
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


def load(sources: Sequence[FeatureSource], table: Table) -> Matrix:
    """The features of a table's rows, side by side. Rows whose encoding failed are NaN and cause a warning.

    Raises:
        MissingRowsError: rows of the table were never extracted.
    """
    return side_by_side(
        [source.block(table) for source in sources],
        [remark for source in sources for remark in source.remarks],
    )


def side_by_side(blocks: Sequence[Block], remarks: Sequence[str] = ()) -> Matrix:
    """Blocks as a matrix, with the remarks and a line for each block that lacks rows as warnings."""
    warnings = list(remarks)
    for block in blocks:
        warnings += block.remarks
        missing = int(block.missing().sum())
        if missing:
            warnings.append(f"{block.name}: {missing} of {len(block)} rows have no vector{REPLACED}")
    return Matrix(blocks, warnings)
