"""What a store holds, as records that a person or a program can read."""

from typing import Any

from encode_once.cache.errors import EncodeOnceError
from encode_once.cache.feature import Feature
from encode_once.cache.format.spec_file import FeatureRecord
from encode_once.cache.store import Store
from encode_once.cache.text_table import table_text


def features(store: Store) -> list[dict[str, Any]]:
    """A record a feature: its rows, size, key, and when and with what it was made. Damaged ones say so."""
    return [_brief(store, name) for name in store.features()]


def _brief(store: Store, name: str) -> dict[str, Any]:
    try:
        return describe(store.feature(name)) | {"problem": None}
    except EncodeOnceError as error:
        return {"feature": name, "problem": str(error)}


def describe(feature: Feature) -> dict[str, Any]:
    """All that is known of a feature beside its rows."""
    record: FeatureRecord = feature.record
    return {
        "feature": feature.name,
        "rows": len(feature),
        "dim": feature.dim,
        "ragged": feature.ragged,
        "dtype": None if feature.dtype is None else feature.dtype.name,
        "bytes": feature.nbytes,
        "parts": len(feature.parts),
        "failed": len(feature.failures()),
        "key": record.key,
        "created": record.created,
        "provenance": dict(record.provenance),
        "spec": dict(record.spec),
    }


def tables(store: Store) -> list[dict[str, Any]]:
    """A record a table: what it is called here, where it was read from, and its size."""
    return [
        {
            "table": header.name,
            "source": header.source,
            "split": header.split,
            "rows": header.rows,
            "labelled": header.labelled,
        }
        for header in store.headers()
    ]


def listing(found: dict[str, Any]) -> str:
    """Features, then tables, for a person."""
    shown = [
        {
            "feature": one["feature"],
            "rows": f"{one['rows']:,}",
            "dim": one["dim"],
            "MB": f"{one['bytes'] / 1e6:,.1f}",
            "failed": one["failed"],
            "key": one["key"][:8],
            "made": one["created"][:10],
            "with": " ".join(f"{library} {version}" for library, version in one["provenance"].items()),
        }
        for one in found["features"]
        if not one["problem"]
    ]
    problems = [f"{one['feature']}: {one['problem']}" for one in found["features"] if one["problem"]]
    blocks = [table_text(rows) for rows in (shown, found["tables"]) if rows]
    return "\n\n".join(blocks + problems) or "nothing yet: run extract"


def text(found: dict[str, Any]) -> str:
    """A feature's record for a person, nested records indented."""
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"  {inner}: {told}" for inner, told in value.items())]
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
