"""The table to learn from, with the rows of its other splits if these are to be used."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.cache.captions import text_keys
from encode_once.cache.errors import unknown_name
from encode_once.cache.keys import KEY_BYTES, KeyIndex
from encode_once.cache.large_arrays import concatenated
from encode_once.cache.packed_columns import LabelLists, Texts, joined, repeated
from encode_once.cache.places import is_below
from encode_once.cache.table import TableHeader
from encode_once.cache.terminal import Log
from encode_once.classify.data.split_lists import list_files, split_column
from encode_once.classify.data.splits import EVAL_WORDS, TABLES


def table_to_fit(
    store: Store,
    data: str | os.PathLike[str] | None,
    split: str,
    labels: str = "",
    *,
    log: Log | None = None,
) -> Table:
    """The same as `choose_table`, with a column for a split SPEC of lists of ids, whose files it opens.

    Raises:
        EncodeOnceError: as `choose_table` and `split_column`.
    """
    table = choose_table(store, data, split, labels, log=log)
    columns = {split: split_column(split, table)} if list_files(split) else {}
    return replace(table, columns=table.columns | columns)


def choose_table(
    store: Store,
    data: str | os.PathLike[str] | None,
    split: str = "",
    labels: str = "",
    *,
    log: Log | None = None,
) -> Table:
    """The labelled table to learn from: the only one in `data`, or in the store; of several splits, train.

    The rows of its other splits are added for the split SPEC `TABLES`. Data that was moved since is found by
    its earlier place, too.

    Args:
        labels: the name of a label set, whose labels then are the table's; "": its own labels.
        log: called with a line, instead of raising, if the file of a table changed since it was extracted.

    Raises:
        DataError: there is no such table, or several, or its file changed since it was extracted.
        UsageError: the table has no such label set.
    """
    tables = [header for header in store.headers() if header.labelled or labels]
    if data is not None:
        tables = read_from(data, tables)
    if not tables:
        raise DataError(
            f"{store.location} knows no table with labels{f' in {data}' if data else ''}: run extract, with "
            "--label-column NAME if the column of the labels is not found"
        )
    if len(tables) > 1 and labels:
        tables = [header for header in tables if labels in store.saved_label_sets(header)] or tables
    if len(tables) > 1:
        tables = [header for header in tables if header.split.startswith("train")] or tables
    if len(tables) > 1:
        sources = ", ".join(header.source for header in tables)
        raise DataError(
            f"{store.location} knows {len(tables)} tables with labels ({sources}): choose one with --data"
        )
    table = load_current(store, tables[0], labels, log)
    return with_sibling_splits(store, table, labels, log) if split == TABLES else table


def with_label_set(table: Table, name: str) -> Table:
    """A table with the labels of a label set instead of its own, and no other label set.

    Raises:
        UsageError: it has no such label set.
    """
    if name not in table.label_sets:
        if not table.label_sets:
            raise UsageError(
                f"{table.source} has no label set {name!r}: extract --label-set {name}=COLUMN adds it"
            )
        raise unknown_name(f"label set of {table.source}", name, table.label_sets)
    chosen = table.label_sets[name]
    return replace(
        table,
        labels=chosen.labels,
        unknown=chosen.unknown,
        label_separator=chosen.separator,
        label_sets={name: chosen},
    )


def read_from(data: str | os.PathLike[str], tables: Sequence[TableHeader]) -> list[TableHeader]:
    """Those of the tables that were read from a file or folder, or else from where it was earlier."""
    own = [header for header in tables if is_below(header.source, data)]
    return own or [header for header in tables if any(is_below(source, data) for source in header.moved_from)]


def with_sibling_splits(store: Store, train: Table, labels: str = "", log: Log | None = None) -> Table:
    """A train table with the rows of the labelled val and test tables next to it.

    The column `TABLES` has each row's split. Ids that are in several tables are preceded by the split. Of
    several tables of one split, those are taken whose files' names differ from the train table's in the word
    of the split only: scene-test belongs to scene-train, and emotions-test does not.

    Raises:
        DataError: there is no such table, or its file changed since it was extracted.
    """
    folder = Path(train.source).parent
    others = []
    for header in store.headers():
        place = Path(header.source).parent
        is_near = place == folder or place.parent == folder.parent
        has_labels = labels in store.saved_label_sets(header) if labels else header.labelled
        if has_labels and is_near and header.split.lower() in EVAL_WORDS:
            others.append(header)
    splits = [header.split.lower() for header in others]
    others = [
        header
        for header in others
        if splits.count(header.split.lower()) == 1 or _rest_of_name(header) == _rest_of_name(train)
    ]
    if not others:
        raise DataError(
            f"split {TABLES!r}: {store.location} knows no labelled val or test table next to {train.source}"
        )
    return stacked([train, *(load_current(store, header, labels, log) for header in others)])


def _rest_of_name(table: Table | TableHeader) -> str:
    """The name of a table's file without the word of its split."""
    return Path(table.source).name.lower().replace(table.split.lower(), "")


def load_current(store: Store, header: TableHeader, labels: str = "", log: Log | None = None) -> Table:
    """A table of the store, with the labels of a label set if its name is given.

    Raises:
        DataError: its file changed since it was extracted, and there is no `log` to say so.
        UsageError: it has no such label set.
    """
    if log and store.is_outdated(header):
        log(f"{header.source} changed since it was extracted: the rows in {store.location} are used")
    else:
        check_current(store, header)
    table = store.load(header)
    return with_label_set(table, labels) if labels else table


def check_current(store: Store, table: Table | TableHeader) -> None:
    """Refuse a saved table whose file changed since it was extracted.

    Raises:
        DataError: it did.
    """
    if store.is_outdated(table):
        corrected = f" with --corrections {table.corrections}" if table.corrections else ""
        raise DataError(
            f"{table.source}{' or its corrections' if corrected else ''} changed since extract read it: "
            f"run extract again{corrected} (it encodes only what is new)"
        )


def stacked(tables: Sequence[Table]) -> Table:
    """The rows of labelled tables of one data set, with the column `TABLES`."""
    first, lengths = tables[0], [*map(len, tables)]
    ids = joined([table.ids for table in tables])
    if len(KeyIndex(text_keys(ids))) < len(ids):
        ids = Texts.of(f"{table.split}/{row_id}" for table in tables for row_id in table.ids)
    width = max(len(table.more_captions) for table in tables)
    tables = [_with_more_captions(table, width) for table in tables]
    names = [name for name in first.columns if all(name in table.columns for table in tables)]
    columns = {name: joined([table.columns[name] for table in tables]) for name in names}
    return replace(
        first,
        ids=ids,
        images=joined([table.images for table in tables]),
        captions=joined([table.captions for table in tables]),
        labels=joined([table.labels or () for table in tables]),
        unknown=joined([table.unknown or repeated(LabelLists.of([()]), [len(table)]) for table in tables])
        if any(table.unknown for table in tables)
        else [],
        columns=columns | {TABLES: repeated(Texts.of(table.split for table in tables), lengths)},
        image_keys=concatenated([table.keys("image") for table in tables]),
        caption_keys=concatenated([table.keys("caption") for table in tables]),
        row_keys=concatenated([table.keys("row") for table in tables]),
        more_sources=[path for table in tables for path in (table.source, *table.more_sources)][1:],
        more_captions=[joined(texts) for texts in zip(*(t.more_captions for t in tables), strict=True)],
        more_caption_keys=[
            concatenated(keys) for keys in zip(*(t.more_caption_keys for t in tables), strict=True)
        ],
        label_sets={},  # that of the spec is `labels` by now
    )


def _with_more_captions(table: Table, width: int) -> Table:
    """The table with that number of further captions; those that it lacks are empty."""
    missing = width - len(table.more_captions)
    texts = repeated(Texts.of([""]), [len(table)])
    keys = np.zeros((len(table), KEY_BYTES), np.uint8)
    return replace(
        table,
        more_captions=table.more_captions + [texts] * missing,
        more_caption_keys=table.more_caption_keys + [keys] * missing,
    )
