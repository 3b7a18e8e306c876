"""All contents of one modality in tables: their keys, and the paths of images or texts of captions."""

from collections.abc import Sequence

import numpy as np

from encode_once.cache import Keys, Table
from encode_once.cache.keys import RowIndex, first_occurrences, pack, present
from encode_once.cache.large_arrays import concatenated, gathered, row_slices, rows_where
from encode_once.cache.packed_columns import taken


class Contents:
    """The contents of rows, and of all captions of each, one after the other.

    Attributes:
        keys: (n, 16); `NO_KEY` of a row without such content.
    """

    def __init__(self, tables: Sequence[Table], modality: str) -> None:
        self._sources = [sources for table in tables for sources in table.sources(modality)]
        columns = [keys for table in tables for keys in table.key_columns(modality)]
        self.keys: Keys = concatenated(columns or [pack([])])
        self._starts = np.cumsum([0, *map(len, self._sources)])

    def sources(self, rows: RowIndex) -> list[str]:
        """The paths or texts of these rows, which ascend."""
        ends = np.searchsorted(rows, self._starts)
        return [
            source
            for column, start, first, end in zip(
                self._sources, self._starts.tolist(), ends, ends[1:], strict=False
            )
            for source in taken(column, rows[first:end] - start)
        ]

    def requested(self) -> tuple[Keys, RowIndex]:
        """The keys (m, 16) of all rows with such content, and the first row of each distinct content."""
        is_present = np.zeros(len(self.keys), np.bool_)
        for block in row_slices(len(self.keys)):
            is_present[block] = present(self.keys[block])
        if is_present.all():
            return self.keys, first_occurrences(self.keys)
        rows = rows_where(is_present)
        keys = gathered(self.keys, rows)
        return keys, rows[first_occurrences(keys)]
