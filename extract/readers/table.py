"""Tables in CSV, TSV, JSON lines or parquet files, with columns named by the user or guessed.

A file is a split, as are several files whose names differ in a suffix such as `-00000-of-00002`; a folder (or
its `data/`) may contain several splits. A column names the images relative to the table's folder, to
`images/` or `data/` next to it, or to --images; without such a column the ids are their names. A parquet file
may also contain the images.
"""

import bisect
import re
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, TypeVar

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.columns import ReadOptions, roles
from encode_once.extract.readers.errors import BadRows
from encode_once.extract.readers.image_lookup import Folder, folder_with
from encode_once.extract.readers.samples import RawSplit, captions_of, labels_of, tables, text_of
from encode_once.extract.readers.table_files import OPENERS, TableFile, open_table

ABOUT = (
    "a .csv, .tsv, .jsonl or .parquet file, or a folder of such files, one per split, with columns such as "
    "image, caption, labels (or named by --image-column, --caption-column, --label-column, --id-column)"
)
SHARD = re.compile(r"(.+?)[-_.]\d+(-of-\d+)?")
Cell = TypeVar("Cell")
USUAL_SPLITS = ("train", "val", "valid", "validation", "dev", "test")


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether there are such files; `train.csv` and `test.csv` belong to a plain data folder instead."""
    files = _files(data)
    if options.columns.named or data.is_file():
        return bool(files)
    csv = [path for path in files if path.suffix.lower() == ".csv"]
    return bool(files) and not any(path.stem in ("train", "test") and path.parent == data for path in csv)


def _files(data: Path) -> list[Path]:
    """The table files: `data` itself, or those in the folder `data`, or in its `data/`."""
    if data.is_file():
        return [data] if data.suffix.lower() in OPENERS else []
    for folder in (data, data / "data"):
        names = Folder.listed(folder).files
        table_names = sorted(name for name in names if Path(name).suffix.lower() in OPENERS)
        if table_names:
            return [folder / name for name in table_names]
    return []


def read(data: Path, options: ReadOptions) -> tuple[dict[str, Table], list[str]]:
    """Return file name → table, and a warning for each kind of problem.

    If a file has a usual name of a split, files with other names are ignored, with a warning.
    """
    splits: dict[str, list[Path]] = {}
    for path in _files(data):
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault(shard[1] if shard else path.stem, []).append(path)
    usual = {split: paths for split, paths in splits.items() if split.lower() in USUAL_SPLITS}
    ignored = [str(path) for split in splits.keys() - usual.keys() for path in splits[split]] if usual else []
    base = data if data.is_dir() else data.parent
    parts = [
        samples_of(split, [open_table(path, options.bad_rows) for path in paths], base, options)
        for split, paths in (usual or splits).items()
    ]
    result, warnings = tables(parts, options.label_separator)
    if ignored:
        warnings.append(
            f"not read, because their names are not names of splits: {', '.join(sorted(ignored))}"
        )
    return result, warnings


class _Rows:
    """The rows of all files of a split."""

    def __init__(self, files: Sequence[TableFile], bad_rows: BadRows) -> None:
        self._files, self._bad_rows = files, bad_rows
        self._ends = list(accumulate(file.rows for file in files))
        self.number = self._ends[-1]
        self.bad: set[int] = set()  # rows with a cell that its column does not allow

    def where(self, row: int) -> str:
        """A row's position, for messages."""
        file = bisect.bisect_right(self._ends, row)
        return self._files[file].where(row - (self._ends[file - 1] if file else 0))

    def column(self, name: str, convert: Callable[[Any], Cell]) -> list[Cell]:
        """The cells of a column, converted; those of bad rows as if they were empty.

        Raises:
            DataError: a row is bad, and bad rows are not left out.
        """
        converted = []
        for row, cell in enumerate(chain.from_iterable(file.cells(name) for file in self._files)):
            try:
                converted.append(convert(cell))
            except DataError as error:
                if row not in self.bad:
                    self._bad_rows.add(DataError(f"{self.where(row)}: the column {name!r} {error}"))
                self.bad.add(row)
                converted.append(convert(None))
        return converted


def samples_of(split: str, files: Sequence[TableFile], base: Path, options: ReadOptions) -> RawSplit:
    """The rows of all files of a split; images are in the files or relative to the folder `base`."""
    first = files[0]
    for file in files:
        if sorted(file.names) != sorted(first.names):
            raise DataError(
                f"{file.path}: its columns differ from those of {first.path}; give them the same names"
            )
    rows = _Rows(files, options.bad_rows)
    if not rows.number:
        raise DataError(f"{first.path}: the table has no rows")
    role = roles(first.path, first.names, first.embedded, options.columns)
    embedded = role.image in first.embedded
    names = rows.column(role.image, text_of) if role.image else None
    if role.id:
        ids = rows.column(role.id, text_of)
    elif embedded:
        ids = _file_names([name for file in files for name in file.image_names(str(role.image))])
    else:
        ids = names or list(map(str, range(rows.number)))
    used = {role.id, role.image, role.label, *role.captions}
    captions = [rows.column(name, captions_of) for name in role.captions]
    part = RawSplit(
        files=[file.path for file in files],
        split=split,
        where=rows.where,
        ids=ids,
        captions=[sum(cells, ()) for cells in zip(*captions, strict=True)] if captions else None,
        labels=rows.column(role.label, labels_of) if role.label else None,
        id_column=role.id or (role.image if not embedded and role.image else "ImageID"),
        columns={name: rows.column(name, text_of) for name in first.plain if name not in used},
    )
    if embedded:
        part.images = names
    elif role.image or role.id:
        part.names, part.outside = names, bool(names)
        subfolders = [base / "images", base / "data"]
        folders = [options.images] if options.images else [base, *subfolders]
        subfolder = next((folder for folder in subfolders if folder.is_dir()), None)
        default = options.images or (base if names else subfolder)
        part.root = folder_with(names or ids, folders, rows.where) or default
    return part.without(rows.bad) if rows.bad else part


def _file_names(paths: Sequence[object]) -> list[str]:
    """Ids of embedded images: their file names if complete and unique, else row numbers."""
    names = [Path(path).name for path in paths if path and isinstance(path, str)]
    return names if len(set(names)) == len(paths) else list(map(str, range(len(paths))))
