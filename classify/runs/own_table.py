"""The rows that a run was fitted and measured on, as the store has them: images, captions, labels."""

from typing import NamedTuple

import numpy as np

from encode_once.cache import DataError, Store, Table
from encode_once.classify.arrays import RowIndex
from encode_once.classify.data.rows import content_keys, match
from encode_once.classify.data.tables import choose_table
from encode_once.classify.runs.run import Run


class OwnTable(NamedTuple):
    """A run's table, and where its eval rows are in it."""

    table: Table
    eval_rows: RowIndex  # (m,): row of the table for each row of `run.eval`


def own_table(run: Run, store: Store) -> OwnTable:
    """The table that a run was fitted on.

    Raises:
        DataError: the store does not have it, or other rows or labels than when the run was fitted.
    """
    table = choose_table(store, run.record.table, run.spec.split, run.spec.labels)
    labels = run.labels_of(table)
    # Rows of equal content may be on both sides of the split: ids and labels distinguish them.
    names, table_names = (
        [(name, row.tobytes()) for name, row in zip(ids, labels_of, strict=True)]
        for ids, labels_of in ((run.eval.ids, run.eval.labels), (table.ids, labels))
    )
    rows = match(run.eval.keys, names, content_keys(table), table_names)
    if (rows < 0).any() or not np.array_equal(labels[rows], run.eval.labels):
        raise DataError(f"{table.source} is not what it was when {run.path} was fitted: fit it again")
    return OwnTable(table, rows)
