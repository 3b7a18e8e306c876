"""The feature store: vectors by content key, in plain HDF5. Knows nothing of encoders or heads."""

from cache.errors import (
    DamagedError,
    DataError,
    EncodeOnceError,
    MissingDataError,
    MissingRowsError,
    SpecMismatchError,
    StoreBusyError,
    StoreError,
    UnknownFeatureError,
    UsageError,
)
from cache.failures import Failure
from cache.feature import Feature
from cache.keys import NO_KEY, Keys, Shard, Spec, content_key, spec_key
from cache.store import Store
from cache.tables import Table

__all__ = [
    "NO_KEY",
    "DamagedError",
    "DataError",
    "EncodeOnceError",
    "Failure",
    "Feature",
    "Keys",
    "MissingDataError",
    "MissingRowsError",
    "Shard",
    "Spec",
    "SpecMismatchError",
    "Store",
    "StoreBusyError",
    "StoreError",
    "Table",
    "UnknownFeatureError",
    "UsageError",
    "content_key",
    "spec_key",
]
