"""Further labels of the same rows: label sets, each read from columns of its own as the labels are."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from encode_once.cache.errors import UsageError
from encode_once.cache.table import LabelSet, Table
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.label_separation import separate_labels
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.split_rows import SplitRows
from encode_once.extract.readers.understanding import labels_text, unknown_text

TEXT = re.compile(r"(?:([\w.+-]+)=)?([^=:].*?)(?::([^\w\s]+| ))?")  # NAME=COLUMNS:SEPARATOR


@dataclass(frozen=True)
class NamedColumns:
    """The columns of a label set, as `Columns.labels` takes them, and what separates labels in a cell."""

    text: str
    name: str
    columns: tuple[str, ...]
    separator: str | None = None  # None: inferred from the whole column
    is_new: bool = True  # else of an earlier extract; then it is dropped if its columns are gone

    @classmethod
    def parse(cls, text: str, *, is_new: bool = True) -> "NamedColumns":
        """Parse `NAME=COLUMN`, `NAME=A,B,C` or `NAME=A:Z`; a column alone is its own name.

        A separator may follow, as in `NAME=COLUMN:;`.

        Raises:
            UsageError: there is no column.
        """
        match = TEXT.fullmatch(text)
        if not match:
            raise UsageError(f"--label-set {text!r}: write NAME=COLUMN, or NAME=A:Z for one column per class")
        name, column, separator = match.groups()
        return cls(text, name or column, (column,), separator, is_new)


def all_named_columns(texts: Sequence[str], earlier: Sequence[str] = ()) -> list[NamedColumns]:
    """Those that the user names, and those of an earlier extract with other names.

    Raises:
        UsageError: a text names no column.
    """
    new = [NamedColumns.parse(text) for text in texts]
    names = {named.name for named in new}
    old = [NamedColumns.parse(text, is_new=False) for text in earlier]
    return [*new, *(named for named in old if named.name not in names)]


@dataclass
class ReadLabelSets:
    """The label sets of each split, what was understood of them, and warnings."""

    sets: dict[str, dict[str, LabelSet]] = field(default_factory=dict)  # split → name → label set
    decisions: dict[str, dict[str, str]] = field(default_factory=dict)  # split → subject → what was decided
    warnings: list[str] = field(default_factory=list)


def read_label_sets(
    label_sets: Sequence[NamedColumns],
    tables: Sequence[Table],
    options: ParsedOptions,
    read: Callable[[ParsedOptions], list[SplitRows]],
) -> ReadLabelSets:
    """Read the label sets of tables that were read with these options.

    read: the rows of each split by options for reading.

    Raises:
        UsageError: the train table has no such column; a name occurs twice.
        DataError: a cell is no label.
    """
    names = [named.name for named in label_sets]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--label-set {repeated}: the name is used twice")
    by_split, result = {table.split: table for table in tables}, ReadLabelSets()
    for named in label_sets:
        columns = replace(options.columns, labels=named.columns, unknown="")  # which is of the labels
        try:
            parts = read(replace(options, columns=columns, bad_rows=BadRows(options.bad_rows.skip)))
        except UsageError as error:
            if named.is_new:
                raise
            result.warnings.append(f"the label set {named.name} is dropped: {error}")
            continue
        labels, unknown, separator = separate_labels(parts, named.separator, options.unknown)
        for part, of_part, unknown_of_part in zip(parts, labels, unknown, strict=True):
            if of_part is None or part.split not in by_split:
                continue
            table = by_split[part.split]
            aligned, unknown_of_rows = (
                _aligned(table.ids, part.ids, names) for names in (of_part, unknown_of_part)
            )
            label_set = LabelSet(named.text, list(named.columns), separator, aligned, unknown_of_rows)
            result.sets.setdefault(part.split, {})[named.name] = label_set
            part.choice.reasons["labels"] = "--label-set"
            read_as = replace(table, labels=aligned, unknown=unknown_of_rows)
            decisions = result.decisions.setdefault(part.split, {})
            decisions[f"label set {named.name}"] = labels_text(part, read_as)
            if unknown_of_rows:
                decisions[f"unknown labels of {named.name}"] = unknown_text(part, read_as)
            if absent := len({*table.ids} - {*part.ids}):
                result.warnings.append(
                    f"{part.files[0]}: {absent} rows cannot be read for the label set {named.name}: they "
                    "have no label in it"
                )
        result.warnings += [f"label set {named.name}: {line}" for part in parts for line in part.warnings]
    return result


def _aligned(
    ids: Sequence[str], ids_read: Sequence[str], names: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """The names of each of `ids`, () for one that was not read; [] if there are none of any row."""
    of_ids = dict(zip(ids_read, names, strict=True)) if names else {}
    return [of_ids.get(row_id, ()) for row_id in ids] if names else []
