"""The vectors of a table's rows as a DataFrame."""

from typing import TYPE_CHECKING

import numpy as np

from encode_once.cache.errors import DataError
from encode_once.cache.feature import Feature
from encode_once.cache.keys import KEY_BYTES
from encode_once.cache.table import Table

if TYPE_CHECKING:
    import pandas as pd


def frame(feature: Feature, table: Table) -> "pd.DataFrame":
    """The vectors (n, d) of a table's rows by id; NaN where a row has none.

    Vectors of several captions of a row are averaged, as `fit` does it.

    Raises:
        DataError: the feature has a sequence or a text for each row.
    """
    import pandas as pd  # takes half a second

    if feature.ragged:
        raise DataError(f"{feature.name} has a sequence per row, which no table holds: use read_ragged")
    rows = feature.find(table.all_keys(feature.modality).reshape(-1, KEY_BYTES)).reshape(-1, len(table))
    vectors = np.zeros((len(table), feature.dim or 0), np.float32)
    for caption in rows:  # or the image
        vectors[caption >= 0] += feature.take(caption[caption >= 0])
    count = (rows >= 0).sum(axis=0)[:, None]  # of the captions that have a vector
    vectors = np.where(count, vectors / np.maximum(count, 1, dtype=np.float32), np.float32(np.nan))
    return pd.DataFrame(vectors, index=pd.Index(table.ids, name=table.id_column))
