"""The rows of a store as a Dataset of torch, for training loops outside of this program."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from encode_once.cache import Store, Table
from encode_once.classify.arrays import UNKNOWN
from encode_once.classify.data.samples import check_stored, load_samples
from encode_once.classify.data.tables import choose_table

Sample = tuple[Tensor, Tensor]


class FeatureDataset(Dataset[Sample]):
    """The rows of a labelled table: features (d,) and labels (c,), both float32, read as they are asked for.

    Unknown labels are NaN: a loss that does not leave them out is NaN, too.

    A DataLoader reads the rows of a batch together, also from processes of its own.

    Args:
        store: the store, or its path.
        features: their names; by default every feature with one vector per row.
        table: the table, by default as for `fit`.

    Attributes: `ids` of the rows; `classes`, the names of the labels; `shapes`, the length and width of each
    feature's block of columns; `warnings` about rows without a vector, whose numbers are NaN.

    Raises:
        EncodeOnceError: a name, the store or the table cannot be used.

    Examples:
        >>> for X, Y in DataLoader(FeatureDataset("store"), batch_size=128, shuffle=True):
        ...     loss = binary_cross_entropy_with_logits(network(X), Y)
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] = "store",
        features: Sequence[str] = (),
        *,
        table: Table | None = None,
    ) -> None:
        store = store if isinstance(store, Store) else Store(store)
        samples = check_stored(load_samples(store, features, table or choose_table(store, None)))
        self._X, self._Y = samples.X, samples.Y
        self.ids, self.classes, self.shapes = samples.table.ids, samples.classes, samples.X.shapes
        self.warnings = samples.X.warnings

    def __repr__(self) -> str:
        (n, d), features = self._X.shape, ", ".join(self.shapes)
        return f"<FeatureDataset of {features}: {n:,} rows, {d} columns, {len(self.classes)} classes>"

    def __len__(self) -> int:
        return len(self._X)

    def __getitem__(self, row: int) -> Sample:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Sample]:
        """Several rows, which torch's DataLoader asks for together."""
        places = np.arange(len(self))[np.asarray(rows, np.intp)]
        X = torch.from_numpy(np.ascontiguousarray(self._X[places]))
        Y = torch.from_numpy(self._Y[places].astype(np.float32))
        Y[Y == UNKNOWN] = torch.nan
        return [*zip(X, Y, strict=True)]
