"""Read the user's data from any supported container; the same samples give the same tables.

A container is a module in CONTAINERS with `ABOUT` (its layout in a line), `recognises(data, options)` and
`read(data, options)`.
"""

import os
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.cache.table import Table
from encode_once.extract.readers import captioned_folder, coco, csv_folder, hf_datasets, table, webdataset
from encode_once.extract.readers.columns import Columns, ReadOptions

__all__ = ["CONTAINERS", "Columns", "accepted", "read"]

CONTAINERS: tuple[ModuleType, ...] = (
    csv_folder,
    coco,
    table,
    captioned_folder,
    webdataset,
    hf_datasets,
)


def read(
    data: str | os.PathLike[str],
    *,
    columns: Columns | None = None,
    images: str | os.PathLike[str] | None = None,
    label_separator: str | None = None,
) -> tuple[dict[str, Table], list[str]]:
    """Read the tables of the data: split name → table, and a warning for each kind of problem.

    Args:
        data: a folder or file of one of the containers.
        columns: names of a table's columns; by default they are guessed.
        images: the folder of the images; by default it is searched next to the table.
        label_separator: between the labels of a row; by default it is inferred from the labels.

    Raises:
        MissingDataError: the path does not exist, or holds none of the containers.
        DataError: several containers match, or the data cannot be read. No row is ever dropped.
    """
    data = Path(data)
    if not data.exists():
        raise MissingDataError(f"{data}: no such file or folder; {accepted()}")
    options = ReadOptions(columns or Columns(), Path(images) if images else None, label_separator)
    matches = [container for container in CONTAINERS if container.recognises(data, options)]
    if not matches:
        raise MissingDataError(f"{data}: contains neither train.csv nor any other input; {accepted()}")
    if len(matches) > 1:  # images may lie next to a table that names them
        matches = [container for container in matches if container is not captioned_folder]
    if len(matches) > 1 and csv_folder not in matches:  # train.csv has precedence over all others
        layouts = "; or ".join(container.ABOUT for container in matches)
        raise DataError(
            f"{data} can be read in {len(matches)} ways ({layouts}): give the path of a single file, "
            "or move the others"
        )
    tables: dict[str, Table]
    warnings: list[str]
    tables, warnings = matches[0].read(data, options)
    return tables, warnings


def accepted() -> str:
    """The accepted kinds of data, in one line."""
    return "accepted are: " + "; ".join(container.ABOUT for container in CONTAINERS)
