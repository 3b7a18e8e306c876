"""Reading the user's data, whatever container it comes in: the same samples give the same tables.

A container is a module with `ABOUT` (what it looks like, in a line), `recognises(data, options)` and
`read(data, options)`, and a line below.
"""

import os
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.cache.table import Table
from encode_once.extract.readers import captioned_folder as captioned_images
from encode_once.extract.readers import coco, csv_folder, hf_datasets, webdataset
from encode_once.extract.readers import table as tabular
from encode_once.extract.readers.options import Columns, Options

__all__ = ["CONTAINERS", "Columns", "accepted", "read"]

CONTAINERS: tuple[ModuleType, ...] = (
    csv_folder,
    coco,
    tabular,
    captioned_images,
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
    """The tables of the data, by what it calls its splits, and a line for each kind of oddity.

    Args:
        data: a folder or file of one of the containers.
        columns: names of a table's columns, where they are not to be guessed.
        images: the folder of the images, where they are not beside the table.
        label_separator: between the labels of a row, where they are one text and it leaves doubt.

    Raises:
        MissingDataError: there is nothing.
        DataError: no container looks like that, or several do, or it cannot be read; no row is ever dropped.
    """
    data = Path(data)
    if not data.exists():
        raise MissingDataError(f"{data}: there is nothing; {accepted()}")
    options = Options(columns or Columns(), Path(images) if images else None, label_separator)
    fitting = [container for container in CONTAINERS if container.recognises(data, options)]
    if not fitting:
        raise MissingDataError(f"{data}: neither train.csv nor any other input is there; {accepted()}")
    if len(fitting) > 1:  # images also lie beside tables that name them
        fitting = [container for container in fitting if container is not captioned_images]
    if len(fitting) > 1 and csv_folder not in fitting:  # train.csv says it, whatever else lies there
        may_be = "; or ".join(container.ABOUT for container in fitting)
        raise DataError(
            f"{data} may be read in {len(fitting)} ways ({may_be}): name the one file, or move it"
        )
    tables: dict[str, Table]
    warnings: list[str]
    tables, warnings = fitting[0].read(data, options)
    return tables, warnings


def accepted() -> str:
    """What may be given as data, in one line."""
    return "accepted are: " + "; ".join(container.ABOUT for container in CONTAINERS)
