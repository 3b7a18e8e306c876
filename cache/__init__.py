"""The feature store: vectors by content key, in plain HDF5. It is independent of encoders and heads."""

from typing import TYPE_CHECKING

from encode_once.cache.errors import (
    DamagedError,
    DataError,
    EncodeOnceError,
    MissingDataError,
    MissingRowsError,
    RemoteError,
    SpecMismatchError,
    StoreBusyError,
    StoreError,
    UnknownFeatureError,
    UsageError,
)
from encode_once.cache.lazy import lazy
from encode_once.cache.names import FeatureName

if TYPE_CHECKING:
    from encode_once.cache.feature import Feature
    from encode_once.cache.format.failures import Failure
    from encode_once.cache.keys import NO_KEY, Keys, Shard, Spec, content_key, spec_key
    from encode_once.cache.own_code import UntrustedError, trust_code
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
    "RemoteError",
    "Shard",
    "Spec",
    "SpecMismatchError",
    "Store",
    "StoreBusyError",
    "StoreError",
    "Table",
    "UnknownFeatureError",
    "UntrustedError",
    "UsageError",
    "content_key",
    "spec_key",
    "trust_code",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Failure": "format.failures",
        "Feature": "feature",
        "Keys": "keys",
        "NO_KEY": "keys",
        "Shard": "keys",
        "Spec": "keys",
        "Store": "store",
        "Table": "table",
        "UntrustedError": "own_code",
        "content_key": "keys",
        "spec_key": "keys",
        "trust_code": "own_code",
    },
)
