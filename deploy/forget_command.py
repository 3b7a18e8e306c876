"""The command `forget`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encode_once.cache import DataError, UsageError
from encode_once.cache.options import (
    TableName,
    existing_store,
    json_option,
    output_option,
    print_json,
    say,
    say_next,
    store_option,
    store_words,
    verb,
    warn,
)

if TYPE_CHECKING:
    from encode_once.cache.removal import EqualImages


@verb()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--file", "listed", metavar="LIST", help="A file with an id in each line.",
              type=click.Path(path_type=Path, dir_okay=False))  # fmt: skip
@click.option("--table", "tables", multiple=True, metavar="NAME", type=TableName(),
              help="Table in which the ids are meant; repeatable. [default: all]")  # fmt: skip
@click.option("--all-tables", is_flag=True, help="Ids that are different rows in several tables mean all.")
@click.option("--equal-images", type=click.Choice(["forget", "keep"]),
              help="Rows that are not named but have the same image. [default: refuse]")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@store_option
@output_option(help="Write the ids and keys, for store verify --absent-file.")
@json_option
def forget(
    ids: Sequence[str],
    listed: Path | None,
    tables: Sequence[str],
    all_tables: bool,
    equal_images: "EqualImages | None",
    runs: Path,
    store: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Remove images and captions of rows from the store and from what runs keep.

    Removed are rows of tables, vectors, failures, paths in the index, and rows of a run's scores, labels and
    predictions, whose figures are computed again. Vectors of captions that other rows have, too, stay. Models
    that were fitted on a row stay as they are: they are named, with the command that fits them again. An ID
    that is a different row in several tables is refused without --table or --all-tables. The path of an
    image, or a key in hexadecimal, is an ID, too, as is the name of a file that only `predict` has seen.

    At the end all files of the store and the runs are searched. What still names a row, such as the page of
    an audit, is named, and the exit status is 1. Your data, and files elsewhere, are yours to delete. After a
    kill, run the same command again. -o is written first.

    \b
    Examples:
      encode-once forget 17.jpg
      encode-once forget --file requests.txt --equal-images forget -o forgotten.txt
    """
    from encode_once.deploy import forget as forgetting

    names = [*dict.fromkeys([*ids, *(forgetting.read_list(listed) if listed else ())])]
    if not names:
        raise UsageError("name the rows to forget, or --file LIST")
    if tables and all_tables:
        raise UsageError("--table and --all-tables exclude each other")
    result = forgetting.forget(
        existing_store(store),
        runs,
        names,
        equal_images,
        tables=tables,
        all_tables=all_tables,
        output=output,
    )
    for line in forgetting.lines(result):
        say(line)
    warn(forgetting.warnings(result))
    if as_json:
        print_json(result)
    if result["left"]:
        raise DataError(forgetting.advice(result))
    words = [word for name in result["absent"][:3] for word in ("--absent", name)]
    if output:
        words = ["--absent-file", str(output)]
    say_next("store", "verify", *words, *store_words(store))
