"""The content of a store as records for programs, and as text for people."""

from typing import Any

from encode_once.cache.errors import EncodeOnceError, collected
from encode_once.cache.feature import Feature
from encode_once.cache.store import Store
from encode_once.cache.table import label_set_texts, read_header
from encode_once.cache.text_table import table_text


def features(store: Store) -> list[dict[str, Any]]:
    """A record for each feature, see `describe`; `problem` is None, or why the feature cannot be opened."""
    records = []
    for name in store.features():
        try:
            records.append(describe(store.feature(name)) | {"problem": None})
        except EncodeOnceError as error:
            records.append({"feature": name, "problem": str(error)})
    return records


def describe(feature: Feature) -> dict[str, Any]:
    """All metadata of a feature: size, spec, key, and when and with which libraries it was made."""
    record = feature.record
    return {
        "feature": feature.name,
        "rows": len(feature),
        "dim": feature.dim,
        "ragged": feature.ragged,
        "dtype": None if feature.dtype is None else feature.dtype.name,
        "bytes": feature.nbytes,
        "parts": len(feature.parts),
        "failed": len(feature.failures()),
        "missing": feature.missing_parts(),
        "key": record.key,
        "created": record.created,
        "provenance": dict(record.provenance),
        "spec": dict(record.spec),
    }


def contents(store: Store) -> dict[str, list[Any]]:
    """A record for each feature, see `features`, and for each table; a line for each problem of the store."""
    problems, tables = store.problems(), []
    with collected(problems):
        for path in store.table_files():
            with collected(problems):
                header = read_header(path)
                record = {"table": header.name, "source": header.source, "split": header.split}
                counts = {"rows": header.rows, "labelled": header.labelled}
                tables.append(record | counts | {"label_sets": [*label_set_texts(path)]})
    return {"features": features(store), "tables": tables, "problems": problems}


def listing(content: dict[str, list[Any]]) -> str:
    """The `contents` of a store as text."""
    rows = [
        {
            "feature": record["feature"],
            "rows": f"{record['rows']:,}",
            "dim": record["dim"],
            "MB": f"{record['bytes'] / 1e6:,.1f}",
            "failed": record["failed"],
            "key": record["key"][:8],
            "made": record["created"][:10],
            "with": " ".join(f"{library} {version}" for library, version in record["provenance"].items()),
        }
        for record in content["features"]
        if not record["problem"]
    ]
    problems = [
        f"{record['feature']}: {record['problem']}" for record in content["features"] if record["problem"]
    ]
    problems += [line for record in content["features"] for line in record.get("missing", ())]
    has_sets = any(record["label_sets"] for record in content["tables"])
    tables = [
        {name: value for name, value in record.items() if name != "label_sets"}
        | ({"label sets": ", ".join(record["label_sets"])} if has_sets else {})
        for record in content["tables"]
    ]
    blocks = [table_text(block) for block in (rows, tables) if block]
    return "\n\n".join(blocks + problems + content["problems"]) or "nothing yet: run extract"


def text(record: dict[str, Any]) -> str:
    """A feature's record as text, nested records indented."""
    lines = []
    for name, value in record.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key}: {entry}" for key, entry in value.items())]
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
