"""Read the user's data from any supported container; the same samples give the same tables.

A container is a module in CONTAINERS with `ABOUT` (its layout in a line), `recognises(data, options)` and
`read(data, options)`, which returns raw tables (see `raw`); `meaning` decides what their columns mean.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.cache.input_files import check_regular
from encode_once.cache.table import Table
from encode_once.extract.readers import captioned_folder, coco, hf_datasets, table, webdataset
from encode_once.extract.readers.columns import Columns, ReadOptions
from encode_once.extract.readers.errors import BadRows, file_errors
from encode_once.extract.readers.image_lookup import ImageFinder, ImageFolder
from encode_once.extract.readers.meaning import understood
from encode_once.extract.readers.raw import RawTable
from encode_once.extract.readers.samples import tables
from encode_once.extract.readers.unused import unused_files

__all__ = ["CONTAINERS", "Columns", "accepted", "read"]

CONTAINERS: tuple[ModuleType, ...] = (
    table,
    coco,
    captioned_folder,
    webdataset,
    hf_datasets,
)


def read(
    data: str | os.PathLike[str],
    *,
    columns: Columns | None = None,
    images: str | os.PathLike[str] | Sequence[str] | None = None,
    label_separator: str | None = None,
    skip_bad_rows: bool = False,
) -> tuple[dict[str, Table], list[str]]:
    """Read the tables of the data: split name → table, and a warning for each kind of problem.

    Args:
        data: a folder or file of one of the containers.
        columns: names of a table's columns; by default they are guessed.
        images: the folder of the images, or several, each as `DIR` or `SPLIT=DIR`; by default images are
            looked for in the data folder.
        label_separator: between the labels of a row; by default it is inferred from the labels.
        skip_bad_rows: leave out rows that cannot be read, with a warning; by default they are an error.

    Raises:
        MissingDataError: the path does not exist, or holds none of the containers.
        DataError: several containers match, or the data cannot be read.
    """
    data = Path(data)
    if not data.exists():
        raise MissingDataError(f"{data}: no such file or folder; {accepted()}")
    bad_rows = BadRows(skip_bad_rows)
    texts = [images] if isinstance(images, str | os.PathLike) else images or ()
    folders = tuple(ImageFolder.parse(os.fspath(text)) for text in texts)
    options = ReadOptions(columns or Columns(), folders, label_separator, bad_rows)
    with file_errors(data):
        if not data.is_dir():
            check_regular(data)
        raw = _container(data, options).read(data, options)
        rows = [understood(part, options) for part in raw]
        result, warnings = tables(rows, label_separator, ImageFinder(_root(data, raw), folders))
    unused = [line for part in raw for line in part.unused] + unused_files(data, raw)
    return result, warnings + bad_rows.warnings + [f"not used: {line}" for line in unused]


def _root(data: Path, tables: Sequence[RawTable]) -> Path:
    """The folder whose images may be used: annotations may be in a folder next to that of the images."""
    folders = [data if data.is_dir() else data.parent, *(path for table in tables for path in table.folders)]
    return Path(os.path.commonpath([path.absolute() for path in folders]))


def _container(data: Path, options: ReadOptions) -> ModuleType:
    """The container that the data is in.

    Raises:
        MissingDataError: none. DataError: several.
    """
    matches = [container for container in CONTAINERS if container.recognises(data, options)]
    if not matches:
        raise MissingDataError(f"{data}: contains neither train.csv nor any other input; {accepted()}")
    if len(matches) > 1:  # images may lie next to a table that names them
        matches = [container for container in matches if container is not captioned_folder]
    if len(matches) > 1 and not (table in matches and table.has_precedence(data, options)):
        layouts = "; or ".join(container.ABOUT for container in matches)
        raise DataError(
            f"{data} can be read in {len(matches)} ways ({layouts}): give the path of a single file, "
            "or move the others"
        )
    return matches[0]


def accepted() -> str:
    """The accepted kinds of data, in one line."""
    return "accepted are: " + "; ".join(container.ABOUT for container in CONTAINERS)
