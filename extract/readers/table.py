"""Tables in files of their own: CSV, TSV, JSON lines or parquet, their columns named or guessed.

A file is one split, or several files whose names differ in `-00000-of-00002`; in a folder (or its `data/`)
there may be several splits. Images are named by a column, relative to the table's folder, to `images/` or
`data/` beside it, or to --images; without such a column ids name them. Or a parquet file holds them itself.
"""

import bisect
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.columns import roles
from encode_once.extract.readers.image_lookup import Folder, folder_with
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import Samples, captions_of, labels_of, tables, text_of
from encode_once.extract.readers.table_files import OPENERS, TableFile, open_table

ABOUT = (
    "a .csv, .tsv, .jsonl or .parquet file, or a folder of such, one a split, with columns such as "
    "image, caption, labels (or as --image-column, --caption-column, --label-column, --id-column say)"
)
SHARD = re.compile(r"(.+?)[-_.]\d+(-of-\d+)?")
USUAL_SPLITS = ("train", "val", "valid", "validation", "dev", "test")


def recognises(data: Path, options: Options) -> bool:
    """Whether there are such files; `train.csv` and `test.csv` alone are a plain data folder."""
    files = _files(data)
    if options.columns.named or data.is_file():
        return bool(files)
    csv = [path for path in files if path.suffix.lower() == ".csv"]
    return bool(files) and not any(path.stem in ("train", "test") and path.parent == data for path in csv)


def _files(data: Path) -> list[Path]:
    """The files of tables: the one given, or those in the folder, or else in its `data/`."""
    if data.is_file():
        return [data] if data.suffix.lower() in OPENERS else []
    for folder in (data, data / "data"):
        names = Folder.listed(folder).files
        if found := sorted(name for name in names if Path(name).suffix.lower() in OPENERS):
            return [folder / name for name in found]
    return []


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The tables by the files' names, and a line for each kind of oddity.

    Where a file has a usual split's name, files of other names are left out, and named in a warning.
    """
    splits: dict[str, list[Path]] = {}
    for path in _files(data):
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault(shard[1] if shard else path.stem, []).append(path)
    usual = {split: paths for split, paths in splits.items() if split.lower() in USUAL_SPLITS}
    left_out = (
        [str(path) for split in splits.keys() - usual.keys() for path in splits[split]] if usual else []
    )
    base = data if data.is_dir() else data.parent
    parts = [
        samples_of(split, [open_table(path) for path in paths], base, options)
        for split, paths in (usual or splits).items()
    ]
    found, warnings = tables(parts, options.label_separator)
    if left_out:
        warnings.append(f"not read, as their names are no split's: {', '.join(sorted(left_out))}")
    return found, warnings


def samples_of(split: str, files: Sequence[TableFile], base: Path, options: Options) -> Samples:
    """The rows of all files of a split, whose images lie in the files or near the folder `base`."""
    first = files[0]
    for file in files:
        if sorted(file.names) != sorted(first.names):
            raise DataError(f"{file.path}: other columns than in {first.path}; give them the same names")
    ends = list(accumulate(file.rows for file in files))
    if not ends[-1]:
        raise DataError(f"{first.path}: the table has no rows")

    def where(row: int) -> str:
        file = bisect.bisect_right(ends, row)
        return files[file].where(row - (ends[file - 1] if file else 0))

    def column(name: str) -> list[Any]:
        return [cell for file in files for cell in file.column(name)]

    found = roles(first.path, first.names, first.embedded, options.columns)
    held = found.image in first.embedded
    names = [text_of(cell) for cell in column(found.image)] if found.image else None
    if found.id:
        ids = [text_of(cell) for cell in column(found.id)]
    elif held:
        ids = _file_names([name for file in files for name in file.embedded[str(found.image)]()])
    else:
        ids = names or list(map(str, range(ends[-1])))
    used = {found.id, found.image, found.label, *found.captions}
    captions = [[captions_of(cell) for cell in column(name)] for name in found.captions]
    part = Samples(
        files=[file.path for file in files],
        split=split,
        where=where,
        ids=ids,
        captions=[sum(cells, ()) for cells in zip(*captions, strict=True)] if captions else None,
        labels=[labels_of(cell) for cell in column(found.label)] if found.label else None,
        id_column=found.id or (found.image if not held and found.image else "ImageID"),
        columns={name: [text_of(cell) for cell in column(name)] for name in first.plain if name not in used},
    )
    if held:
        part.images = names
    elif found.image or found.id:
        part.names, part.outside = names, bool(names)
        beside = [base, base / "images", base / "data"]
        folders = [options.images] if options.images else beside
        there = next((folder for folder in beside[1:] if folder.is_dir()), None)
        must = options.images or (base if names else there)
        part.root = folder_with(names or ids, folders, where) or must
    return part


def _file_names(paths: Sequence[str | None]) -> list[str]:
    """Ids of images that have no other: the files' names they had, where these are all there and differ."""
    names = [Path(path).name for path in paths if path]
    return names if len(set(names)) == len(paths) else list(map(str, range(len(paths))))
