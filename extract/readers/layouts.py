"""Which layout the data has, and its raw tables; folders of splits may have any layout each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.extract.readers import (
    captioned_folder,
    class_folders,
    coco,
    hf_datasets,
    image_lists,
    img2dataset,
    json_files,
    table,
    voc,
    webdataset,
    yolo,
)
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.image_search import SPLIT_NAMES
from encode_once.extract.readers.nearest import nearest_layout
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable

CONTAINERS: tuple[ModuleType, ...] = (
    table,
    coco,
    webdataset,
    hf_datasets,
    img2dataset,
    voc,
    yolo,
    json_files,
    image_lists,
    class_folders,
    captioned_folder,
)
NAMES = {
    table: "tables (.csv, .jsonl, …)",
    coco: "COCO's JSON",
    webdataset: "WebDataset's .tar archives",
    hf_datasets: "a saved Hugging Face dataset",
    voc: "Pascal VOC",
    yolo: "YOLO's labels",
}
# Their labels are certain. A table next to them may be of anything, unless it is that of a split.
ANNOTATIONS: tuple[ModuleType, ...] = (coco, voc, yolo)
# Recognised by what may also lie next to data of another layout, which then is read.
WEAK: tuple[ModuleType, ...] = (json_files, image_lists, class_folders, captioned_folder)


def read_raw(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split.

    Raises:
        MissingDataError: the data has no known layout; the message says what it most looks like.
        DataError: it has several, or cannot be read.
    """
    container = _container(data, options)
    if container is captioned_folder and (inner := captioned_folder.image_folder(data)) != data and inner:
        data = inner
        container = _container(inner, options)  # which may have a table, or be that of a split
        if inner.name.lower() in SPLIT_NAMES and container is not captioned_folder:
            return [*_of_split(inner, options)]
    if container:
        return _read(container, data, options)
    tables = [part for folder in _split_folders(data) for part in _of_split(folder, options)]
    if not tables:
        raise MissingDataError(nearest_layout(data))
    return tables


def _read(container: ModuleType, data: Path, options: ParsedOptions) -> list[RawTable]:
    tables: list[RawTable] = container.read(data, options)
    if container in ANNOTATIONS and (files := table.table_files(data)):
        tables[0].warnings.append(
            f"{data}: read as {NAMES[container]}, and not by its tables; --data {files[0]} reads that one"
        )
    return tables


def _container(data: Path, options: ParsedOptions) -> ModuleType | None:
    """The container that the data is in; None if there is none.

    Raises:
        DataError: there are several.
    """
    matches = [container for container in CONTAINERS if container.recognises(data, options)]
    for container in matches:
        if getattr(container, "has_precedence", lambda *_: False)(data, options):
            return container
    strong = [container for container in matches if container not in WEAK]
    if len(strong) == 2 and strong[0] is table and strong[1] in ANNOTATIONS and not table.has_splits(data):
        return strong[1]
    if len(strong) > 1:
        layouts = " or ".join(NAMES.get(container, container.ABOUT) for container in strong)
        raise DataError(
            f"{data} can be read in {len(strong)} ways, as {layouts}: give the path of a single file, "
            "or move the others"
        )
    return next(iter([*strong, *matches]), None)


def _split_folders(data: Path) -> list[Path]:
    """The folders with the name of a split, such as train/ and valid/."""
    if not data.is_dir():
        return []
    return [data / name for name in sorted(Folder.listed(data).folders) if name.lower() in SPLIT_NAMES]


def _of_split(folder: Path, options: ParsedOptions) -> Sequence[RawTable]:
    """The table in the folder of a split, called after the folder; none if the folder has no known layout.

    Raises:
        DataError: it has several tables.
    """
    container = _container(folder, options)
    if container is None:
        return []
    tables = _read(container, folder, options)
    if len(tables) > 1:
        names = ", ".join(part.split for part in tables)
        raise DataError(f"{folder} has {len(tables)} tables ({names}): name one with --data")
    return [replace(tables[0], split=folder.name)]
