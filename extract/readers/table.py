"""Table files in CSV, TSV, JSON lines or parquet: `train.csv` next to its images, or a file of any name.

A file is a split, as are several files that are shards of one, such as `train-00000-of-00002.parquet`; a
folder (or its `data/`) may contain several splits.
"""

import re
from pathlib import Path

from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.large_tables import is_large, large_table
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable, concatenated
from encode_once.extract.readers.split_files import USUAL_SPLITS, files_by_split, missing_shards
from encode_once.extract.readers.table_files import OPENERS, is_table, open_table

ABOUT = (
    "a .csv, .tsv, .jsonl, .json, .parquet or .xlsx file, or a folder with train.csv, val.csv, test.csv or "
    "other such files, one per split, with columns such as ImageID, Labels, Caption (or named by "
    "--image-column, --caption-column, --label-column, --id-column), and the images next to it, in data/ or "
    "in images/"
)
EXAMPLE = re.compile(r"sample_?submission", re.IGNORECASE)  # of what Kaggle is sent, with made-up labels
MOST_TEXTS = 20  # .txt files in a folder that may be tables
PLAIN_FOLDERS = ("data", "images")  # of images next to a table; others are looked for by `image_lookup`


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are such files."""
    return bool(table_files(data))


def has_precedence(data: Path, options: ParsedOptions) -> bool:
    """Whether it is the plain data folder, whatever else is in it."""
    return any(path.name.lower() in ("train.csv", "test.csv") for path in table_files(data))


def has_splits(data: Path) -> bool:
    """Whether tables are called as splits are, such as train.jsonl."""
    return any(split in USUAL_SPLITS for split in files_by_split(table_files(data), list(OPENERS)))


def table_files(data: Path) -> list[Path]:
    """The table files: `data` itself, or those in the folder `data`, or in its `data/`."""
    if not data.is_dir():
        return [data] if is_table(data) else []
    for folder in (data, data / "data"):
        names = Folder.listed(folder).files
        texts = [name for name in names if name.lower().endswith(".txt")]
        skipped = {*texts} if len(texts) > MOST_TEXTS else set()  # captions, which need not be opened
        candidates = (name for name in names if not name.startswith("._") and name not in skipped)
        table_names = sorted(name for name in candidates if is_table(folder / name))
        without_example = [name for name in table_names if not EXAMPLE.match(name)]
        if table_names:
            return [folder / name for name in without_example or table_names]
    return []


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split; see `split_files` for which files these are.

    Numbered files whose columns differ are no shards, but tables of their own, unless their names say "of".
    """
    base = data if data.is_dir() else data.parent
    folders = [base, *(base / name for name in PLAIN_FOLDERS)]
    tables = []
    for split, files in files_by_split(table_files(data), list(OPENERS)).items():
        if is_large(files):
            tables.append(large_table(split, files, folders, options.bad_rows))
            continue
        shards = [open_table(path, options.bad_rows) for path in files]
        if "-of-" not in files[0].name and any(
            {*shard.column_names} != {*shards[0].column_names} for shard in shards
        ):
            tables += [concatenated(shard.split, [shard], folders) for shard in shards]
            tables[-1].warnings.append(
                f"{files[0]} and {files[-1].name} have different columns: each is a table of its own"
            )
            continue
        table = concatenated(split, shards, folders)
        if missing := missing_shards(files):
            table.warnings.append(f"{files[0]}: {missing} other shards of this table are not there")
        tables.append(table)
    return tables
