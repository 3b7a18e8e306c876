"""A store whose tables are read as data sets: `encode_once.load("store").dataset("train")`."""

import os
from collections import Counter
from collections.abc import Sequence

from encode_once.cache import Store, UsageError
from encode_once.cache.terminal import short_list
from encode_once.classify.data.samples import Samples, check_stored, read_samples
from encode_once.classify.data.tables import check_current, choose_table, with_label_set


class DatasetStore(Store):
    """A store whose tables have their rows as vectors and labels, see `dataset`."""

    def dataset(
        self,
        table: str | None = None,
        features: Sequence[str] = (),
        *,
        classes: Sequence[str] | None = None,
        labels: str = "",
    ) -> Samples:
        """The rows of a table: vectors X (n, d), labels Y (n, c), `ids`, `classes` and `features`.

        X is read when rows are asked for: `X[:10]` are ten rows, `np.asarray(X)` is the array of all. They
        are float32, not standardised, and NaN where a row has no vector. Y is bool or, if labels are unknown,
        int8 with -1 for these; it has no columns if the table has no labels.

        Args:
            table: its split, such as "train", or its name; by default the labelled table that `fit` takes.
            features: their names; by default every feature with one vector per row.
            classes: the columns of Y, such as those of another data set; by default all labels that occur.
            labels: the name of a label set, see `extract --label-set`; by default the table's own labels.

        Raises:
            UsageError: there is no such table or label set, a feature is learned by `fit`, or a class is
                named twice.
            DataError: a file of the table has changed since it was extracted.
            MissingRowsError: rows were not extracted.

        Examples:
            >>> train = encode_once.load("store").dataset("train")       # doctest: +SKIP
            >>> test = train.store.dataset("test", train.features, classes=train.classes)  # doctest: +SKIP
        """
        if isinstance(features, str):
            features = [features]
        if isinstance(classes, str):
            classes = [classes]
        if twice := [name for name, count in Counter(classes or ()).items() if count > 1]:
            raise UsageError(f"classes named more than once: {short_list(twice)}")
        if table is None:
            chosen = choose_table(self, None, labels=labels)
        else:
            chosen = self.table(table)
            check_current(self, chosen)
            chosen = with_label_set(chosen, labels) if labels else chosen
        return check_stored(read_samples(self, features, chosen, classes))


def load(path: str | os.PathLike[str] = "store", *, read_only: bool = False) -> DatasetStore:
    """The store in a folder, to look at and to learn from.

    read_only: every method that would write raises `StoreError`.

    Raises:
        MissingDataError: the folder is not a store.
        StoreError: it holds other files, or a store of an unknown version.
    """
    store = DatasetStore(path, read_only=read_only)
    store.check_exists()
    return store
