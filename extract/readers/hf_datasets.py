"""A folder written by `save_to_disk` of Hugging Face's `datasets`: arrow files, listed in JSON files."""

from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import read_regular
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.json_text import parse
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable, concatenated
from encode_once.extract.readers.table_files import open_arrow

ABOUT = "a folder written by save_to_disk of Hugging Face datasets (dataset_dict.json or state.json)"

LISTINGS = ("dataset_dict.json", "state.json", "dataset_info.json")


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether one of the two files exists; what is no regular file counts, so that it is refused."""
    return any(
        (data / name).exists() and not (data / name).is_dir() for name in ("dataset_dict.json", "state.json")
    )


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split.

    The split of a dataset outside a DatasetDict is recorded in its `state.json`; by default it is "train".
    """
    if (data / "dataset_dict.json").exists():
        listing = data / "dataset_dict.json"
        with file_errors(listing):
            folders = {split: _inside(listing, split) for split in _parsed(listing, "splits")}
    else:
        folders = {str(_parsed(data / "state.json", "_split") or "train"): data}
    tables = []
    image_folders = [data, data / "data", data / "images"]
    for split, folder in folders.items():
        state = folder / "state.json"
        with file_errors(state):
            paths = [_inside(state, file["filename"]) for file in _parsed(state, "_data_files")]
        if not paths:
            raise DataError(f"{folder}: the dataset has no rows")
        tables.append(concatenated(split, list(map(open_arrow, paths)), image_folders))
        tables[-1].also_read += [path for path in data.iterdir() if path.name in LISTINGS]
    return tables


def _inside(listing: Path, name: str) -> Path:
    """The file or folder that is listed, next to the list.

    Raises:
        DataError: the name leads elsewhere.
    """
    if name == ".." or Path(name).name != name:
        raise DataError(f"{listing}: the name {name!r} leads out of the folder; save the dataset again")
    return listing.with_name(name)


def _parsed(path: Path, name: str) -> Any:
    try:
        return parse(read_regular(path))[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not in the format of save_to_disk ({brief(repr(error))}); save the dataset again"
        ) from error
