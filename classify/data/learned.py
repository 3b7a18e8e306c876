"""Features that a run learns from its train rows, by name: of captions (see `text`) or of other columns."""

from collections.abc import Sequence

from encode_once.cache import Table
from encode_once.cache.errors import unknown_name
from encode_once.classify.data import text
from encode_once.classify.data.columns import ColumnValues, column_of, is_of_column
from encode_once.classify.data.text import Vectoriser


def is_learned(name: str) -> bool:
    """Whether a feature name is that of a learned feature; the rest of the name may be invalid."""
    return is_of_column(name) or text.is_learned(name)


def make_vectoriser(name: str) -> Vectoriser:
    """What turns texts into the vectors of a learned feature, not fitted yet.

    Raises:
        UsageError: the name is unknown; the message suggests the nearest one.
    """
    return ColumnValues(name) if is_of_column(name) else text.make_vectoriser(name)


def texts_of(name: str, table: Table) -> Sequence[str]:
    """The texts (n,) that a learned feature is made of; the captions of a row are joined to one.

    Raises:
        UsageError: the table has no such column.
    """
    if is_of_column(name):
        column, _ = column_of(name)
        if column not in table.columns:
            raise unknown_name(f"column of {table.source}", column, table.columns)
        return table.columns[column]
    return [" ".join(filter(None, row)) for row in zip(table.captions, *table.more_captions, strict=True)]
