"""A table with its features and labels as matrices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.cache.packed_columns import LabelLists
from encode_once.cache.representation import html_heading, html_table, html_warnings
from encode_once.cache.terminal import short_list, short_path
from encode_once.classify.arrays import PartialLabels
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import REPLACED, FeatureSource, LearnedFeature, choose, load, trials
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import class_names, left_out, restricted, table_labels
from encode_once.classify.partial import is_partial, positives, unknown_entries

if TYPE_CHECKING:
    import pandas as pd

LABELS = "labels"  # first level of the columns of a frame; no feature is called so


@dataclass(frozen=True)
class Samples:
    """The rows of a table, as heads learn from them."""

    store: Store
    table: Table
    references: Sequence[FeatureSource]  # what X is read from
    X: Matrix  # (n, d); `np.asarray` reads it as a whole
    Y: PartialLabels  # (n, c)
    classes: list[str]

    def __repr__(self) -> str:
        (n, d), features = self.X.shape, ", ".join(self.features)
        return f"<Samples of {features}: {n:,} rows, {d} columns, {len(self.classes)} classes>"

    def __len__(self) -> int:
        return len(self.table)

    def _repr_html_(self) -> str:
        (n, d), source = self.X.shape, short_path(self.table.source)
        counts = [
            {"class": name, "rows": int(count)}
            for name, count in zip(self.classes, positives(self.Y).sum(axis=0), strict=True)
        ]
        return "".join(
            [
                html_heading(f"{source}, {self.table.split}: {n:,} rows, {d:,} columns"),
                html_table([{"feature": name, "columns": _size(self.X, name)} for name in self.features]),
                html_table(sorted(counts, key=lambda row: -int(row["rows"]))),
                html_warnings(self.warnings),
            ]
        )

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the rows, (n,)."""
        return self.table.ids

    @property
    def features(self) -> list[str]:
        """The names of the features; `X.shapes` has the length and width of each one's columns."""
        return [*self.X.shapes]

    @property
    def warnings(self) -> list[str]:
        """What to know about rows, such as that some have no vector."""
        return self.X.warnings

    def frame(self) -> "pd.DataFrame":
        """A DataFrame by id: `frame["labels"]` has a column for each class, `frame[FEATURE]` the vectors.

        The numbers are those of X and Y: float32, NaN where a row has no vector, and bool. If labels are
        unknown, all are pandas' nullable booleans, and these NA.
        """
        import pandas as pd  # takes half a second

        index = pd.Index(self.ids, name=self.table.id_column)
        ends = np.cumsum([_size(self.X, name) for name in self.features])[:-1]
        blocks = zip(self.features, np.split(np.asarray(self.X), ends, axis=1), strict=True)
        frames = {name: pd.DataFrame(block, index) for name, block in blocks}
        labels = pd.DataFrame(positives(self.Y), index, self.classes)
        if is_partial(self.Y):
            labels = labels.astype("boolean").mask(unknown_entries(self.Y))
        return pd.concat({**frames, LABELS: labels}, axis=1)


def _size(X: Matrix, name: str) -> int:
    """The number of columns of a feature."""
    length, width = X.shapes[name]
    return length * width


def load_samples(
    store: Store,
    names: Sequence[str],
    table: Table,
    only_classes: Sequence[str] = (),
    hierarchy: Hierarchy | None = None,
) -> Samples:
    """The features of these names (see `choose`) and the labels of a labelled table.

    Args:
        only_classes: by default all labels that occur; warnings count what is left out.
        hierarchy: by which labels are closed upward.

    Raises:
        EncodeOnceError: a feature cannot be used, no row has a label, or a class is unknown.
    """
    assert table.labels is not None
    if not any(table.labels):
        raise DataError(f"{table.source} has no label in any row: there is nothing to learn")
    closed, classes, warnings = labels_to_learn(table, only_classes, hierarchy)
    labels = closed.labels or []
    warnings += left_out(labels, classes)
    if len(classes) < len(class_names(labels)):
        chosen = {*classes}
        labels = LabelLists.of([name for name in row if name in chosen] for row in labels)
    samples = read_samples(store, names, replace(closed, labels=labels), classes)
    samples.warnings.extend(warnings)
    return replace(samples, table=table)


def labels_to_learn(
    table: Table, only_classes: Sequence[str], hierarchy: Hierarchy | None
) -> tuple[Table, list[str], list[str]]:
    """A table with labels closed upward, the classes to learn, and warnings about the hierarchy.

    Raises:
        UsageError: a class is unknown.
        DataError: no label is below a class of the hierarchy.
    """
    warnings = list[str]()
    if hierarchy:
        warnings = hierarchy.check(class_names(table.labels or ()), table.source)
        closed = hierarchy.close(table)
        warnings += hierarchy.unknown_above(table, closed)
        table = closed
    return table, restricted(class_names(table.labels or ()), only_classes), warnings


def read_samples(
    store: Store, names: Sequence[str], table: Table, classes: Sequence[str] | None = None
) -> Samples:
    """The features of these names (see `choose`) and the labels of a table, if it has labels.

    classes: the columns of Y, by default all labels that occur; a warning counts the rows with others.

    Raises:
        EncodeOnceError: a feature cannot be used.
    """
    references = choose(store, names)
    X = load(references, table)
    if not names:
        X.warnings[:0] = [*store.problems(), *trials(store)]  # features that may be meant, too
    labels = table.labels or ()
    classes = class_names(labels) if classes is None else [*classes]
    if others := set(class_names(labels)) - set(classes):
        rows = sum(not others.isdisjoint(row) for row in labels)
        X.warnings.append(
            f"{rows} of {len(table)} rows have labels that are not among the classes and are left out: "
            f"{short_list(sorted(others))}"
        )
    return Samples(store, table, references, X, table_labels(table, classes), classes)


def check_stored(samples: Samples) -> Samples:
    """The samples, if their features need no fit. Their rows without a vector are NaN, as warnings then say.

    Raises:
        UsageError: one is learned from train rows.
    """
    for reference in samples.references:
        if isinstance(reference, LearnedFeature):
            raise UsageError(
                f"{reference.name} is learned from the train rows of a run, not part of a data set: "
                "pass it to fit"
            )
    samples.warnings[:] = [line.replace(REPLACED, ", but NaN") for line in samples.warnings]
    return samples
