"""Commands of the feature store: list, describe, maintain and export it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encode_once.cache import StoreError
from encode_once.cache.options import (
    Verbs,
    existing_store,
    json_option,
    output_option,
    print_result,
    say,
    store_option,
    warn,
)

if TYPE_CHECKING:
    from encode_once.cache.maintenance import Change


@click.group(cls=Verbs)
def store() -> None:
    """Inspect, verify and maintain a store."""


features_argument = click.argument("features", nargs=-1, metavar="[FEATURE]...")


def say_changes(changes: "Sequence[Change]", what: str) -> None:
    """Print how many rows of each feature were changed, and by how many bytes."""
    for change in changes:
        say(f"{change.feature}: {change.rows} rows {what}, {change.nbytes:+,} bytes")


@store.command("list")
@store_option
@json_option
def list_(store: str, as_json: bool) -> None:
    """List the features (rows, size, key, date, library versions) and the tables.

    \b
    Example:
      encode-once store list --store store
    """
    from encode_once.cache import describe

    content = describe.contents(existing_store(store))
    print_result(content, as_json, lambda: describe.listing(content))


@store.command()
@click.argument("feature")
@store_option
@json_option
def info(feature: str, store: str, as_json: bool) -> None:
    """Show a feature's spec, which decides its values, and its other metadata.

    \b
    Example:
      encode-once store info clip-vit-l/image
    """
    from encode_once.cache import describe

    description = describe.describe(existing_store(store).feature(feature))
    print_result(description, as_json, lambda: describe.text(description))


@store.command()
@features_argument
@store_option
def compact(features: Sequence[str], store: str) -> None:
    """Rewrite each feature as one part, in the order of the tables, so that fit can map it.

    \b
    Example:
      encode-once store compact
    """
    from encode_once.cache import maintenance

    say_changes(maintenance.compact(existing_store(store), features), "dropped (stored twice)")


@store.command()
@features_argument
@store_option
@click.option("--delete", is_flag=True, help="Delete them; without it they are only counted.")
def gc(features: Sequence[str], store: str, delete: bool) -> None:
    """Drop the rows whose images or captions are in no table any more.

    To forget a table, delete its file in the store's folder `tables`; `store list` names them.

    \b
    Examples:
      encode-once store gc
      encode-once store gc --delete
    """
    from encode_once.cache import maintenance

    changes = maintenance.drop_unreferenced(existing_store(store), features, delete=delete)
    say_changes(changes, "dropped" if delete else "are in no table; --delete drops them")


@store.command()
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@store_option
def merge(others: Sequence[str], store: str) -> None:
    """Add the rows and tables of other stores, such as those filled by `extract --shard` on other machines.

    Nothing of this store is replaced. Damaged files and symbolic links are left out, with exit
    status 1.

    \b
    Example:
      encode-once store merge from-node-2 from-node-3
    """
    from encode_once.cache import Store
    from encode_once.cache.merge import merge as add

    refused = 0
    for other in others:
        merged = add(Store(store), existing_store(other))
        say_changes(merged.changes, f"added from {other}")
        warn(merged.notes)
        for line in merged.refused:
            say(f"not added: {line}")
        refused += len(merged.refused)
    if refused:
        raise StoreError(f"{refused} files were not added (see above); all others are in {store}")


@store.command()
@click.argument("feature")
@store_option
@click.option("--to", "kind", required=True, metavar="FORMAT", help="npy, parquet or safetensors.")
@output_option(help="By default named as the feature.")
@click.option("--table", help="Whose rows to write, as `store list` calls it; by default the only one.")
def export(feature: str, store: str, kind: str, output: Path | None, table: str | None) -> None:
    """Write a feature to a file other programs read, a row for each row of a table.

    \b
    Examples:
      encode-once store export clip-vit-l/image --to parquet
      encode-once store export glove-50/mean --to npy -o captions.npy
    """
    from encode_once.cache import export as exports

    opened = existing_store(store)
    selection = exports.select(opened.feature(feature), opened.table(table))
    output = output or Path(f"{feature.replace('/', '-')}.{kind}")
    exports.export(selection, kind, output)
    say(f"{output}: {len(selection.rows)} rows")
