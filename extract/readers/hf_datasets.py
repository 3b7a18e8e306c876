"""A folder that `save_to_disk` of Hugging Face's `datasets` wrote: arrow files, and JSON that says which."""

import json
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import tables
from encode_once.extract.readers.table import samples_of
from encode_once.extract.readers.table_files import open_arrow

ABOUT = "a folder written by save_to_disk of Hugging Face datasets (dataset_dict.json or state.json)"


def recognises(data: Path, options: Options) -> bool:
    """Whether one of the two files is there."""
    return any((data / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The tables by the datasets' splits, and a line for each kind of oddity; columns as in `tabular`.

    A dataset that is no part of a dictionary is called what its `state.json` says, else "train".
    """
    if (data / "dataset_dict.json").is_file():
        folders = {split: data / split for split in _parsed(data / "dataset_dict.json", "splits")}
    else:
        folders = {_parsed(data / "state.json", "_split") or "train": data}
    parts = []
    for split, folder in folders.items():
        paths = [folder / one["filename"] for one in _parsed(folder / "state.json", "_data_files")]
        if not paths:
            raise DataError(f"{folder}: the dataset has no rows")
        parts.append(samples_of(split, list(map(open_arrow, paths)), data, options))
    return tables(parts, options.label_separator)


def _parsed(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not as save_to_disk writes it ({error!r}); write the dataset again"
        ) from error
