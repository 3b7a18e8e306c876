"""The feature store: vectors by content key, in plain HDF5. It is independent of encoders and heads."""

from encode_once.cache.errors import (
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
from encode_once.cache.feature import Feature
from encode_once.cache.format.failures import Failure
from encode_once.cache.keys import NO_KEY, Keys, Shard, Spec, content_key, spec_key
from encode_once.cache.names import FeatureName
from encode_once.cache.store import Store
from encode_once.cache.table import Table

__all__ = [
    "NO_KEY",
    "DamagedError",
    "DataError",
    "EncodeOnceError",
    "Failure",
    "Feature",
    "FeatureName",
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
