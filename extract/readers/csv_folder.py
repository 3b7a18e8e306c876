"""The plain data folder: `train.csv`, `test.csv` or both, and the images in `data/` or `images/`.

Columns are `ImageID`, `Labels` (required only in `train.csv`), `Caption`, and `Caption2`, `Caption 3` … for
further captions; see `csv_grammar` for the syntax. Ids are names of image files, with or without suffix.
"""

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.columns import ReadOptions
from encode_once.extract.readers.csv_grammar import (
    REMEDY,
    CsvRecord,
    Fault,
    UnescapedReader,
    read_csv,
    read_lines,
)
from encode_once.extract.readers.samples import RawSplit, tables

ABOUT = (
    "a data folder contains train.csv (ImageID,Labels,Caption), test.csv (ImageID,Caption) or both, "
    "and the images in data/ or images/"
)
SPLITS = ("train", "test")
CAPTION = re.compile(r"caption ?\d*")  # matched against casefolded names


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether one of the tables exists and the user named no columns."""
    return not options.columns.named and any(_exists(data / f"{split}.csv") for split in SPLITS)


def _exists(path: Path) -> bool:
    """Whether there is something other than a folder; a broken link counts, so that it is reported."""
    return os.path.lexists(path) and not path.is_dir()


def read(data: Path, options: ReadOptions) -> tuple[dict[str, Table], list[str]]:
    """Return the tables "train" and "test", and a warning for each kind of problem.

    `train.csv` determines the label separator of both. Without an image folder the tables have only captions.

    Raises:
        DataError: a table cannot be read, or none of its rows has an image.
    """
    folders = (data / name for name in ("data", "images"))
    root = options.images or next((folder for folder in folders if folder.is_dir()), None)
    parts = []
    for split in SPLITS:
        path = data / f"{split}.csv"
        if _exists(path):
            required = ("ImageID", "Labels") if split == "train" else ("ImageID",)
            parts.append(read_samples(path, required, root))
    return tables(parts, options.label_separator)


def read_samples(path: Path, required: Sequence[str], root: Path | None) -> RawSplit:
    """Read a table whose images are in `root`."""
    (header, *records), columns, warnings = _read_records(path, required)
    lines = [record.line for record in records]
    names = [name.strip() for name in header.fields]
    cells = {key: [record.fields[i] for record in records] for key, i in columns.items()}
    captions = sorted(filter(CAPTION.fullmatch, cells), key=lambda key: int(key.removeprefix("caption") or 1))
    used = {"imageid", "labels", *captions}
    return RawSplit(
        files=[path],
        split=path.stem,
        where=lambda row: f"{path}:{lines[row]}",
        ids=cells["imageid"],
        captions=list(zip(*map(cells.get, captions), strict=True)) if captions else None,
        labels=cells.get("labels"),
        root=root,
        id_column=names[columns["imageid"]],
        columns={names[i]: cells[key] for key, i in columns.items() if key not in used},
        warnings=warnings,
    )


def _read_records(path: Path, required: Sequence[str]) -> tuple[list[CsvRecord], dict[str, int], list[str]]:
    """Return all records, header first; casefolded column name → index; and the warnings."""
    lines = read_lines(path)
    records, fault = read_csv(lines)
    if not records:
        problem = f"the header cannot be read: {fault.reason}" if fault else "the table is empty"
        raise DataError(f"{path}:1: {problem}; {ABOUT}")
    header = records[0]
    columns = _columns(path, header, required)
    warnings: list[str] = []
    if fault:
        if columns.get("caption") != len(header.fields) - 1:
            raise DataError(
                f"{path}:{fault.line}: not well-formed CSV ({fault.reason}), and unescaped quotes "
                f"can be read only where Caption is the last column; {REMEDY}"
            )
        records = [header, *UnescapedReader(path, lines, len(header.fields), fault).read(header.line)]
        warnings.append(_unescaped_warning(path, fault, records))
    if len(records) == 1:
        raise DataError(f"{path}:{header.line}: the table has a header and no rows; {ABOUT}")
    return records, columns, warnings


def _unescaped_warning(path: Path, fault: Fault, records: list[CsvRecord]) -> str:
    warning = (
        f"{path}:{fault.line}: not well-formed CSV ({fault.reason}); "
        "quotes inside captions were read literally, including doubled quotes"
    )
    split = [record.line for record in records if re.search(r"[\r\n]", record.fields[-1])]
    if split:
        warning += f"; captions over several lines: {len(split)} (first: {path}:{split[0]})"
    return warning


def _columns(path: Path, header: CsvRecord, required: Sequence[str]) -> dict[str, int]:
    """Casefolded column name → index."""
    names = [name.strip().casefold() for name in header.fields]
    shown = textwrap.shorten(",".join(header.fields), 200)
    missing = [name for name in required if name.casefold() not in names]
    if missing:
        raise DataError(
            f"{path}:{header.line}: no column {' and no column '.join(missing)} in the header '{shown}'; "
            f"expected {','.join(required)} and, for text, Caption, separated by commas"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path}:{header.line}: two columns share a name in '{shown}'; rename one of them")
    return {name: i for i, name in enumerate(names)}
