"""Commands of the feature store: list, describe, maintain and export it."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encode_once.cache import StoreError, UsageError
from encode_once.cache.options import (
    StoredFeatureName,
    TableName,
    Verbs,
    alert,
    existing_store,
    features_argument,
    json_option,
    output_option,
    print_json,
    print_result,
    say,
    say_next,
    store_option,
    store_words,
    warn,
)

if TYPE_CHECKING:
    from encode_once.cache.maintenance import Change, Dropped


@click.group(cls=Verbs)
def store() -> None:
    """Inspect, verify and maintain a store."""


def print_changes(changes: "Sequence[Change]", what: str, as_json: bool) -> None:
    """Print how many rows of each feature were changed, and by how many bytes."""
    for change in changes:
        say(f"{change.feature}: {change.rows} rows {what}, {change.nbytes:+,} bytes")
    if as_json:
        print_json([change.as_json() for change in changes])


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
    names = [record["feature"] for record in content["features"]]
    say_next(
        *(["store", "info", names[0]] if names else ["extract", "--encoder", "glove-50"]), *store_words(store)
    )


@store.command()
@click.argument("feature", type=StoredFeatureName())
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
    say_next("store", "verify", feature, *store_words(store))


@store.command()
@features_argument
@store_option
@json_option
def compact(features: Sequence[str], store: str, as_json: bool) -> None:
    """Rewrite each feature as one part, in the order of the tables, so that fit can map it.

    \b
    Example:
      encode-once store compact
    """
    from encode_once.cache import maintenance

    changes = maintenance.compact(existing_store(store), features)
    print_changes(changes, "dropped (stored twice)", as_json)
    say_next("store", "verify", *store_words(store))


@store.command()
@features_argument
@store_option
@click.option("--delete", is_flag=True, help="Delete them; without it they are only counted.")
@json_option
def gc(features: Sequence[str], store: str, delete: bool, as_json: bool) -> None:
    """Drop the rows whose images or captions are in no table any more.

    `store forget` removes a table.

    \b
    Examples:
      encode-once store gc
      encode-once store gc --delete
    """
    from encode_once.cache import maintenance

    changes = maintenance.drop_unreferenced(existing_store(store), features, delete=delete)
    print_changes(changes, "dropped" if delete else "are in no table", as_json)
    counted = not delete and any(change.rows for change in changes)
    say_next("store", *(["gc", *features, "--delete"] if counted else ["compact"]), *store_words(store))


@store.command()
@click.argument("features", nargs=-1, required=True, metavar="FEATURE...", type=StoredFeatureName())
@store_option
@json_option
def drop(features: Sequence[str], store: str, as_json: bool) -> None:
    """Delete features with all their vectors, and report what was deleted.

    Runs that were fitted on them can no longer predict without encoding again.

    \b
    Example:
      encode-once store drop clip-vit-l/image
    """
    from encode_once.cache import maintenance

    opened = existing_store(store)
    for name in features:
        opened.folder(name)  # raises for an unknown name before anything is deleted
    _drop(dict.fromkeys(features), partial(maintenance.drop_feature, opened), as_json)
    say_next("store", "list", *store_words(store))


@store.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=TableName())
@store_option
@json_option
def forget(tables: Sequence[str], store: str, as_json: bool) -> None:
    """Remove tables from the store; the data and the vectors of their rows stay.

    TABLE is a name that `store list` prints, or the path of the file that the table was read from.

    \b
    Example:
      encode-once store forget photos-train-1f2e3d4c
    """
    from encode_once.cache import maintenance

    opened = existing_store(store)
    names = [maintenance.table_file(opened, name).stem for name in tables]  # raises before any is deleted
    _drop(dict.fromkeys(names), partial(maintenance.forget_table, opened), as_json)
    say_next("store", "gc", *store_words(store))


def _drop(names: Iterable[str], drop_one: "Callable[[str], Dropped]", as_json: bool) -> None:
    """Delete one after the other; each is reported at once, as the next may fail."""
    dropped = []
    for name in names:
        record = drop_one(name)
        say(f"{record.name}: deleted, with {record.rows:,} rows, {record.nbytes:,} bytes")
        dropped.append(record)
    if as_json:
        print_json([record.as_json() for record in dropped])


@store.command()
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@store_option
@json_option
def merge(others: Sequence[str], store: str, as_json: bool) -> None:
    """Add the rows and tables of other stores, such as those filled by `extract --shard` on other machines.

    Nothing of this store is replaced. Damaged files and symbolic links are left out, with exit
    status 1.

    \b
    Example:
      encode-once store merge from-node-2 from-node-3
    """
    from encode_once.cache import Store
    from encode_once.cache.merge import merge as add

    results = {}
    for other in others:
        result = results[other] = add(Store(store), existing_store(other))
        print_changes(result.changes, f"added from {other}", False)
        if result.files:
            say(
                f"index of files: {result.files:,} added; extract reads none of them while they are unchanged"
            )
        warn(result.notes)
        for line in result.refused:
            alert(f"not added: {line}")
    if as_json:
        content = [{"store": other, **result.as_json()} for other, result in results.items()]
        print_json(content)
    if refused := sum(len(result.refused) for result in results.values()):
        raise StoreError(f"{refused} files were not added (see above); all others are in {store}")
    say_next("store", "compact", *store_words(store))


@store.command()
@click.argument("features", nargs=-1, required=True, metavar="FEATURE...", type=StoredFeatureName())
@store_option
@click.option("--to", "kind", required=True, metavar="FORMAT",
              help="npy, parquet, safetensors, lance or clip-retrieval.")  # fmt: skip
@output_option(help="By default named as the feature.")
@click.option(
    "--table",
    type=TableName(),
    help="Whose rows to write, by the name in `store list`; by default the only one.",
)
@json_option
def export(
    features: Sequence[str], store: str, kind: str, output: Path | None, table: str | None, as_json: bool
) -> None:
    """Write a feature to a file other programs read, a row for each row of a table.

    clip-retrieval, a folder, takes a feature of images, one of captions, or one of each. It and lance, a
    folder as well, replace nothing.

    \b
    Examples:
      encode-once store export clip-vit-l/image --to parquet
      encode-once store export glove-50/mean --to npy -o captions.npy
      encode-once store export clip-vit-l/image clip-vit-l/text --to clip-retrieval -o embeddings
    """
    from encode_once.cache import clip_retrieval
    from encode_once.cache import export as exports

    if kind != clip_retrieval.KIND:
        exports.check_kind(kind)
        if len(features) > 1:
            raise UsageError(f"--to {kind} takes one feature, not {len(features)}")
    opened = existing_store(store)
    of_store, rows_of = [opened.feature(name) for name in dict.fromkeys(features)], opened.table(table)
    output = output or Path(f"{features[0].replace('/', '-')}.{kind}")
    if kind == clip_retrieval.KIND:
        pairs = clip_retrieval.select_pairs(of_store, rows_of)
        clip_retrieval.write(pairs, output)
        rows, without = len(pairs.places), pairs.without
    else:
        selection = exports.select(of_store[0], rows_of)
        exports.export(selection, kind, output)
        rows, without = len(selection.rows), selection.without
    say(f"{output}: {rows} rows")
    if without:
        warn([f"{without} of {len(rows_of)} rows of {rows_of.source} have no vector and are left out"])
    if as_json:
        content = {
            "feature": features[0],
            "features": [*features],
            "output": str(output),
            "rows": rows,
            "rows_without_vector": without,
        }
        print_json(content)
    say_next("store", "info", features[0], *store_words(store))
