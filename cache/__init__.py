"""The feature store: vectors by content key, in plain HDF5. Knows nothing of encoders or heads."""

from cache.errors import (
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
from cache.feature import Failure, Feature
from cache.keys import NO_KEY, Keys, Spec, content_key, spec_key
from cache.store import Store
from cache.tables import Table

__all__ = [
    "NO_KEY",
    "DataError",
    "EncodeOnceError",
    "Failure",
    "Feature",
    "Keys",
    "MissingDataError",
    "MissingRowsError",
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
