"""A labelled table with its features and labels as matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

from encode_once.cache import DataError, Store, Table
from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, choose, load, trials
from encode_once.classify.data.labels import class_names, label_matrix


@dataclass(frozen=True)
class Samples:
    """The rows of a labelled table, as heads learn from them."""

    table: Table
    references: Sequence[FeatureSource]  # what X is read from
    X: Matrix  # (n, d)
    Y: LabelMatrix  # (n, c)
    classes: list[str]

    __repr__ = short_repr


def load_samples(store: Store, names: Sequence[str], table: Table) -> Samples:
    """The features of these names (see `choose`) and the labels of a labelled table.

    Raises:
        EncodeOnceError: a feature cannot be used, or no row has a label.
    """
    references = choose(store, names)
    X = load(references, table)
    if not names:
        X.warnings[:0] = [*store.problems(), *trials(store)]  # features that may be meant, too
    assert table.labels is not None
    classes = class_names(table.labels)
    if not classes:
        raise DataError(f"{table.source} has no label in any row: there is nothing to learn")
    return Samples(table, references, X, label_matrix(table.labels, classes), classes)
