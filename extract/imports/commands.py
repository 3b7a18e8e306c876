"""The command that imports vectors into a store."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from encode_once.cache import UsageError
from encode_once.cache.options import (
    TableName,
    existing_store,
    json_option,
    print_result,
    say_next,
    store_option,
    store_words,
    verb,
    warn,
)


@verb("import")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--data", help="Table of the rows, as for extract. [default: all tables of the store]")
@click.option("--table", type=TableName(), help="The table of the rows, by its name in `store list`.")
@click.option("--ids", type=click.Path(path_type=Path), metavar="FILE",
              help="Ids of the rows of a FILE, a line each.")  # fmt: skip
@click.option("--vector-column", "column", metavar="NAME", help="Column, array or part that has the vectors.")
@click.option("--labels", metavar="first:N|last:N", help="Columns of an ARFF file that are labels.")
@click.option("--append", is_flag=True, help="Add rows to the feature, whose vectors are by the same model.")
@store_option
@json_option
def import_vectors(
    name: str,
    files: Sequence[Path],
    data: str | None,
    table: str | None,
    ids: Path | None,
    column: str | None,
    labels: str | None,
    append: bool,
    store: str,
    as_json: bool,
) -> None:
    """Store vectors that were made elsewhere as the feature NAME/imported, without an encoder.

    FILE is .npy, .npz, .safetensors, .parquet, .arrow, .lance, .csv or .tsv with numbers, or a folder of
    clip-retrieval. Its rows are joined with those of the tables: by ids, or by the names of images. .arff
    (dense or sparse), .svm and .libsvm are tables with labels themselves; a name such as
    emotions-test.arff says the split.

    Printed is how many rows have a vector now, how many have none, and how many vectors belong to no row.

    \b
    Examples:
      encode-once store import ada vectors.parquet --data photos.csv
      encode-once store import emotions emotions-train.arff emotions-test.arff
    """
    from encode_once.cache import Store
    from encode_once.extract.imports import importing
    from encode_once.extract.imports.vector_files import read_vectors, with_ids

    if data is not None and table is not None:
        raise UsageError("--data reads a table, --table chooses one of the store: give one of them")
    if ids and len(files) > 1:
        raise UsageError("--ids is for one FILE: import the others with --append")
    read = [read_vectors(path, column, labels) for path in files]
    if ids:
        read = [with_ids(read[0], ids)]
    own = importing.tables_of(read)
    if own and (data is not None or table is not None):
        raise UsageError(f"{own[0].source} has rows and labels of its own: --data and --table do not apply")
    opened = Store(store) if own or data is not None else existing_store(store)
    tables = own or importing.tables_for(opened, data, table, warn)
    report = importing.import_vectors(opened, name, read, tables, append=append)
    for saved in own:
        opened.save(saved)
    warn(report.warnings)
    print_result(asdict(report), as_json, lambda: importing.text(report))
    say_next("fit", "--head", "linear", "--features", name, *store_words(store))
